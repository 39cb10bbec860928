"""One state machine: a container that was made through one interface is seen, signalled and deleted through the others."""

import unittest

from grpc import StatusCode

from host import Reader, WithSandbox
from theca_client import eventually, expect, pb


class Across(WithSandbox):
    def test_a_container_of_2016_in_2015_and_2017(self):
        id = self.name()
        events = Reader(self, self.theca.api.Events(pb.api.EventsRequest(), timeout=300))
        request = pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle())
        pid = self.theca.execution.CreateContainer(request).initProcess.pid
        task = lambda: self.theca.tasks.Get(pb.tasks.GetTaskRequest(container_id=id)).task
        self.assertEqual((task().pid, task().status), (pid, pb.task_types.CREATED))

        self.theca.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        event = events.has(lambda event: event.id == id)
        self.assertEqual((event.type, event.pid), ("start-container", pid))
        self.assertEqual(self.state(id), "running")

        self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="paused"))
        self.assertEqual(task().status, pb.task_types.PAUSED)
        self.theca.execution.ResumeContainer(pb.execution.ResumeContainerRequest(id=id))
        self.assertEqual(self.state(id), "running")

        added = self.theca.api.AddProcess(pb.api.AddProcessRequest(id=id, args=["sleep", "1000"])).pid
        found = self.theca.execution.GetProcess(pb.execution.GetProcessRequest(container_id=id, pid=added)).process
        self.assertEqual(list(found.args), ["sleep", "1000"])
        self.theca.tasks.Kill(pb.tasks.KillRequest(container_id=id, signal=15, pid=added))
        events.has(lambda event: (event.id, event.type, event.pid) == (id, "exit", added))

        self.theca.api.Signal(pb.api.SignalRequest(id=id, signal=9))
        eventually(lambda: task().status == pb.task_types.STOPPED)
        self.assertEqual(self.state(id), "stopped")
        self.theca.execution.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))
        with expect(StatusCode.NOT_FOUND, id):
            task()
        self.assertIsNone(self.state(id))

    def test_a_container_of_2015_is_signalled_in_2017_and_gone_everywhere(self):
        id = self.name()
        self.theca.api.CreateContainer(pb.api.CreateContainerRequest(id=id, bundlePath=self.bundle()))
        with expect(StatusCode.ALREADY_EXISTS, id):
            request = pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle())
            self.theca.execution.CreateContainer(request)
        self.theca.tasks.Kill(pb.tasks.KillRequest(container_id=id, signal=9))
        eventually(lambda: self.state(id) is None)
        with expect(StatusCode.NOT_FOUND, id):
            self.theca.execution.GetContainer(pb.execution.GetContainerRequest(id=id))

    def test_counters_survive_the_exit_until_delete(self):
        id = self.name()
        self.theca.execution.CreateContainer(pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle("true")))
        self.theca.execution.StartContainer(pb.execution.StartContainerRequest(id=id))
        get = pb.execution.GetContainerRequest(id=id)
        eventually(lambda: self.theca.execution.GetContainer(get).container.status == pb.execution.STOPPED)
        stats = self.theca.api.GetStats(pb.api.StatsRequest(id=id))
        self.assertGreater(next(stats).cgroup_stats.cpu_stats.cpu_usage.total_usage, 0)
        stats.cancel()
        self.theca.execution.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))
        with expect(StatusCode.NOT_FOUND, id):
            next(self.theca.api.GetStats(pb.api.StatsRequest(id=id)))

    def test_a_container_without_a_sandbox_has_one_of_its_own(self):
        id = self.name()
        bundle = self.bundle(sandbox=None)
        self.theca.execution.CreateContainer(pb.execution.CreateContainerRequest(id=id, bundle_path=bundle))
        self.theca.execution.StartContainer(pb.execution.StartContainerRequest(id=id))
        status = self.theca.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id))
        self.assertGreater(status.pid, 0)
        self.theca.execution.SignalProcess(pb.execution.SignalProcessRequest(container_id=id, signal=9))
        get = pb.execution.GetContainerRequest(id=id)
        eventually(lambda: self.theca.execution.GetContainer(get).container.status == pb.execution.STOPPED)
        self.theca.execution.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))

        def sandbox_is_gone():
            with expect(StatusCode.NOT_FOUND, id):
                self.theca.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id))
            return True

        eventually(sandbox_is_gone)

    def state(self, id):
        """The container's status in 2015's words; None if it is not there."""
        containers = self.theca.api.State(pb.api.StateRequest()).containers
        return next((container.status for container in containers if container.id == id), None)


if __name__ == "__main__":
    unittest.main()
