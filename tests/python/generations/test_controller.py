"""containerd.services.sandbox.v1.Controller as it is today: a sandbox's life, its size, and what it refuses."""

import concurrent.futures
import time
import unittest

from google.protobuf.any_pb2 import Any
from grpc import StatusCode

from host import BOOT, TODAY, Case, WithSandbox
from theca_client import expect, pack, pb, unpack

MIB = 1 << 20


class Calls:
    """Short for every call but Create."""

    def ask(self, call, id, **fields):
        request = getattr(pb.sandbox, f"Controller{call}Request")(sandbox_id=id, **fields)
        return getattr(self.theca.controller, call)(request, timeout=BOOT)

    def create(self, id=None, **fields):
        id = id or self.name("s")
        self.theca.controller.Create(pb.sandbox.ControllerCreateRequest(sandbox_id=id, **fields))
        return id


@unittest.skipUnless(TODAY, "this form is today's")
class ASandbox(Calls, WithSandbox):
    """What may be asked of one that runs."""

    def test_it_is_ready_and_tells_where(self):
        again = self.ask("Start", self.sandbox)
        self.assertEqual((again.sandbox_id, again.version), (self.sandbox, 3))
        self.assertTrue(again.address.startswith("ttrpc+unix:///"), again.address)
        status = self.ask("Status", self.sandbox)
        self.assertEqual((status.sandbox_id, status.state, status.version), (self.sandbox, "SANDBOX_READY", 3))
        self.assertEqual((status.pid, status.address), (again.pid, again.address))
        self.assertEqual(status.created_at, again.created_at)
        self.assertFalse(status.HasField("exited_at"))
        self.assertEqual(dict(status.info), {})

    def test_a_verbose_status_has_facts(self):
        info = self.ask("Status", self.sandbox, verbose=True).info
        self.assertEqual((info["vcpus"], info["memory_mib"]), ("1", "256"))
        self.assertIn("kernel_release", info)

    def test_it_runs_linux(self):
        platform = self.ask("Platform", self.sandbox).platform
        self.assertEqual((platform.os, platform.architecture), ("linux", "amd64"))

    def test_its_metrics_are_a_cgroups(self):
        metrics = self.ask("Metrics", self.sandbox).metrics
        self.assertEqual(metrics.id, self.sandbox)
        self.assertEqual(metrics.data.type_url, "io.containerd.cgroups.v2.Metrics")
        self.assertGreater(metrics.timestamp.seconds, 0)
        counters = unpack(metrics.data, pb.cgroups.Metrics)
        cpu, memory = counters.cpu, counters.memory
        self.assertGreater(cpu.usage_usec, 0)
        self.assertEqual(memory.usage_limit, 256 * MIB)
        self.assertGreater(memory.usage, MIB)
        self.assertGreaterEqual(memory.max_usage, memory.usage)
        self.assertTrue(counters.HasField("pids") and cpu.HasField("psi") and memory.HasField("psi"))
        self.assertIn("lo", [interface.name for interface in counters.network])

    def test_its_labels_may_be_changed(self):
        sandbox = pb.sandbox_types.Sandbox(labels={"team": "blue"})
        self.ask("Update", self.sandbox, sandbox=sandbox, fields=["labels"])
        self.assertEqual(dict(self.ask("Start", self.sandbox).labels), {"team": "blue"})
        with expect(StatusCode.INVALID_ARGUMENT, "nonsense"):
            self.ask("Update", self.sandbox, sandbox=sandbox, fields=["nonsense"])
        with expect(StatusCode.INVALID_ARGUMENT, "no sandbox"):
            self.ask("Update", self.sandbox)

    def update_options(self, options):
        runtime = pb.sandbox_types.Sandbox.Runtime(name="theca", options=pack(options))
        sandbox = pb.sandbox_types.Sandbox(runtime=runtime)
        self.ask("Update", self.sandbox, sandbox=sandbox, fields=["runtime.options"])

    def pod(self, **resources):
        linux = pb.cri.LinuxPodSandboxConfig(resources=pb.cri.LinuxContainerResources(**resources))
        return pb.cri.PodSandboxConfig(linux=linux, annotations={"asked": "yes"})

    def test_its_containers_get_less_and_all_again_while_it_runs(self):
        self.update_options(self.pod(cpu_quota=60_000, cpu_period=100_000, memory_limit_in_bytes=100 * MIB))
        info = self.ask("Status", self.sandbox, verbose=True).info
        self.assertEqual((info["cpu_limit_milli"], info["memory_limit_bytes"]), ("600", str(100 * MIB)))
        self.assertEqual(info["annotation.asked"], "yes")
        self.update_options(pb.options.SandboxOptions(vcpus=1))
        info = self.ask("Status", self.sandbox, verbose=True).info
        self.assertEqual((info.get("cpu_limit_milli"), info["memory_limit_bytes"]), (None, str(100 * MIB)))
        self.update_options(self.pod(memory_limit_in_bytes=-1))
        self.assertNotIn("memory_limit_bytes", self.ask("Status", self.sandbox, verbose=True).info)

    def test_its_vm_does_not_become_larger_and_its_kernel_keeps_its_words(self):
        with expect(StatusCode.FAILED_PRECONDITION, "1 vCPU and 256 MiB", "does not become larger"):
            self.update_options(self.pod(memory_limit_in_bytes=300 * MIB))
        with expect(StatusCode.FAILED_PRECONDITION, "does not become larger"):
            self.update_options(pb.options.SandboxOptions(memory_bytes=512 * MIB))
        with expect(StatusCode.INVALID_ARGUMENT, "kernel_args"):
            self.update_options(pb.options.SandboxOptions(kernel_args=["quiet"]))
        with expect(StatusCode.INVALID_ARGUMENT, "a quota of 5 µs"):
            self.update_options(self.pod(cpu_quota=5))

    def test_options_of_an_unknown_type_are_refused_by_an_update_that_names_them(self):
        foreign = Any(type_url="example.Options", value=b"x")
        sandbox = pb.sandbox_types.Sandbox(runtime={"name": "theca", "options": foreign})
        with expect(StatusCode.INVALID_ARGUMENT, "example.Options", "runtime.v1.PodSandboxConfig"):
            self.ask("Update", self.sandbox, sandbox=sandbox, fields=["runtime.options"])
        # Whoever sends the whole record sends a shim's options along.
        self.ask("Update", self.sandbox, sandbox=sandbox)

    def test_its_id_is_taken(self):
        with expect(StatusCode.ALREADY_EXISTS, self.sandbox):
            self.create(self.sandbox)


