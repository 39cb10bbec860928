"""One state machine: a container that was made through one interface is seen, signalled and deleted through the others."""

import unittest

from grpc import StatusCode

import ways
from host import BOOT, SOCKET, Case, Fifo, Reader, WithSandbox, once, remove, shutdown, start
from theca_client import Client, eventually, expect, pb

load_tests = once

#: Tells which signals it has had.
INIT = "for n in 10 12 14 15; do trap \"echo got $n.\" $n; done; echo up; while :; do sleep 0.1; done"
SIGNALS = [10, 12, 14, 15]


class EveryPair(WithSandbox):
    """A container of each interface is seen, signalled, paused and resumed through every other, and deleted through each
    that has a Delete."""

    def setUp(self):
        super().setUp()
        self.ways = [way(self) for way in ways.WAYS]

    def sees(self, id, seen):
        for way in self.ways:
            self.assertEqual(way.sees(id), seen, type(way).__name__)

    def goes_through(self, maker):
        maker = next(way for way in self.ways if type(way) is maker)
        for other in self.ways:
            if other is maker or not hasattr(other, "delete"):
                continue
            with self.subTest(type(other).__name__):
                id, out = self.name(), Fifo(self)
                self.sees(id, None)
                pid = maker.make(id, ["sh", "-c", INIT], out.path)
                out.holds("up\n")
                self.sees(id, (ways.RUNNING, pid))
                for way, signal in zip(self.ways, SIGNALS, strict=True):
                    way.signal(id, signal)
                    out.holds(f"got {signal}.\n")
                other.pause(id)
                self.sees(id, (ways.PAUSED, pid))
                maker.resume(id)
                self.sees(id, (ways.RUNNING, pid))
                maker.pause(id)
                other.resume(id)
                self.sees(id, (ways.RUNNING, pid))
                other.signal(id, 9)
                if maker.ends_with_init:
                    eventually(lambda: other.sees(id) is None)
                else:
                    eventually(lambda: other.sees(id) == (ways.STOPPED, pid))
                    for way in self.ways:
                        self.assertEqual(way.sees(id)[0], ways.STOPPED, type(way).__name__)
                    self.assertIn(other.delete(id), [None, 137])
                self.sees(id, None)

    def test_a_container_of_2015(self):
        self.goes_through(ways.Api)

    def test_a_container_of_2016(self):
        self.goes_through(ways.Execution)

    def test_a_task_of_2017(self):
        self.goes_through(ways.Tasks)

    def test_a_container_of_a_shim(self):
        self.goes_through(ways.Shim)

    def test_an_id_may_have_76_characters(self):
        for maker in self.ways:
            with self.subTest(type(maker).__name__):
                id = self.name(length=76)
                self.assertEqual(len(id), 76)
                pid = maker.make(id, ["sleep", "1000"], "")
                self.sees(id, (ways.RUNNING, pid))
                maker.signal(id, 9)
                # Also the one whose init's end was that.
                remove(self.theca, id)
                self.sees(id, None)

    def test_a_sandbox_takes_the_containers_of_all_with_it(self):
        # No other test has this sandbox afterwards.
        self.addCleanup(type(self)._end)
        events = Reader(self, self.theca.api.Events(pb.api.EventsRequest(), timeout=300))
        ids = [self.name() for _ in self.ways]
        for way, id in zip(self.ways, ids, strict=True):
            way.make(id, ["sleep", "1000"], "")
        request = pb.sandbox.ControllerShutdownRequest(sandbox_id=self.sandbox)
        self.theca.controller.Shutdown(request, timeout=BOOT)
        for id in ids:
            for way in self.ways[:3]:
                self.assertIsNone(way.sees(id), type(way).__name__)
            with self.assertRaises(FileNotFoundError):
                self.shim(id)
            events.has(lambda event: (event.id, event.type, event.status) == (id, "exit", 137))


class LongNames(Case):
    def test_a_sandbox_may_have_76_characters(self):
        id = self.name("s", length=76)
        start(self.theca, id)
        self.assertGreater(self.theca.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id)).pid, 0)
        shutdown(self.theca, id)

    def test_so_may_its_namespace(self):
        with Client(SOCKET, namespace="n" * 76) as client:
            id = self.name("s", length=76)
            start(client, id)
            status = client.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id))
            self.assertIn(status.state, ["SANDBOX_READY", "ready"])
            shutdown(client, id)


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
