"""Bounds that a client runs into, and what may not be executed: each with its code, through every interface that has it, and
nothing is left of what was refused."""

import json
import unittest

import ways
from google.protobuf.any_pb2 import Any
from grpc import StatusCode

from host import SOCKET, Case, WithSandbox, config, remove
from theca_client import Client, eventually, expect, oci_spec, pb

MIB = 1 << 20


class Records(Case):
    """One has at most 4 MiB, as it is kept."""

    def test_a_sandbox_that_is_too_large_is_not_kept(self):
        id, store = self.name(), self.theca.store
        huge = pb.sandbox_types.Sandbox(sandbox_id=id, spec=Any(type_url="example.Note", value=bytes(5 * MIB)))
        with expect(StatusCode.RESOURCE_EXHAUSTED, "the record has more than"):
            store.Create(pb.sandbox.StoreCreateRequest(sandbox=huge))
        get = pb.sandbox.StoreGetRequest(sandbox_id=id)
        with expect(StatusCode.NOT_FOUND, id):
            store.Get(get)
        made = store.Create(pb.sandbox.StoreCreateRequest(sandbox={"sandbox_id": id})).sandbox
        self.addCleanup(store.Delete, pb.sandbox.StoreDeleteRequest(sandbox_id=id))
        with expect(StatusCode.RESOURCE_EXHAUSTED, "the record has more than"):
            store.Update(pb.sandbox.StoreUpdateRequest(sandbox=huge, fields=["spec"]))
        self.assertEqual(store.Get(get).sandbox, made)

    def test_a_container_that_is_too_large_is_not_kept(self):
        id, store = self.name(), self.theca.containers
        huge = pb.containers.Container(id=id, spec=Any(type_url="example.Note", value=bytes(5 * MIB)))
        with expect(StatusCode.RESOURCE_EXHAUSTED, "the record has more than"):
            store.Create(pb.containers.CreateContainerRequest(container=huge))
        get = pb.containers.GetContainerRequest(id=id)
        with expect(StatusCode.NOT_FOUND, id):
            store.Get(get)
        made = store.Create(pb.containers.CreateContainerRequest(container={"id": id})).container
        self.addCleanup(store.Delete, pb.containers.DeleteContainerRequest(id=id))
        with expect(StatusCode.RESOURCE_EXHAUSTED, "the record has more than"):
            store.Update(pb.containers.UpdateContainerRequest(container=huge, update_mask={"paths": ["spec"]}))
        self.assertEqual(store.Get(get).container, made)


class Together(Case):
    """Records of one kind and namespace have at most 64 MiB, and one list 16."""

    #: As it is kept, in letters, a third more: short of a record's bound.
    NOTE = Any(type_url="example.Note", value=bytes(2900 << 10))

    def full(self):
        return self.enterContext(Client(SOCKET, namespace="full"))

    def fill(self, create, delete, list):
        made = []
        self.addCleanup(lambda: [delete(id) for id in made])

        def more(number):
            for _ in range(number):
                create(id := self.name())
                made.append(id)

        more(5)
        list()
        more(1)
        with expect(StatusCode.RESOURCE_EXHAUSTED, "more than 16 MiB", "filters"):
            list()
        with expect(StatusCode.RESOURCE_EXHAUSTED, "namespace full", "delete some"):
            more(20)
        self.assertIn(len(made), [16, 17])
        delete(made.pop())
        more(1)

    def test_sandboxes(self):
        full = self.full()
        store, here = full.store, lambda: full.store.List(pb.sandbox.StoreListRequest())
        record = lambda id: pb.sandbox_types.Sandbox(sandbox_id=id, spec=self.NOTE)
        create = lambda id: store.Create(pb.sandbox.StoreCreateRequest(sandbox=record(id)))
        delete = lambda id: store.Delete(pb.sandbox.StoreDeleteRequest(sandbox_id=id))
        self.fill(create, delete, here)

    def test_containers(self):
        full = self.full()
        store, here = full.containers, lambda: full.containers.List(pb.containers.ListContainersRequest())
        record = lambda id: pb.containers.Container(id=id, spec=self.NOTE)
        create = lambda id: store.Create(pb.containers.CreateContainerRequest(container=record(id)))
        delete = lambda id: store.Delete(pb.containers.DeleteContainerRequest(id=id))
        self.fill(create, delete, here)