@unittest.skipUnless(TODAY, "this form is today's")
class Lives(Calls, Case):
    def test_from_create_to_shutdown(self):
        sandbox = pb.sandbox_types.Sandbox(labels={"team": "blue"})
        before = time.time_ns()
        id = self.create(sandbox=sandbox, annotations={"a": "b"})
        self.is_not_measured(id, "was not started")
        status = self.ask("Status", id)
        self.assertEqual((status.state, status.pid, status.address), ("SANDBOX_NOTREADY", 0, ""))
        started = self.ask("Start", id)
        self.assertGreater(started.pid, 0)
        self.assertEqual(dict(started.labels), {"team": "blue"})
        self.assertIn(started.created_at.ToNanoseconds(), range(before, time.time_ns()))
        self.assertEqual(self.ask("Status", id).created_at, started.created_at)
        with concurrent.futures.ThreadPoolExecutor(10) as threads:
            waiters = [threads.submit(self.ask, "Wait", id) for _ in range(10)]
            self.ask("Stop", id, timeout_secs=10)
            exits = [waiter.result() for waiter in waiters]
        self.assertEqual(len({(exit.exit_status, exit.exited_at.ToNanoseconds()) for exit in exits}), 1)
        self.assertEqual(self.ask("Wait", id), exits[0], "also after the end")
        status = self.ask("Status", id)
        self.assertEqual((status.state, status.exited_at), ("SANDBOX_NOTREADY", exits[0].exited_at))
        self.assertEqual((status.pid, status.address, status.created_at), (0, "", started.created_at))
        self.assertIn(status.exited_at.ToNanoseconds(), range(started.created_at.ToNanoseconds(), time.time_ns()))
        self.ask("Stop", id)
        self.is_not_measured(id, "has ended")
        with expect(StatusCode.FAILED_PRECONDITION, id, "update", "has ended"):
            self.ask("Update", id, sandbox=sandbox, fields=["labels"])
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.ask("Start", id)
        self.ask("Shutdown", id)
        self.ask("Shutdown", id)
        with expect(StatusCode.NOT_FOUND, id):
            self.ask("Status", id)
        self.create(id)

    def is_not_measured(self, id, why):
        with expect(StatusCode.FAILED_PRECONDITION, id, why):
            self.ask("Metrics", id)

    def test_options_make_it_larger(self):
        own = pb.options.SandboxOptions(vcpus=1, memory_bytes=300 * MIB)
        resources = pb.cri.LinuxContainerResources(memory_limit_in_bytes=200 * MIB, cpu_quota=150_000, cpu_period=100_000)
        overhead = pb.cri.LinuxContainerResources(memory_limit_in_bytes=100 * MIB)
        pod = pb.cri.PodSandboxConfig(linux=pb.cri.LinuxPodSandboxConfig(resources=resources, overhead=overhead))
        for options in [own, pod]:
            with self.subTest(type(options).__name__):
                id = self.create(options=pack(options))
                self.ask("Start", id)
                info = self.ask("Status", id, verbose=True).info
                self.assertEqual(info["memory_mib"], "300")
                self.ask("Shutdown", id)

    def test_one_that_was_never_started_may_end(self):
        id = self.create()
        self.ask("Stop", id)
        self.ask("Wait", id)
        self.ask("Shutdown", id)


