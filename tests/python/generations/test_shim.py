"""containerd.v1.services.shim.Shim of May 2017: every call but Events, at endpoints that the sandbox's keeper opens."""

import contextlib
import os
import time
import unittest
from pathlib import Path

from google.protobuf.any_pb2 import Any
from grpc import StatusCode

from host import TODAY, Fifo, WithSandbox, once
from theca_client import KeeperError, eventually, expect, oci_process, open_shim, pb

load_tests = once

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
#: What a FIFO holds that nobody reads.
FIFO_SIZE = 65536


class Calls:
    """Short for calls of one container's Shim."""

    def endpoint(self, id=None):
        """The id of a container that does not exist yet, and its Shim."""
        id = id or self.name()
        return id, self.shim(id)

    def create(self, shim, *args, io=None, **changes):
        return shim.Create(pb.shim.CreateRequest(bundle=self.bundle(*args, **changes), **(io or {}))).pid

    def created(self, *args, **more):
        id, shim = self.endpoint()
        return id, shim, self.create(shim, *args, **more)

    def running(self, *args, **more):
        id, shim, pid = self.created(*args, **more)
        shim.Start(pb.shim.StartRequest())
        return id, shim, pid

    def exec(self, shim, *args, io=None, **process):
        spec = {"args": list(args), "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}, **process}
        return shim.Exec(pb.shim.ExecRequest(spec=oci_process(spec), **(io or {}))).pid

    def state(self, shim):
        return shim.State(pb.shim.StateRequest())

    def processes(self, shim):
        return {process.pid: process for process in shim.Processes(pb.shim.ProcessesRequest()).processes}

    def kill(self, shim, signal=9, **whom):
        shim.Kill(pb.shim.KillRequest(signal=signal, **whom))

    def delete(self, shim, pid=0):
        return shim.Delete(pb.shim.DeleteRequest(pid=pid))

    def stops(self, shim):
        eventually(lambda: self.state(shim).status == STOPPED)


class Lives(Calls, WithSandbox):
    def test_a_container_is_created_started_killed_and_deleted(self):
        out = Fifo(self)
        id, shim = self.endpoint()
        bundle = self.bundle("sh", "-c", "echo hello; exec sleep 1000")
        pid = shim.Create(pb.shim.CreateRequest(id=id, bundle=bundle, stdout=out.path)).pid
        self.assertGreater(pid, 0)
        state = self.state(shim)
        self.assertEqual((state.id, state.bundle, state.pid, state.status), (id, bundle, pid, CREATED))
        self.assertEqual([process.pid for process in state.processes], [pid])
        shim.Start(pb.shim.StartRequest())
        out.holds("hello")
        self.assertEqual(self.state(shim).status, RUNNING)
        self.kill(shim)
        self.stops(shim)
        self.assertEqual(self.state(shim).processes[0].exit_status, 137)
        deleted = self.delete(shim)
        self.assertEqual(deleted.exit_status, 137)
        self.assertGreater(deleted.exited_at.seconds, 0)
        with expect(StatusCode.FAILED_PRECONDITION, "container hasn't been created yet"):
            self.state(shim)
        # The endpoint stays: the container may be created again.
        self.create(shim, "true")
        self.assertEqual(self.state(shim).status, CREATED)

    def test_an_exit_status_is_the_programs(self):
        _, shim, _ = self.running("sh", "-c", "exit 42")
        self.stops(shim)
        self.assertEqual(self.delete(shim).exit_status, 42)

    def test_a_container_that_was_never_started_may_be_deleted(self):
        _, shim, _ = self.created()
        self.assertEqual(self.delete(shim).exit_status, 137)
        with expect(StatusCode.FAILED_PRECONDITION, "container hasn't been created yet"):
            self.state(shim)

    def test_a_delete_kills_what_runs(self):
        for pid in [0, 77777]:
            with self.subTest("an unknown pid is init" if pid else "pid 0"):
                _, shim, init = self.running()
                added = self.exec(shim, "sleep", "1000")
                self.assertEqual(set(self.processes(shim)), {init, added})
                self.assertEqual(self.delete(shim, pid).exit_status, 137)
                with expect(StatusCode.FAILED_PRECONDITION, "container hasn't been created yet"):
                    self.state(shim)

    def test_a_delete_waits_for_the_output(self):
        """A FIFO is full and more waits in the guest when init is killed: all that it wrote comes out first."""
        out = Fifo(self)
        _, shim, _ = self.running("sh", "-c", "head -c 4000000 /dev/zero | tr '\\0' x", io={"stdout": out.path})
        # How much it takes depends on the sizes of what is written.
        eventually(lambda: FIFO_SIZE // 2 < (before := out.waiting()) and (time.sleep(1), out.waiting())[1] == before)
        deleting = shim.Delete.future(pb.shim.DeleteRequest())
        time.sleep(2)
        self.assertFalse(deleting.done(), f"while its output was unread: {deleting.done() and deleting.exception()}")
        eventually(lambda: out.text() and deleting.done())
        self.assertGreater(len(out.text()), FIFO_SIZE)
        self.assertIn(deleting.result().exit_status, [0, 137])

    def test_a_process_is_added_signalled_and_deleted_alone(self):
        _, shim, init = self.running()
        out = Fifo(self)
        process = {"cwd": "/tmp", "user": {"uid": 5, "gid": 6, "additionalGids": [7]}}
        pid = self.exec(shim, "sh", "-c", "echo $$; exec sleep 1000", io={"stdout": out.path}, **process)
        out.holds("\n")
        added = self.processes(shim)[pid]
        self.assertEqual((list(added.args[:2]), added.cwd, added.status), (["sh", "-c"], "/tmp", RUNNING))
        self.assertEqual((added.user.uid, added.user.gid, list(added.user.additional_gids)), (5, 6, [7]))
        self.assertEqual((added.stdout, added.terminal), (out.path, False))
        self.assertEqual(list(self.state(shim).processes), list(self.processes(shim).values()))
        self.kill(shim, 15, pid=pid)
        eventually(lambda: self.processes(shim)[pid].status == STOPPED)
        self.assertEqual(self.processes(shim)[pid].exit_status, 128 + 15)
        with expect(StatusCode.NOT_FOUND, "process already finished"):
            self.kill(shim, 15, pid=pid)
        self.assertEqual(self.delete(shim, pid).exit_status, 128 + 15)
        self.assertEqual(set(self.processes(shim)), {init})
        # One that runs is killed first; init goes on.
        self.assertEqual(self.delete(shim, self.exec(shim, "sleep", "1000")).exit_status, 137)
        self.assertEqual((self.state(shim).status, set(self.processes(shim))), (RUNNING, {init}))

    def test_a_signal_is_for_init_for_one_or_for_all(self):
        for whom in [lambda init: {}, lambda init: {"pid": init}, lambda init: {"all": True}]:
            _, shim, init = self.running()
            added = self.exec(shim, "sleep", "1000")
            with self.subTest(whom(init)):
                self.kill(shim, **whom(init))
                self.stops(shim)
                self.assertEqual({p.exit_status for p in self.processes(shim).values()}, {137})
                self.assertEqual(set(self.processes(shim)), {init, added})

    def test_a_container_is_paused_and_resumed(self):
        _, shim, _ = self.running()
        shim.Pause(pb.shim.PauseRequest())
        self.assertEqual(self.state(shim).status, PAUSED)
        with expect(StatusCode.FAILED_PRECONDITION, "is paused"):
            shim.Pause(pb.shim.PauseRequest())
        shim.Resume(pb.shim.ResumeRequest())
        self.assertEqual(self.state(shim).status, RUNNING)
        with expect(StatusCode.FAILED_PRECONDITION, "is running"):
            shim.Resume(pb.shim.ResumeRequest())

    def test_input_ends_when_it_is_closed(self):
        stdin, stdout = Fifo(self, "stdin"), Fifo(self)
        io = {"stdin": stdin.path, "stdout": stdout.path}
        _, shim, _ = self.running("sh", "-c", "cat; echo end", io=io)
        stdin.write("hello\n")
        stdout.holds("hello")
        stdin.close()
        shim.CloseStdin(pb.shim.CloseStdinRequest())
        stdout.holds("end")

    def test_a_terminal_has_a_size_and_nothing_else_has(self):
        stdin, stdout = Fifo(self, "stdin"), Fifo(self)
        _, shim, init = self.running()
        io = {"stdin": stdin.path, "stdout": stdout.path, "terminal": True}
        pid = self.exec(shim, "sh", "-c", "read x; stty size; sleep 1000", io=io, terminal=True)
        self.assertTrue(self.processes(shim)[pid].terminal)
        shim.Pty(pb.shim.PtyRequest(pid=pid, width=123, height=45))
        stdin.write("\n")
        stdout.holds("45 123")
        for none in [0, init]:
            shim.Pty(pb.shim.PtyRequest(pid=none, width=1, height=1))


class Refusals(Calls, WithSandbox):
    def test_before_create_there_is_no_container(self):
        _, shim = self.endpoint()
        process = oci_process({"args": ["true"], "cwd": "/"})
        for call, request in [
            (shim.Start, pb.shim.StartRequest()),
            (shim.Delete, pb.shim.DeleteRequest()),
            (shim.State, pb.shim.StateRequest()),
            (shim.Processes, pb.shim.ProcessesRequest()),
            (shim.Pause, pb.shim.PauseRequest()),
            (shim.Resume, pb.shim.ResumeRequest()),
            (shim.Kill, pb.shim.KillRequest(signal=9)),
            (shim.Exec, pb.shim.ExecRequest(spec=process)),
            (shim.Pty, pb.shim.PtyRequest()),
            (shim.CloseStdin, pb.shim.CloseStdinRequest()),
        ]:
            with self.subTest(type(request).__name__):
                with expect(StatusCode.FAILED_PRECONDITION, "container hasn't been created yet"):
                    call(request)

    def test_checkpoints_are_refused_by_name(self):
        _, shim = self.endpoint()
        bundle = self.bundle()
        for call, request in [
            (shim.Checkpoint, pb.shim.CheckpointRequest(image="/tmp")),
            (shim.Create, pb.shim.CreateRequest(bundle=bundle, checkpoint="one")),
            (shim.Create, pb.shim.CreateRequest(bundle=bundle, parent_checkpoint="one")),
        ]:
            with self.subTest(str(request)), expect(StatusCode.UNIMPLEMENTED, "checkpoint"):
                call(request)

    def test_what_cannot_be_created_is_refused_and_leaves_nothing(self):
        id, shim = self.endpoint()
        bundle, broken, huge = self.bundle(), self.folder(), self.folder()
        (broken / "config.json").write_text("{")
        (huge / "config.json").write_text(" " * (3 << 20) + "{}")
        mount = lambda kind: [{"type": kind, "source": "/nowhere"}]
        for request, code, words in [
            ({"bundle": ""}, StatusCode.INVALID_ARGUMENT, ["empty bundle path"]),
            ({"bundle": "/nowhere"}, StatusCode.INVALID_ARGUMENT, ["/nowhere", "config.json"]),
            ({"bundle": str(broken)}, StatusCode.INVALID_ARGUMENT, [str(broken), "JSON"]),
            ({"bundle": str(huge)}, StatusCode.RESOURCE_EXHAUSTED, [str(huge), "bytes"]),
            ({"bundle": bundle, "id": "another"}, StatusCode.INVALID_ARGUMENT, ["another", id]),
            ({"bundle": bundle, "stdout": "/nowhere/fifo"}, StatusCode.INVALID_ARGUMENT, ["/nowhere/fifo"]),
            ({"bundle": bundle, "rootfs": mount("overlay")}, StatusCode.UNIMPLEMENTED, ["overlay"]),
            ({"bundle": bundle, "rootfs": mount("erofs")}, StatusCode.INVALID_ARGUMENT, ["/nowhere"]),
        ]:
            with self.subTest(str(request)), expect(code, *words):
                shim.Create(pb.shim.CreateRequest(**request))
            with self.subTest(str(request)), expect(StatusCode.FAILED_PRECONDITION, "hasn't been created yet"):
                self.state(shim)

    def test_a_program_that_is_not_there_fails_the_start(self):
        _, shim = self.endpoint()
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.create(shim, "/bin/nothing")
            shim.Start(pb.shim.StartRequest())

    def test_unknown_processes_are_not_found_in_the_words_of_the_time(self):
        _, shim, _ = self.running()
        with expect(StatusCode.NOT_FOUND, "process 77777 does not exist in container"):
            self.kill(shim, pid=77777)
        with expect(StatusCode.NOT_FOUND, "process does not exist 77777"):
            shim.Pty(pb.shim.PtyRequest(pid=77777, width=1, height=1))
        with expect(StatusCode.NOT_FOUND, "process does not exist 77777"):
            shim.CloseStdin(pb.shim.CloseStdinRequest(pid=77777))

    def test_signals_and_processes_that_are_none_are_refused(self):
        _, shim, init = self.running()
        for signal in [0, 65, 4096, 2**32 - 1]:
            with self.subTest(signal), expect(StatusCode.INVALID_ARGUMENT, str(signal)):
                self.kill(shim, signal)
        for words, spec in [
            ("no specification", None),
            ("JSON", Any(value=b"{")),
            ("JSON", Any(value=b"")),
            ("process", Any(value=b"[]")),
        ]:
            with self.subTest(str(spec)), expect(StatusCode.INVALID_ARGUMENT, words):
                shim.Exec(pb.shim.ExecRequest(spec=spec))
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.exec(shim, "/bin/nothing")
        self.assertEqual(set(self.processes(shim)), {init}, "a process that did not start stays")

    def test_what_does_not_fit_the_state_is_refused(self):
        id, shim, _ = self.created()
        with expect(StatusCode.ALREADY_EXISTS, id):
            self.create(shim)
        with expect(StatusCode.FAILED_PRECONDITION, "pause", "not started"):
            shim.Pause(pb.shim.PauseRequest())
        with expect(StatusCode.FAILED_PRECONDITION, "not started"):
            self.exec(shim, "true")
        shim.Start(pb.shim.StartRequest())
        with expect(StatusCode.FAILED_PRECONDITION, "start", "is running"):
            shim.Start(pb.shim.StartRequest())
        self.kill(shim)
        self.stops(shim)
        with expect(StatusCode.NOT_FOUND, "process already finished"):
            self.kill(shim)
        for call, request in [
            (shim.Start, pb.shim.StartRequest()),
            (shim.Pause, pb.shim.PauseRequest()),
            (shim.Resume, pb.shim.ResumeRequest()),
        ]:
            with self.subTest(type(request).__name__), expect(StatusCode.FAILED_PRECONDITION, "has stopped"):
                call(request)
        with expect(StatusCode.FAILED_PRECONDITION, "has stopped"):
            self.exec(shim, "true")

    def test_a_message_that_is_too_large_is_refused(self):
        _, shim, init = self.running()
        with expect(StatusCode.RESOURCE_EXHAUSTED, "too large", "4 MiB"):
            shim.Exec(pb.shim.ExecRequest(spec=Any(value=bytes(5 << 20))))
        self.assertEqual(set(self.processes(shim)), {init})

    def test_a_text_that_is_quoted_back_is_bounded(self):
        _, shim = self.endpoint()
        with expect(StatusCode.INVALID_ARGUMENT, "xxx") as refusal:
            shim.Create(pb.shim.CreateRequest(bundle="/" + "x" * 100_000))
        self.assertLess(len(refusal.text), 4000)


class Endpoints(Calls, WithSandbox):
    def test_it_is_where_the_sandbox_says(self):
        if TODAY:
            status = self.theca.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=self.sandbox))
            self.assertEqual(status.address, f"ttrpc+unix://{self.keeper()}")
        id = self.name()
        path = open_shim(self.keeper(), id)
        self.assertEqual((Path(path).parent, Path(path).stat().st_mode & 0o777), (self.keeper().parent, 0o600))
        self.assertEqual(open_shim(self.keeper(), id), path, "the same as long as it serves")
        self.assertNotEqual(open_shim(self.keeper(), self.name()), path)

    def test_ids_that_are_none_are_refused(self):
        for id in ["", "../x", "a/b", "x" * 77]:
            with self.subTest(id), expect(StatusCode.INVALID_ARGUMENT, "container id"):
                open_shim(self.keeper(), id)

    def test_exit_ends_the_endpoint_and_not_the_container(self):
        id, shim, pid = self.running()
        path = open_shim(self.keeper(), id)
        shim.Exit(pb.shim.ExitRequest())
        eventually(lambda: not os.path.exists(path))
        with expect(StatusCode.UNAVAILABLE):
            self.state(shim)
        task = self.theca.tasks.Get(pb.tasks.GetTaskRequest(container_id=id)).task
        self.assertEqual((task.status, task.pid), (RUNNING, pid))
        self.assertNotEqual(open_shim(self.keeper(), id), path)
        _, again = self.endpoint(id)
        self.assertEqual((self.state(again).status, self.state(again).pid), (RUNNING, pid))
        self.assertEqual(self.delete(again).exit_status, 137)

    def test_there_is_a_bound_of_endpoints(self):
        # No other test has this sandbox.
        self.addCleanup(type(self)._end)
        open_some = lambda: [open_shim(self.keeper(), f"bound-{number}") for number in range(257)]
        with expect(StatusCode.RESOURCE_EXHAUSTED, "256", "Shim.Exit"):
            open_some()
        self.shim("bound-0").Exit(pb.shim.ExitRequest())
        eventually(lambda: self.opens("bound-256"))

    def opens(self, id):
        with contextlib.suppress(KeeperError):
            return open_shim(self.keeper(), id)


if __name__ == "__main__":
    unittest.main()