class Specifications(WithSandbox):
    """One has at most 2 MiB, of a container as of a process."""

    def setUp(self):
        super().setUp()
        self.large = " " * (2 * MIB) + json.dumps(config(sandbox=self.sandbox))
        self.bundle_path = self.folder()
        (self.bundle_path / "config.json").write_text(self.large)

    def none(self, id):
        with expect(StatusCode.NOT_FOUND, id):
            self.theca.tasks.Get(pb.tasks.GetTaskRequest(container_id=id))

    def test_a_bundles(self):
        for call, request in [
            (self.theca.api.CreateContainer, lambda id, path: pb.api.CreateContainerRequest(id=id, bundlePath=path)),
            (
                self.theca.execution.CreateContainer,
                lambda id, path: pb.execution.CreateContainerRequest(id=id, bundle_path=path),
            ),
        ]:
            id = self.name()
            request = request(id, str(self.bundle_path))
            with self.subTest(type(request).__module__), expect(StatusCode.RESOURCE_EXHAUSTED, "config.json", "bytes"):
                call(request)
            self.none(id)

    def test_a_bundles_whose_limits_are_to_be_taken(self):
        id = self.name()
        ways.Execution(self).make(id, ["sleep", "1000"], "")
        request = pb.execution.UpdateContainerRequest(container_id=id, bundle_path=str(self.bundle_path))
        with expect(StatusCode.RESOURCE_EXHAUSTED, "config.json", "bytes"):
            self.theca.execution.UpdateContainer(request)

    def test_a_records(self):
        id = self.name()
        spec = oci_spec({})
        spec.value = self.large.encode()
        create = pb.containers.CreateContainerRequest(container={"id": id, "spec": spec})
        self.theca.containers.Create(create)
        with expect(StatusCode.RESOURCE_EXHAUSTED, "spec", "bytes"):
            self.theca.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id))
        self.none(id)

    def test_a_processs(self):
        id = self.name()
        ways.Execution(self).make(id, ["sleep", "1000"], "")
        for way in [ways.Api(self), ways.Execution(self), ways.Tasks(self)]:
            with self.subTest(type(way).__name__), expect(StatusCode.RESOURCE_EXHAUSTED, "process", "bytes"):
                way.add(id, ["true", "x" * (2 * MIB)])
        processes = self.theca.tasks.ListProcesses(pb.tasks.ListProcessesRequest(container_id=id)).processes
        self.assertEqual(len(processes), 1)


class Disks(WithSandbox):
    def test_a_sandbox_has_six_and_a_seventh_waits_for_the_end_of_one(self):
        # No other test has this sandbox.
        self.addCleanup(type(self)._end)
        made = [self.name() for _ in range(6)]
        for id in made:
            ways.Execution(self).make(id, ["sleep", "1000"], "")
        for way in [way(self) for way in ways.WAYS]:
            id = self.name()
            with self.subTest(type(way).__name__), expect(StatusCode.RESOURCE_EXHAUSTED, "no free disk slot", "6"):
                way.make(id, ["sleep", "1000"], "")
            with self.subTest(type(way).__name__):
                self.assertIsNone(way.sees(id))
        remove(self.theca, made[0])
        id, way = self.name(), ways.Tasks(self)
        way.make(id, ["sleep", "1000"], "")
        self.assertEqual(way.sees(id)[0], ways.RUNNING)


class NotExecutable(WithSandbox):
    """A file without a permission to, and a folder."""

    PROGRAMS = ["/proc/version", "/etc"]

    def refused(self, way):
        way = way(self)
        for program in self.PROGRAMS:
            id = self.name()
            with self.subTest(program), expect(StatusCode.PERMISSION_DENIED, program):
                way.make(id, [program], "")
            if way.ends_with_init:
                eventually(lambda: way.sees(id) is None)
            remove(self.theca, id)
        id = self.name()
        way.make(id, ["sleep", "1000"], "")
        for program in self.PROGRAMS:
            with self.subTest(program, added=True), expect(StatusCode.PERMISSION_DENIED, program):
                way.add(id, [program])
        self.assertEqual(way.sees(id)[0], ways.RUNNING)
        processes = self.theca.tasks.ListProcesses(pb.tasks.ListProcessesRequest(container_id=id)).processes
        self.assertEqual(len(processes), 1, "a process that did not start stays")

    def test_of_a_container_or_process_of_2015(self):
        self.refused(ways.Api)

    def test_of_a_container_or_process_of_2016(self):
        self.refused(ways.Execution)

    def test_of_a_task_or_process_of_2017(self):
        self.refused(ways.Tasks)

    def test_of_a_container_or_process_of_a_shim(self):
        self.refused(ways.Shim)


class ForeignTypes(WithSandbox):
    """An Any of a type that is not known, or none, where a specification must be."""

    FOREIGN = Any(type_url="example.Note", value=b"{}")

    def test_a_record_without_a_specification_makes_no_task(self):
        for words, container in [("has no spec", {}), ("example.Note", {"spec": self.FOREIGN})]:
            id = self.name()
            self.theca.containers.Create(pb.containers.CreateContainerRequest(container={"id": id, **container}))
            with self.subTest(words), expect(StatusCode.INVALID_ARGUMENT, id, words):
                self.theca.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id))
            with self.subTest(words), expect(StatusCode.NOT_FOUND, id):
                self.theca.tasks.Get(pb.tasks.GetTaskRequest(container_id=id))

    def test_a_shim_adds_no_process(self):
        id = self.name()
        ways.Shim(self).make(id, ["sleep", "1000"], "")
        for foreign in [self.FOREIGN, oci_spec({"args": ["true"]})]:
            with self.subTest(foreign.type_url), expect(StatusCode.INVALID_ARGUMENT, foreign.type_url, "Process"):
                self.shim(id).Exec(pb.shim.ExecRequest(spec=foreign))


if __name__ == "__main__":
    unittest.main()
