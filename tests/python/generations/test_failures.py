"""What goes wrong on thecad's side, and with which code it is told: a guest that does not boot, keepers that do not start or
hang, and a thecad that ends."""

import os
import signal
import subprocess
import unittest

from grpc import StatusCode

from host import BOOT, TODAY, Case, Reader, start
from theca_client import Client, eventually, expect, pack, pb

ENDPOINT = "thecad.sock" if TODAY else "thecad-2022.sock"


class AGuest(Case):
    def test_one_that_does_not_boot_is_told_with_its_last_words_and_leaves_nothing(self):
        id = self.name("s")
        options = pb.options.SandboxOptions(kernel_args=["mem=16M"])
        with expect(StatusCode.INTERNAL, "did not start", "Kernel panic"):
            start(self.theca, id, options=pack(options))
        with expect(StatusCode.NOT_FOUND, id):
            self.theca.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id))


class AThecadOfItsOwn(Case):
    """A second thecad, on folders of its own, whose keeper's program is a script."""

    def serve(self, script, *flags):
        """Its process, and a client of it."""
        folder = self.folder()
        keeper = folder / "keeper"
        keeper.write_text(f"#!/bin/sh\n{script}\n")
        keeper.chmod(0o755)
        state = folder / "run"
        command = ["thecad", "--root", folder / "lib", "--state", state, *flags]
        log = self.enterContext(open(folder / "log", "w"))
        daemon = subprocess.Popen(
            command, env={**os.environ, "THECA_KEEPER": keeper}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.addCleanup(daemon.wait)
        self.addCleanup(daemon.kill)
        eventually(lambda: (state / ENDPOINT).exists() or self.fail((folder / "log").read_text()), timeout=60)
        return daemon, self.enterContext(Client(state / ENDPOINT, namespace="tests"))

    def is_unknown(self, client, id):
        with expect(StatusCode.NOT_FOUND, id):
            client.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id))

    def test_a_keeper_that_does_not_start_is_told_in_its_words(self):
        _, client = self.serve("echo 'no keeper today' >&2; exit 1")
        with expect(StatusCode.INTERNAL, "failed to start the sandbox's keeper", "no keeper today"):
            start(client, "pod")
        self.is_unknown(client, "pod")
        with expect(StatusCode.INTERNAL, "no keeper today"):
            bundle = self.bundle()
            client.execution.CreateContainer(pb.execution.CreateContainerRequest(id="web", bundle_path=bundle))
        with expect(StatusCode.NOT_FOUND, "web"):
            client.execution.GetContainer(pb.execution.GetContainerRequest(id="web"))

    def test_a_keeper_that_hangs_is_given_up_in_time(self):
        _, client = self.serve("exec sleep 1000", "--start-timeout", "2")
        with expect(StatusCode.DEADLINE_EXCEEDED, "pod", "was not done within 2 s"):
            start(client, "pod")
        self.is_unknown(client, "pod")

    def test_whoever_waits_when_thecad_ends_is_told_to_ask_again(self):
        daemon, client = self.serve("exec sleep 1000")
        events = Reader(self, client.api.Events(pb.api.EventsRequest()))
        starting = start_of(client)
        calls = [starting]
        if TODAY:
            client.controller.Create(pb.sandbox.ControllerCreateRequest(sandbox_id="waited-for"))
            calls.append(client.controller.Wait.future(pb.sandbox.ControllerWaitRequest(sandbox_id="waited-for")))
        eventually(lambda: client.api.State(pb.api.StateRequest()) and not any(call.done() for call in calls))
        daemon.send_signal(signal.SIGTERM)
        for call in calls:
            with expect(StatusCode.UNAVAILABLE, "thecad is ending", "try again"):
                call.result(timeout=BOOT)
        eventually(lambda: events.error)
        self.assertIs(events.error.code(), StatusCode.UNAVAILABLE)
        self.assertIn("thecad is ending", events.error.details())
        self.assertEqual(daemon.wait(60), 0)


def start_of(client):
    """A Start that is under way."""
    if TODAY:
        client.controller.Create(pb.sandbox.ControllerCreateRequest(sandbox_id="pod"))
    return client.controller.Start.future(pb.sandbox.ControllerStartRequest(sandbox_id="pod"))


if __name__ == "__main__":
    unittest.main()
