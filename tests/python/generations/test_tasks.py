"""containerd.services.tasks.v1.Tasks of 2017: every call, against containers in one sandbox."""

import unittest
from pathlib import Path

from google.protobuf.any_pb2 import Any
from grpc import StatusCode

from host import Fifo, WithSandbox, config
from theca_client import eventually, expect, oci_process, oci_spec, pb

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


class Tasks(WithSandbox):
    def setUp(self):
        super().setUp()
        self.tasks = self.theca.tasks

    def record(self, *args, labels=None, **changes):
        """The id of a container that is to run `args`."""
        id = self.name()
        changes.setdefault("sandbox", self.sandbox)
        container = pb.containers.Container(id=id, labels=labels, spec=oci_spec(config(*args, **changes)))
        self.theca.containers.Create(pb.containers.CreateContainerRequest(container=container))
        return id

    def created(self, *args, io=None, **changes):
        id = self.record(*args, **changes)
        made = self.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id, **(io or {})))
        self.assertEqual(made.container_id, id)
        self.assertGreater(made.pid, 0)
        return id

    def running(self, *args, **more):
        id = self.created(*args, **more)
        self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        return id

    def get(self, id):
        return self.tasks.Get(pb.tasks.GetTaskRequest(container_id=id)).task

    def kill(self, id, signal=9, **whom):
        self.tasks.Kill(pb.tasks.KillRequest(container_id=id, signal=signal, **whom))

    def delete(self, id):
        return self.tasks.Delete(pb.tasks.DeleteTaskRequest(container_id=id))

    def stops(self, id):
        eventually(lambda: self.get(id).status == STOPPED)

    def exec(self, id, *args, io=None, **process):
        spec = {"args": list(args), "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}, **process}
        request = pb.tasks.ExecProcessRequest(container_id=id, spec=oci_process(spec), **(io or {}))
        return self.tasks.Exec(request).pid

    def processes(self, id):
        answer = self.tasks.ListProcesses(pb.tasks.ListProcessesRequest(container_id=id))
        return {process.pid: process for process in answer.processes}

    def test_a_task_is_created_started_killed_and_deleted(self):
        out = Fifo(self)
        id = self.created("sh", "-c", "echo hello; exec sleep 1000", io={"stdout": out.path})
        task = self.get(id)
        self.assertEqual((task.id, task.container_id, task.status), (id, id, CREATED))
        self.assertEqual((task.stdout, task.terminal), (out.path, False))
        self.assertIn(b"hello", task.spec.value)
        self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        out.holds("hello")
        self.assertEqual((self.get(id).status, self.get(id).pid), (RUNNING, task.pid))
        self.kill(id)
        self.stops(id)
        deleted = self.delete(id)
        self.assertEqual((deleted.container_id, deleted.exit_status), (id, 137))
        self.assertGreater(deleted.exited_at.seconds, 0)
        with expect(StatusCode.NOT_FOUND, id):
            self.get(id)

    def test_an_exit_status_is_the_programs(self):
        id = self.running("sh", "-c", "exit 42")
        self.stops(id)
        self.assertEqual(self.delete(id).exit_status, 42)

    def test_a_task_that_was_never_started_may_be_deleted(self):
        id = self.created()
        self.delete(id)
        with expect(StatusCode.NOT_FOUND):
            self.get(id)

    def test_a_deleted_task_may_be_created_again(self):
        id = self.running("true")
        self.stops(id)
        self.delete(id)
        self.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id))
        self.assertEqual(self.get(id).status, CREATED)

    def test_lists_have_a_filter(self):
        here, there = self.created(), self.running(labels={"team": "blue", "io.x/y": "a,b"})
        listed = lambda filter: [task.id for task in self.tasks.List(pb.tasks.ListTasksRequest(filter=filter)).tasks]
        self.assertLessEqual({here, there}, set(listed("")))
        self.assertEqual(listed(f"id=={here}"), [here])
        self.assertEqual(listed(f"id~=^({here}|{there})$,status==running"), [there])
        self.assertEqual(listed("id==nobody"), [])
        self.assertEqual(sorted(listed(f"sandbox=={self.sandbox}")), sorted([here, there]))
        self.assertEqual(listed("sandbox==nobody"), [])
        for labels in ["labels.team==blue", "labels.team", 'labels."io.x/y"=="a,b"', "labels.team~=^bl"]:
            with self.subTest(labels):
                self.assertEqual(listed(f"sandbox=={self.sandbox},{labels}"), [there])
        self.assertEqual(listed(f"sandbox=={self.sandbox},labels.team!=blue"), [here])
        with expect(StatusCode.INVALID_ARGUMENT, "filter"):
            listed("id=x")

    def test_a_process_is_added_and_forgotten(self):
        id, out = self.running(), Fifo(self)
        pid = self.exec(id, "sh", "-c", "echo $$; exit 7", io={"stdout": out.path})
        out.holds("\n")
        eventually(lambda: self.processes(id)[pid].status == STOPPED)
        process = self.processes(id)[pid]
        self.assertEqual((process.exit_status, list(process.args[:2])), (7, ["sh", "-c"]))
        self.assertEqual(process.stdout, out.path)
        deleted = self.tasks.DeleteProcess(pb.tasks.DeleteProcessRequest(container_id=id, pid=pid))
        self.assertEqual((deleted.container_id, deleted.exit_status), (id, 7))
        self.assertNotIn(pid, self.processes(id))
        with expect(StatusCode.NOT_FOUND, str(pid), id):
            self.tasks.DeleteProcess(pb.tasks.DeleteProcessRequest(container_id=id, pid=pid))

    def test_a_list_of_processes_tells_what_they_run(self):
        id = self.running("sleep", "1000", cwd="/tmp", user={"uid": 5, "gid": 6, "additionalGids": [7]})
        init = self.get(id).pid
        process = self.processes(id)[init]
        self.assertEqual((list(process.args), process.cwd), (["sleep", "1000"], "/tmp"))
        self.assertEqual((process.user.uid, process.user.gid, list(process.user.additional_gids)), (5, 6, [7]))
        self.assertEqual(process.status, RUNNING)

    def test_a_signal_is_for_one_process_or_for_all(self):
        id = self.running()
        first, second = self.exec(id, "sleep", "1000"), self.exec(id, "sleep", "1000")
        self.kill(id, signal=15, pid=first)
        eventually(lambda: self.processes(id)[first].status == STOPPED)
        self.assertEqual(self.processes(id)[first].exit_status, 128 + 15)
        self.assertEqual(self.processes(id)[second].status, RUNNING)
        self.kill(id, all=True)
        self.stops(id)
        eventually(lambda: self.processes(id)[second].status == STOPPED)

    def test_a_signal_without_a_pid_is_for_init(self):
        for whom in [{}, {"pid": 0}, {"all": False}]:
            with self.subTest(whom):
                id = self.running()
                self.kill(id, **whom)
                self.stops(id)

    def test_a_task_is_paused_and_resumed(self):
        id = self.running()
        self.tasks.Pause(pb.tasks.PauseTaskRequest(container_id=id))
        self.assertEqual(self.get(id).status, PAUSED)
        self.tasks.Resume(pb.tasks.ResumeTaskRequest(container_id=id))
        self.assertEqual(self.get(id).status, RUNNING)

    def test_input_ends_when_it_is_closed(self):
        stdin, stdout = Fifo(self, "stdin"), Fifo(self)
        id = self.running("sh", "-c", "cat; echo end", io={"stdin": stdin.path, "stdout": stdout.path})
        stdin.write("hello\n")
        stdout.holds("hello")
        stdin.close()
        self.tasks.CloseIO(pb.tasks.CloseIORequest(container_id=id, stdin=True))
        stdout.holds("end")

    def test_a_terminal_has_a_size(self):
        stdin, stdout = Fifo(self, "stdin"), Fifo(self)
        io = {"stdin": stdin.path, "stdout": stdout.path, "terminal": True}
        id = self.running("sh", "-c", "read x; stty size; sleep 1000", io=io, terminal=True)
        self.assertTrue(self.get(id).terminal)
        self.tasks.ResizePty(pb.tasks.ResizePtyRequest(container_id=id, pid=0, width=123, height=45))
        stdin.write("\n")
        stdout.holds("45 123")

    def test_a_size_without_a_terminal_is_none(self):
        id = self.running()
        self.tasks.ResizePty(pb.tasks.ResizePtyRequest(container_id=id, pid=0, width=1, height=1))

    def test_checkpoints_are_refused_by_name(self):
        id = self.running()
        with expect(StatusCode.UNIMPLEMENTED, "checkpoint"):
            self.tasks.Checkpoint(pb.tasks.CheckpointTaskRequest(container_id=id))
        with expect(StatusCode.UNIMPLEMENTED, "checkpoint"):
            self.tasks.Create(pb.tasks.CreateTaskRequest(container_id="x", checkpoint={"digest": "sha256:0"}))

    def test_unknown_containers_are_not_found(self):
        calls = {
            "Create": pb.tasks.CreateTaskRequest,
            "Start": pb.tasks.StartTaskRequest,
            "Delete": pb.tasks.DeleteTaskRequest,
            "DeleteProcess": pb.tasks.DeleteProcessRequest,
            "Get": pb.tasks.GetTaskRequest,
            "Kill": lambda container_id: pb.tasks.KillRequest(container_id=container_id, signal=9),
            "ResizePty": pb.tasks.ResizePtyRequest,
            "CloseIO": pb.tasks.CloseIORequest,
            "Pause": pb.tasks.PauseTaskRequest,
            "Resume": pb.tasks.ResumeTaskRequest,
            "ListProcesses": pb.tasks.ListProcessesRequest,
        }
        for name, request in calls.items():
            with self.subTest(name), expect(StatusCode.NOT_FOUND, "nobody"):
                getattr(self.tasks, name)(request(container_id="nobody"))
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.exec("nobody", "true")

    def test_unknown_processes_are_not_found(self):
        id = self.running()
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.kill(id, pid=77777)
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.tasks.ResizePty(pb.tasks.ResizePtyRequest(container_id=id, pid=77777))
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.tasks.CloseIO(pb.tasks.CloseIORequest(container_id=id, pid=77777, stdin=True))
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.tasks.DeleteProcess(pb.tasks.DeleteProcessRequest(container_id=id, pid=77777))

    def test_what_does_not_fit_the_state_is_refused(self):
        id = self.created()
        with expect(StatusCode.ALREADY_EXISTS, id):
            self.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id))
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.tasks.Pause(pb.tasks.PauseTaskRequest(container_id=id))
        with expect(StatusCode.FAILED_PRECONDITION, "not started"):
            self.exec(id, "true")
        self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.tasks.Resume(pb.tasks.ResumeTaskRequest(container_id=id))
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.delete(id)
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.theca.containers.Delete(pb.containers.DeleteContainerRequest(id=id))
        self.kill(id)
        self.stops(id)
        with expect(StatusCode.NOT_FOUND, "process already finished"):
            self.kill(id)
        with expect(StatusCode.FAILED_PRECONDITION, "stopped"):
            self.exec(id, "true")
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))

    def test_a_running_process_is_not_forgotten(self):
        id = self.running()
        pid = self.exec(id, "sleep", "1000")
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.tasks.DeleteProcess(pb.tasks.DeleteProcessRequest(container_id=id, pid=pid))

    def test_a_process_that_is_none_is_refused(self):
        id = self.running()
        refused = {
            "no specification": None,
            "example.Note": Any(type_url="example.Note", value=b"{}"),
            "no JSON": Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=b"{"),
        }
        for words, spec in refused.items():
            with self.subTest(words), expect(StatusCode.INVALID_ARGUMENT, words):
                self.tasks.Exec(pb.tasks.ExecProcessRequest(container_id=id, spec=spec))
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.exec(id, "/bin/nothing")
        self.assertEqual(len(self.processes(id)), 1, "a process that did not start stays")

    def test_a_signal_that_is_none_is_refused(self):
        id = self.running()
        for signal in [0, 65, 4096, 2**32 - 1]:
            with self.subTest(signal), expect(StatusCode.INVALID_ARGUMENT):
                self.kill(id, signal=signal)

    def test_a_program_that_is_not_there_fails_the_start(self):
        id = self.record("/bin/nothing")
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id))
            self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))

    def test_a_root_is_what_the_request_mounts(self):
        id, out = self.record("cat", "/mark"), Fifo(self)
        folder = self.folder()
        (folder / "bin").mkdir()
        (folder / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
        (folder / "bin/busybox").chmod(0o755)
        (folder / "bin/cat").symlink_to("busybox")
        for name in ["dev", "proc", "sys"]:
            (folder / name).mkdir()
        (folder / "mark").write_text("this root\n")
        rootfs = [{"type": "bind", "source": str(folder)}]
        self.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id, rootfs=rootfs, stdout=out.path))
        self.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        out.holds("this root")

    def test_a_root_of_an_unknown_kind_is_refused_by_name(self):
        id = self.record()
        rootfs = [{"type": "overlay", "source": "overlay", "options": ["lowerdir=/"]}]
        with expect(StatusCode.UNIMPLEMENTED, "overlay"):
            self.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id, rootfs=rootfs))
        with expect(StatusCode.NOT_FOUND):
            self.get(id)


if __name__ == "__main__":
    unittest.main()
