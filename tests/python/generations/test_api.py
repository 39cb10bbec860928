"""types.API of 2015: every call, its two streams, and what it says when it refuses."""

import os
import time
import unittest
from pathlib import Path

from grpc import StatusCode

from host import SOCKET, Fifo, Reader, WithSandbox
from theca_client import Client, eventually, expect, pb


class Api(WithSandbox):
    def setUp(self):
        super().setUp()
        self.api = self.theca.api

    def create(self, *args, id=None, io=None, **changes):
        id = id or self.name()
        request = pb.api.CreateContainerRequest(id=id, bundlePath=self.bundle(*args, **changes), **(io or {}))
        return id, self.api.CreateContainer(request).pid

    def state(self, id):
        containers = self.api.State(pb.api.StateRequest()).containers
        return next((container for container in containers if container.id == id), None)

    def signal(self, id, signal, pid=0):
        self.api.Signal(pb.api.SignalRequest(id=id, pid=pid, signal=signal))

    def add(self, id, *args, io=None, **process):
        return self.api.AddProcess(pb.api.AddProcessRequest(id=id, args=args, **process, **(io or {}))).pid

    def update(self, id, status):
        self.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status=status))

    def events(self):
        return Reader(self, self.api.Events(pb.api.EventsRequest(), timeout=300))

    def test_a_container_runs_from_its_creation_and_its_end_deletes_it(self):
        out = Fifo(self)
        id, pid = self.create("sh", "-c", "echo hello; exec sleep 1000", io={"stdout": out.path})
        self.assertGreater(pid, 0)
        out.holds("hello")
        container = self.state(id)
        self.assertEqual((container.status, [process.pid for process in container.processes]), ("running", [pid]))
        self.assertEqual(list(container.processes[0].args)[:2], ["sh", "-c"])
        self.signal(id, 9)
        eventually(lambda: self.state(id) is None)

    def test_the_machine_is_told(self):
        machine = self.api.State(pb.api.StateRequest()).machine
        self.assertEqual(machine.cpus, len(os.sched_getaffinity(0)))
        total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
        self.assertEqual(machine.memory, int(total.split()[1]) // 1024)

    def test_a_container_is_paused_and_resumed_by_its_status(self):
        id, _ = self.create()
        self.update(id, "paused")
        self.assertEqual(self.state(id).status, "paused")
        self.update(id, "running")
        self.assertEqual(self.state(id).status, "running")
        for status in ["", "stopped", "Running"]:
            with self.subTest(status), expect(StatusCode.INVALID_ARGUMENT, "unknown container status"):
                self.update(id, status)

    def test_a_process_is_added_without_a_user(self):
        id, out = self.create()[0], Fifo(self)
        pid = self.add(id, "sh", "-c", "id -u; exec sleep 1000", io={"stdout": out.path})
        out.holds("0\n")
        process = next(process for process in self.state(id).processes if process.pid == pid)
        self.assertEqual((process.user.uid, list(process.args)[:1]), (0, ["sh"]))
        self.signal(id, 9, pid=pid)
        eventually(lambda: pid not in [process.pid for process in self.state(id).processes])

    def test_a_process_is_added_with_a_user(self):
        id, out = self.create()[0], Fifo(self)
        user = {"uid": 5, "gid": 6, "additionalGids": [7]}
        pid = self.add(id, "sh", "-c", "id -u; id -G; exec sleep 1000", user=user, io={"stdout": out.path})
        out.holds("5\n6 7\n")
        process = next(process for process in self.state(id).processes if process.pid == pid)
        self.assertEqual(process.user, pb.api.User(**user))

    def test_a_container_that_runs_out_of_memory_is_told(self):
        events = self.events()
        # It keeps what it reads until a line ends.
        id, init = self.create("tail", "/dev/zero", resources={"memory": {"limit": 16 << 20}})
        events.has(lambda event: (event.id, event.type) == (id, "exit"))
        told = [(event.type, event.pid, event.status) for event in events.messages if event.id == id]
        self.assertEqual(told, [("start-container", init, 0), ("oom", 0, 0), ("exit", init, 137)])

    def test_events_come_in_order_and_inits_exit_last(self):
        events = self.events()
        id, init = self.create()
        pid = self.add(id, "sh", "-c", "exit 7")
        events.has(lambda event: (event.id, event.type, event.pid) == (id, "exit", pid))
        left = self.add(id, "sleep", "1000")
        self.update(id, "paused")
        self.update(id, "running")
        self.signal(id, 9)
        events.has(lambda event: (event.id, event.type, event.pid) == (id, "exit", init))
        told = [(event.type, event.pid, event.status) for event in events.messages if event.id == id]
        self.assertEqual(
            told,
            [
                ("start-container", init, 0),
                ("start-process", pid, 0),
                ("exit", pid, 7),
                ("start-process", left, 0),
                ("pause", 0, 0),
                ("resume", 0, 0),
                ("exit", left, 137),
                ("exit", init, 137),
            ],
        )

    def test_a_failed_start_is_an_error_and_no_event(self):
        events, id = self.events(), self.name()
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.create("/bin/nothing", id=id)
        self.assertIsNone(self.state(id))
        # An event of another container comes after whatever there would have been.
        other, _ = self.create("true")
        events.has(lambda event: (event.id, event.type) == (other, "exit"))
        self.assertEqual([event for event in events.messages if event.id == id], [])

    def test_stats_stream_until_the_container_ends(self):
        id, _ = self.create("sh", "-c", "while :; do :; done")
        samples = Reader(self, self.api.GetStats(pb.api.StatsRequest(id=id), timeout=300))
        eventually(lambda: len(samples.messages) >= 3, timeout=60)
        first, *_, last = samples.messages
        usage = lambda sample: sample.cgroup_stats.cpu_stats.cpu_usage.total_usage
        self.assertGreater(usage(last), usage(first))
        self.assertGreater(last.cgroup_stats.memory_stats.usage.usage, 0)
        self.assertLess(abs(last.timestamp - time.time()), 3600)
        self.signal(id, 9)
        eventually(lambda: not samples._thread.is_alive(), timeout=60)
        self.assertIsNone(samples.error)

    def test_stats_end_when_the_client_goes(self):
        id, _ = self.create()
        call = self.api.GetStats(pb.api.StatsRequest(id=id))
        next(call)
        call.cancel()
        self.assertEqual(self.state(id).status, "running")

    def test_unknown_containers_are_not_found_in_the_words_of_the_time(self):
        calls = {
            "Signal": pb.api.SignalRequest(id="nobody", signal=9),
            "AddProcess": pb.api.AddProcessRequest(id="nobody", args=["true"]),
            "UpdateContainer": pb.api.UpdateContainerRequest(id="nobody", status="paused"),
        }
        for name, request in calls.items():
            with self.subTest(name), expect(StatusCode.NOT_FOUND, "container not found", "nobody"):
                getattr(self.api, name)(request)
        with expect(StatusCode.NOT_FOUND, "container not found", "nobody"):
            next(self.api.GetStats(pb.api.StatsRequest(id="nobody")))

    def test_an_empty_id_is_refused_in_the_words_of_the_time(self):
        with expect(StatusCode.INVALID_ARGUMENT, "container id cannot be empty"):
            self.add("", "true")
        with expect(StatusCode.INVALID_ARGUMENT, "container id cannot be empty"):
            self.api.CreateContainer(pb.api.CreateContainerRequest(bundlePath=self.bundle()))

    def test_a_known_id_is_refused(self):
        id, _ = self.create()
        with expect(StatusCode.ALREADY_EXISTS, id):
            self.create(id=id)
        self.assertEqual(self.state(id).status, "running")

    def test_a_bundle_that_is_none_is_refused(self):
        for path, words in [("", "empty bundle path"), ("relative", "absolute"), ("/nowhere", "config.json")]:
            with self.subTest(path), expect(StatusCode.INVALID_ARGUMENT, words):
                self.api.CreateContainer(pb.api.CreateContainerRequest(id=self.name(), bundlePath=path))

    def test_unknown_processes_are_not_found(self):
        id, _ = self.create()
        with expect(StatusCode.NOT_FOUND, "process not found for container"):
            self.signal(id, 9, pid=77777)

    def test_a_process_that_is_none_is_refused(self):
        id, _ = self.create()
        with expect(StatusCode.INVALID_ARGUMENT, "arguments"):
            self.add(id)
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.add(id, "/bin/nothing")
        with expect(StatusCode.UNIMPLEMENTED, "console"):
            self.add(id, "sh", console="/dev/pts/0")

    def test_checkpoints_are_refused_by_name(self):
        id, _ = self.create()
        for call, request in [
            (self.api.CreateCheckpoint, pb.api.CreateCheckpointRequest(id=id, checkpoint={"name": "one"})),
            (self.api.DeleteCheckpoint, pb.api.DeleteCheckpointRequest(id=id, name="one")),
            (self.api.ListCheckpoint, pb.api.ListCheckpointRequest(id=id)),
            (self.api.CreateContainer, pb.api.CreateContainerRequest(id="x", bundlePath="/x", checkpoint="one")),
        ]:
            with self.subTest(type(request).__name__), expect(StatusCode.UNIMPLEMENTED, "checkpoint"):
                call(request)

    def test_events_are_those_of_a_namespace(self):
        with Client(SOCKET, namespace="another") as another:
            elsewhere = Reader(self, another.api.Events(pb.api.EventsRequest()))
            here = self.events()
            id, _ = self.create("true")
            here.has(lambda event: (event.id, event.type) == (id, "exit"))
            self.assertEqual(elsewhere.messages, [])


if __name__ == "__main__":
    unittest.main()