@unittest.skipUnless(TODAY, "this form is today's")
class Refusals(Calls, Case):
    def test_unknown_sandboxes_are_not_found(self):
        for call in ["Start", "Platform", "Stop", "Wait", "Status", "Metrics"]:
            with self.subTest(call), expect(StatusCode.NOT_FOUND, "nobody"):
                self.ask(call, "nobody")
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.ask("Update", "nobody", sandbox=pb.sandbox_types.Sandbox(labels={"a": "b"}))
        self.ask("Shutdown", "nobody")

    def test_a_known_id_is_refused(self):
        id = self.create()
        with expect(StatusCode.ALREADY_EXISTS, id):
            self.create(id)

    def test_options_that_are_not_known_are_refused_and_leave_nothing(self):
        id = self.name("s")
        with expect(StatusCode.INVALID_ARGUMENT, "example.Options", "runtime.v1.PodSandboxConfig"):
            self.create(id, options=Any(type_url="example.Options", value=b"x"))
        with expect(StatusCode.INVALID_ARGUMENT, "malformed"):
            self.create(id, options=Any(type_url="runtime.v1.PodSandboxConfig", value=b"\xff"))
        with expect(StatusCode.NOT_FOUND, id):
            self.ask("Status", id)

    def test_what_a_pod_would_miss_is_unimplemented_by_name(self):
        ports = pb.cri.PodSandboxConfig(port_mappings=[pb.cri.PortMapping(container_port=80, host_port=8080)])
        linux = pb.cri.LinuxPodSandboxConfig(sysctls={"net.core.somaxconn": "1"})
        for config, name in [(ports, "host_port"), (pb.cri.PodSandboxConfig(linux=linux), "sysctls")]:
            id = self.name("s")
            with self.subTest(name), expect(StatusCode.UNIMPLEMENTED, name):
                self.create(id, options=pack(config))
            with self.subTest(name), expect(StatusCode.NOT_FOUND, id):
                self.ask("Status", id)

    def test_what_no_machine_can_give_is_refused_and_leaves_nothing(self):
        for options in [pb.options.SandboxOptions(vcpus=10_000), pb.options.SandboxOptions(memory_bytes=1 << 60)]:
            id = self.name("s")
            with self.subTest(str(options)), expect(StatusCode.INVALID_ARGUMENT):
                self.create(id, options=pack(options))
            with self.subTest(str(options)), expect(StatusCode.NOT_FOUND, id):
                self.ask("Status", id)


if __name__ == "__main__":
    unittest.main()
