"""containerd.services.sandbox.v1.Controller as it was in February 2022: Start makes the sandbox, Shutdown has a timeout."""

import os
import signal
import threading
import time
import unittest

from google.protobuf.any_pb2 import Any
from grpc import StatusCode

from host import BOOT, STATE, TODAY, Case, WithSandbox, start
from theca_client import connect, expect, pack, pb


class Calls:
    def ask(self, call, id, **fields):
        request = getattr(pb.sandbox, f"Controller{call}Request")(sandbox_id=id, **fields)
        return getattr(self.theca.controller, call)(request, timeout=BOOT)


@unittest.skipIf(TODAY, "this form is that of 2022")
class ASandbox(Calls, WithSandbox):
    """What may be asked of one that runs."""

    def test_it_is_ready(self):
        status = self.ask("Status", self.sandbox)
        self.assertEqual((status.id, status.state, status.exit_status), (self.sandbox, "ready", 0))
        self.assertGreater(status.pid, 0)
        self.assertFalse(status.HasField("exited_at"))

    def test_it_answers(self):
        self.ask("Ping", self.sandbox)

    def test_it_is_paused_and_resumed(self):
        for _ in range(2):
            self.ask("Pause", self.sandbox)
        self.assertEqual(self.ask("Status", self.sandbox).state, "paused")
        for _ in range(2):
            self.ask("Resume", self.sandbox)
        self.assertEqual(self.ask("Status", self.sandbox).state, "ready")

    def test_its_id_is_taken(self):
        with expect(StatusCode.ALREADY_EXISTS, self.sandbox):
            start(self.theca, self.sandbox)
        self.assertEqual(self.ask("Status", self.sandbox).state, "ready")


@unittest.skipIf(TODAY, "this form is that of 2022")
class Lives(Calls, Case):
    def test_from_start_to_shutdown(self):
        id = self.name("s")
        started = start(self.theca, id, options=pack(pb.options.SandboxOptions(vcpus=1, memory_bytes=256 << 20)))
        self.assertEqual(started.sandbox_id, id)
        self.assertGreater(started.pid, 0)
        exits = []
        waiter = threading.Thread(target=lambda: exits.append(self.ask("Wait", id)))
        waiter.start()
        self.ask("Shutdown", id, timeout_secs=10)
        waiter.join(BOOT)
        self.assertEqual([exit.exit_status for exit in exits], [0])
        self.assertGreater(exits[0].exited_at.seconds, 0)
        self.ask("Shutdown", id)
        with expect(StatusCode.NOT_FOUND, id):
            self.ask("Status", id)


    def test_one_whose_vm_is_killed_is_stopped_and_takes_no_more_calls(self):
        id, before = self.name("s"), time.time_ns()
        os.kill(start(self.theca, id).pid, signal.SIGKILL)
        exit = self.ask("Wait", id)
        self.assertEqual(exit.exit_status, 255)
        self.assertIn(exit.exited_at.ToNanoseconds(), range(before, time.time_ns()))
        status = self.ask("Status", id)
        self.assertEqual((status.id, status.state, status.pid), (id, "stopped", 0))
        self.assertEqual((status.exit_status, status.exited_at), (255, exit.exited_at))
        for call in ["Pause", "Resume", "Ping"]:
            with self.subTest(call), expect(StatusCode.FAILED_PRECONDITION, id, "has ended"):
                self.ask(call, id)
        with expect(StatusCode.ALREADY_EXISTS, id):
            start(self.theca, id)

    def test_one_that_waits_for_its_start_is_created(self):
        id = self.name("s")
        # Only today's form makes one. Its request begins as this one does, with the id.
        with connect(STATE / "thecad.sock", "tests") as today:
            request = pb.sandbox.ControllerStatusRequest(sandbox_id=id)
            create = today.unary_unary(
                "/containerd.services.sandbox.v1.Controller/Create",
                request_serializer=type(request).SerializeToString,
                response_deserializer=bytes,
            )
            create(request)
        status = self.ask("Status", id)
        self.assertEqual((status.id, status.state, status.pid, status.exit_status), (id, "created", 0, 0))
        self.assertFalse(status.HasField("exited_at"))
        for call in ["Pause", "Resume", "Ping"]:
            with self.subTest(call), expect(StatusCode.FAILED_PRECONDITION, id, "was not started"):
                self.ask(call, id)
        with expect(StatusCode.ALREADY_EXISTS, id):
            start(self.theca, id)


@unittest.skipIf(TODAY, "this form is that of 2022")
class Refusals(Calls, Case):
    def test_unknown_sandboxes_are_not_found(self):
        for call in ["Wait", "Pause", "Resume", "Ping", "Status"]:
            with self.subTest(call), expect(StatusCode.NOT_FOUND, "nobody"):
                self.ask(call, "nobody")
        self.ask("Shutdown", "nobody")

    def test_options_that_are_not_known_are_refused_and_leave_nothing(self):
        id = self.name("s")
        with expect(StatusCode.INVALID_ARGUMENT, "example.Options"):
            start(self.theca, id, options=Any(type_url="example.Options", value=b"x"))
        with expect(StatusCode.NOT_FOUND, id):
            self.ask("Status", id)


if __name__ == "__main__":
    unittest.main()
