"""containerd.v1.ExecutionService of 2016: all thirteen calls, those too that no server of its time could answer."""

import unittest
from pathlib import Path

from grpc import StatusCode

from host import SOCKET, Fifo, WithSandbox, remove
from theca_client import Client, eventually, expect, pb

CREATED, RUNNING, STOPPED, PAUSED = range(4)


class Execution(WithSandbox):
    def setUp(self):
        super().setUp()
        self.service = self.theca.execution

    def create(self, *args, io=None, **changes):
        id = self.name()
        request = pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle(*args, **changes), **(io or {}))
        return id, self.service.CreateContainer(request)

    def start(self, id):
        self.service.StartContainer(pb.execution.StartContainerRequest(id=id))

    def running(self, *args, **more):
        id, _ = self.create(*args, **more)
        self.start(id)
        return id

    def get(self, id):
        return self.service.GetContainer(pb.execution.GetContainerRequest(id=id)).container

    def process(self, id, pid=0):
        return self.service.GetProcess(pb.execution.GetProcessRequest(container_id=id, pid=pid)).process

    def processes(self, id):
        answer = self.service.ListProcesses(pb.execution.ListProcessesRequest(container_id=id))
        return {process.pid: process for process in answer.processes}

    def add(self, id, *args, io=None, **process):
        process = pb.execution.Process(args=args, **process)
        request = pb.execution.StartProcessRequest(container_id=id, process=process, **(io or {}))
        return self.service.StartProcess(request).process

    def signal(self, id, signal, pid=0):
        self.service.SignalProcess(pb.execution.SignalProcessRequest(container_id=id, pid=pid, signal=signal))

    def stops(self, id):
        eventually(lambda: self.get(id).status == STOPPED)

    def test_a_container_is_created_started_and_deleted(self):
        out = Fifo(self)
        id, made = self.create("sh", "-c", "echo hello; exit 3", io={"stdout": out.path})
        self.assertEqual((made.container.id, made.container.status), (id, CREATED))
        self.assertEqual(list(made.initProcess.args), ["sh", "-c", "echo hello; exit 3"])
        self.assertEqual(made.initProcess.cwd, "/")
        self.assertTrue(Path(made.container.bundle).is_dir())
        self.start(id)
        out.holds("hello")
        self.stops(id)
        self.assertEqual(self.process(id).exit_status, 3)
        self.service.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))
        with expect(StatusCode.NOT_FOUND, f'container does not exist "{id}"'):
            self.get(id)

    def test_a_container_is_listed_where_it_stands(self):
        id = self.running()
        listed = lambda **request: {
            container.id: container.status
            for container in self.service.ListContainers(pb.execution.ListContainersRequest(**request)).containers
        }
        self.assertEqual(listed()[id], RUNNING)
        # It never had a meaning.
        self.assertEqual(listed(owner=["nobody"]), listed())
        self.service.PauseContainer(pb.execution.PauseContainerRequest(id=id))
        self.assertEqual((listed()[id], self.get(id).status), (PAUSED, PAUSED))
        self.service.ResumeContainer(pb.execution.ResumeContainerRequest(id=id))
        self.assertEqual(self.get(id).status, RUNNING)

    def test_a_process_is_started_signalled_and_forgotten(self):
        id = self.running()
        process = self.add(id, "sleep", "1000", env=["A=1"], cwd="/tmp", user={"uid": 5, "gid": 6})
        self.assertEqual((list(process.args), process.cwd, process.user.uid), (["sleep", "1000"], "/tmp", 5))
        self.assertEqual(self.process(id, process.pid), process)
        self.assertEqual(len(self.processes(id)), 2)
        self.signal(id, 15, pid=process.pid)
        eventually(lambda: self.process(id, process.pid).exit_status == 128 + 15)
        gone = pb.execution.DeleteProcessRequest(container_id=id, pid=process.pid)
        self.service.DeleteProcess(gone)
        self.assertNotIn(process.pid, self.processes(id))
        with expect(StatusCode.NOT_FOUND, str(process.pid)):
            self.service.DeleteProcess(gone)

    def test_a_process_without_a_user_is_roots_and_may_do_what_init_may(self):
        id, out = self.running(), Fifo(self)
        self.add(id, "sh", "-c", "id -u; grep CapEff /proc/1/status /proc/self/status", io={"stdout": out.path})
        out.holds("/proc/self/status")
        user, *sets = out.text().splitlines()
        self.assertEqual(user, "0")
        self.assertEqual(len({line.split()[-1] for line in sets}), 1, sets)

    def test_init_is_signalled_by_pid_0_or_its_own(self):
        for named in [lambda made: 0, lambda made: made.initProcess.pid]:
            id, made = self.create()
            self.start(id)
            self.signal(id, 9, pid=named(made))
            self.stops(id)

    def test_limits_are_taken_from_another_bundle(self):
        id = self.running(resources={"pids": {"limit": 44}})
        self.assertEqual(self.read(id, "/sys/fs/cgroup/pids.max"), "44")
        update = lambda bundle: self.service.UpdateContainer(
            pb.execution.UpdateContainerRequest(container_id=id, bundle_path=bundle)
        )
        update(self.bundle(resources={"pids": {"limit": 33}, "memory": {"limit": 48 << 20}}))
        self.assertEqual(self.read(id, "/sys/fs/cgroup/pids.max"), "33")
        self.assertEqual(self.read(id, "/sys/fs/cgroup/memory.max"), str(48 << 20))
        # What another bundle does not limit stays as it is.
        update(self.bundle())
        self.assertEqual(self.read(id, "/sys/fs/cgroup/pids.max"), "33")

    def read(self, id, path):
        """What a file of the container says."""
        out = Fifo(self)
        self.add(id, "sh", "-c", f"cat {path}; echo end", io={"stdout": out.path})
        out.holds("end\n")
        return out.text().removesuffix("end\n").strip()

    def test_unknown_containers_are_not_found_in_the_words_of_the_time(self):
        calls = [
            (self.service.StartContainer, pb.execution.StartContainerRequest(id="nobody")),
            (self.service.PauseContainer, pb.execution.PauseContainerRequest(id="nobody")),
            (self.service.ResumeContainer, pb.execution.ResumeContainerRequest(id="nobody")),
            (self.service.DeleteContainer, pb.execution.DeleteContainerRequest(id="nobody")),
            (self.service.GetContainer, pb.execution.GetContainerRequest(id="nobody")),
            (self.service.UpdateContainer, pb.execution.UpdateContainerRequest(container_id="nobody", bundle_path="/x")),
            (self.service.StartProcess, pb.execution.StartProcessRequest(container_id="nobody", process={"args": ["a"]})),
            (self.service.GetProcess, pb.execution.GetProcessRequest(container_id="nobody")),
            (self.service.SignalProcess, pb.execution.SignalProcessRequest(container_id="nobody", signal=9)),
            (self.service.DeleteProcess, pb.execution.DeleteProcessRequest(container_id="nobody")),
            (self.service.ListProcesses, pb.execution.ListProcessesRequest(container_id="nobody")),
        ]
        for call, request in calls:
            with self.subTest(type(request).__name__):
                with expect(StatusCode.NOT_FOUND, 'container does not exist "nobody"'):
                    call(request)

    def test_a_known_id_is_refused_in_the_words_of_the_time(self):
        id, _ = self.create()
        with expect(StatusCode.ALREADY_EXISTS, f'container "{id}" already exists'):
            self.service.CreateContainer(pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle()))

    def test_a_bundle_that_is_none_is_refused(self):
        broken = self.folder()
        (broken / "config.json").write_text("{")
        for path, words in [("", "empty bundle path"), ("relative", "absolute"), ("/nowhere", "config.json"), (str(broken), "specification")]:
            id = self.name()
            with self.subTest(path), expect(StatusCode.INVALID_ARGUMENT, words):
                self.service.CreateContainer(pb.execution.CreateContainerRequest(id=id, bundle_path=path))
            with self.subTest(path), expect(StatusCode.NOT_FOUND):
                self.get(id)
        id, _ = self.create()
        with expect(StatusCode.INVALID_ARGUMENT, "empty bundle path"):
            self.service.UpdateContainer(pb.execution.UpdateContainerRequest(container_id=id))

    def test_unknown_processes_are_not_found(self):
        id = self.running()
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.process(id, 77777)
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.signal(id, 9, pid=77777)
        with expect(StatusCode.NOT_FOUND, "77777", id):
            self.service.DeleteContainer(pb.execution.DeleteContainerRequest(id=id, pid=77777))

    def test_what_does_not_fit_the_state_is_refused(self):
        id, _ = self.create()
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.service.PauseContainer(pb.execution.PauseContainerRequest(id=id))
        with expect(StatusCode.FAILED_PRECONDITION, "not started"):
            self.add(id, "true")
        self.start(id)
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.start(id)
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.service.ResumeContainer(pb.execution.ResumeContainerRequest(id=id))
        with expect(StatusCode.FAILED_PRECONDITION, id):
            self.service.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))
        self.signal(id, 9)
        self.stops(id)
        with expect(StatusCode.NOT_FOUND, "already finished"):
            self.signal(id, 9)
        with expect(StatusCode.FAILED_PRECONDITION, "stopped"):
            self.add(id, "true")

    def test_a_process_that_is_none_is_refused(self):
        id = self.running()
        with expect(StatusCode.INVALID_ARGUMENT, "no process"):
            self.service.StartProcess(pb.execution.StartProcessRequest(container_id=id))
        with expect(StatusCode.INVALID_ARGUMENT, "arguments"):
            self.add(id)
        with expect(StatusCode.NOT_FOUND, "/bin/nothing"):
            self.add(id, "/bin/nothing")
        self.assertEqual(len(self.processes(id)), 1)

    def test_a_client_of_that_time_names_no_namespace(self):
        with Client(SOCKET, namespace=None) as nameless, Client(SOCKET, namespace="default") as default:
            id = self.name()
            bundle = self.bundle(sandbox=None)
            nameless.execution.CreateContainer(pb.execution.CreateContainerRequest(id=id, bundle_path=bundle))
            try:
                found = default.tasks.Get(pb.tasks.GetTaskRequest(container_id=id)).task
                self.assertEqual(found.container_id, id)
            finally:
                remove(default, id)


if __name__ == "__main__":
    unittest.main()
