"""Answers that nobody reads: others get everything, memory is bounded, and what was not read waits.

That a reader who is 4096 events behind is told so takes more events than a VM in a test host causes in a quarter of an hour:
`offline/test_overflow.py` asks it of thecad over pretended VMs.
"""

import unittest

from google.protobuf.any_pb2 import Any
from grpc import RpcError, StatusCode

from deaf import Deaf
from host import SOCKET, Case, Reader, WithSandbox, once, resident, server, thecad
from test_shim import Calls
from test_shim_events import CREATE, EXEC_ADDED, EXIT, START
from theca_client import Client, Shim, eventually, expect, open_shim, pb

load_tests = once

#: So little of a stream leaves thecad before it is read; a message is longer.
WINDOW = 16
#: Unread answers are kept up to so many MiB for all connections, for each a quarter of that.
UNREAD = 128
CONNECTIONS = 6


class SlowReaders(WithSandbox):
    def setUp(self):
        super().setUp()
        self.lazy = self.enterContext(Client(SOCKET, namespace="tests", timeout=600, window=WINDOW))

    def unread(self, stream):
        stream.initial_metadata()
        self.addCleanup(stream.cancel)
        return stream

    def told(self, events):
        return [(event.type, event.id) for event in events]

    def running(self, *args):
        id = self.name()
        create = pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle(*args))
        self.theca.execution.CreateContainer(create)
        self.theca.execution.StartContainer(pb.execution.StartContainerRequest(id=id))
        return id

    def others_go_on(self, id):
        """On the connection of those that do not read."""
        state = self.lazy.api.State(pb.api.StateRequest(), timeout=30)
        self.assertIn((id, "running"), [(container.id, container.status) for container in state.containers])

    def test_what_a_reader_has_not_read_waits_for_it(self):
        streams = [self.unread(self.lazy.api.Events(pb.api.EventsRequest())) for _ in range(50)]
        quick = Reader(self, self.theca.api.Events(pb.api.EventsRequest(), timeout=600))
        before = resident(thecad())
        id = self.name()
        self.theca.api.CreateContainer(pb.api.CreateContainerRequest(id=id, bundlePath=self.bundle()))
        for _ in range(10):
            self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="paused"))
            self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="running"))
        wanted = [("start-container", id), *[("pause", id), ("resume", id)] * 10]
        eventually(lambda: self.told(quick.messages) == wanted)
        self.others_go_on(id)
        self.assertLess(resident(thecad()) - before, 16)
        for stream in streams:
            self.assertEqual(self.told(next(stream) for _ in wanted), wanted)

    def test_samples_that_nobody_reads_are_not_taken(self):
        id = self.running()
        ask = pb.api.StatsRequest(id=id)
        before = resident(thecad())
        streams = [self.unread(self.lazy.api.GetStats(ask)) for _ in range(30)]
        quick = Reader(self, self.theca.api.GetStats(ask, timeout=600))
        eventually(lambda: len(quick.messages) >= 8, timeout=120)
        self.others_go_on(id)
        self.assertLess(resident(thecad()) - before, 16)
        self.theca.execution.SignalProcess(pb.execution.SignalProcessRequest(container_id=id, signal=9))
        get = pb.execution.GetContainerRequest(id=id)
        eventually(lambda: self.theca.execution.GetContainer(get).container.status == pb.execution.STOPPED)
        self.theca.execution.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))
        eventually(lambda: not quick._thread.is_alive(), timeout=60)
        for stream in streams:
            # What had been taken, and the end.
            self.assertIn(len(list(stream)), range(1, len(quick.messages)))


class SlowConsumers(Calls, WithSandbox):
    def test_events_of_a_shim_wait_for_whoever_does_not_read_them(self):
        id, shim = self.endpoint()
        path = open_shim(self.keeper(), id)
        lazy = self.enterContext(Shim(path, namespace=None, timeout=600, window=WINDOW))
        stream = lazy.Events(pb.shim.EventsRequest())
        stream.initial_metadata()
        self.addCleanup(stream.cancel)
        _, other = self.endpoint()
        others = Reader(self, other.Events(pb.shim.EventsRequest(), timeout=600))
        before = resident(server(path))
        init = self.create(shim)
        shim.Start(pb.shim.StartRequest())
        wanted = [(CREATE, init), (START, init)]
        for _ in range(20):
            pid = self.exec(shim, "true")
            wanted += [(EXEC_ADDED, pid), (EXIT, pid)]
            eventually(lambda pid=pid: self.processes(shim)[pid].status == pb.task_types.STOPPED)
        pid = self.create(other)
        eventually(lambda: [(event.type, event.pid) for event in others.messages] == [(CREATE, pid)])
        # On the connection of the one that does not read.
        self.assertEqual(lazy.State(pb.shim.StateRequest(), timeout=30).pid, init)
        self.assertLess(resident(server(path)) - before, 8)
        told = [next(stream) for _ in wanted]
        self.assertEqual([(event.type, event.pid) for event in told], wanted)


class DeafClients(Case):
    """Whoever asks for lists and reads none."""

    LISTS = {
        "/containerd.services.tasks.v1.Tasks/List": pb.tasks.ListTasksRequest(),
        "/containerd.v1.ExecutionService/ListContainers": pb.execution.ListContainersRequest(),
        "/types.API/State": pb.api.StateRequest(),
        "/containerd.services.containers.v1.Containers/List": pb.containers.ListContainersRequest(),
        "/containerd.services.sandbox.v1.Store/List": pb.sandbox.StoreListRequest(),
    }

    def deaf(self):
        client = Deaf(SOCKET, "tests")
        self.addCleanup(client.close)
        return client

    def others_go_on(self):
        for _ in range(20):
            self.theca.tasks.List(pb.tasks.ListTasksRequest(), timeout=30)

    def test_many_short_lists_take_little(self):
        before = resident(thecad())
        deaf = self.deaf()
        for _ in range(200):
            for method, request in self.LISTS.items():
                deaf.ask(method, request)
        self.others_go_on()
        self.assertLess(resident(thecad()) - before, 32)

    def test_long_lists_take_no_more_than_a_bound(self):
        note = Any(type_url="example.Note", value=bytes(2 << 20))
        for _ in range(4):
            id = self.name()
            self.theca.store.Create(pb.sandbox.StoreCreateRequest(sandbox={"sandbox_id": id, "spec": note}))
            self.addCleanup(self.theca.store.Delete, pb.sandbox.StoreDeleteRequest(sandbox_id=id))
        before = resident(thecad())
        method = "/containerd.services.sandbox.v1.Store/List"
        deaf = [self.deaf() for _ in range(CONNECTIONS)]
        for client in deaf:
            for _ in range(15):
                client.ask(method, self.LISTS[method])
            self.others_go_on()
        # And as much again for what is being answered.
        self.assertLess(resident(thecad()) - before, 2 * UNREAD)
        # All that may be kept is: who would read it is refused, and told why, until one of the deaf has gone.
        with expect(StatusCode.RESOURCE_EXHAUSTED, "all answers", "128 MiB"):
            self.theca.store.List(pb.sandbox.StoreListRequest())
        deaf[0].close()
        eventually(lambda: len(self.listed().list) >= 4)

    def listed(self):
        try:
            return self.theca.store.List(pb.sandbox.StoreListRequest())
        except RpcError as refused:
            raise AssertionError(refused.details()) from refused


if __name__ == "__main__":
    unittest.main()
