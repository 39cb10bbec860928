"""What a hostile or careless client may send: the right code, a sentence, bounded memory, and everybody else goes on."""

import concurrent.futures
import unittest

import grpc
from grpc import StatusCode

from calls import calls
from host import BOOT, SOCKET, Case, WithSandbox, resident, shutdown, start, thecad
from theca_client import Client, eventually, expect, pb


class Namespaces(Case):
    def calls(self, client):
        """One harmless call of each interface."""
        return {
            "types.API": lambda: client.api.State(pb.api.StateRequest()),
            "ExecutionService": lambda: client.execution.ListContainers(pb.execution.ListContainersRequest()),
            "Tasks": lambda: client.tasks.List(pb.tasks.ListTasksRequest()),
            "Containers": lambda: client.containers.List(pb.containers.ListContainersRequest()),
            "Store": lambda: client.store.List(pb.sandbox.StoreListRequest()),
            "Controller": lambda: client.controller.Shutdown(pb.sandbox.ControllerShutdownRequest(sandbox_id="nobody")),
        }

    def test_a_namespace_that_is_a_path_is_refused_everywhere(self):
        for namespace in ["a/b", "../x", "..", "/", "x" * 77, "a b"]:
            with Client(SOCKET, namespace=namespace) as client:
                for name, call in self.calls(client).items():
                    with self.subTest(name, namespace=namespace), expect(StatusCode.INVALID_ARGUMENT, "namespace"):
                        call()

    def test_interfaces_since_there_are_namespaces_ask_for_one(self):
        with Client(SOCKET, namespace=None) as client:
            for name, call in self.calls(client).items():
                with self.subTest(name):
                    if name in ["types.API", "ExecutionService"]:
                        call()
                    else:
                        with expect(StatusCode.FAILED_PRECONDITION, "containerd-namespace"):
                            call()


class Ids(Case):
    """Of every call, by the endpoint's definitions."""

    #: What could leave a folder, is none, or is too long.
    BAD = ["", "..", "../x", "a/b", "/", "-x", "a b", "a\0b", "x" * 77]

    def test_one_that_is_none_is_refused_by_every_call_that_takes_one(self):
        for call in calls():
            for id in self.BAD if call.id else []:
                with self.subTest(call.name, id=id):
                    # These never look at it.
                    if "Checkpoint" in call.name:
                        with expect(StatusCode.UNIMPLEMENTED, "checkpoint"):
                            call(self.theca, call.request(id))
                    else:
                        with expect(StatusCode.INVALID_ARGUMENT, f"{call.kind} id"):
                            call(self.theca, call.request(id))

    def test_these_calls_take_none(self):
        without = {call.name.rpartition(".")[2] for call in calls() if not call.id}
        self.assertEqual(without - {"ListStream"}, {"State", "Events", "List", "ListContainers"})


class Sizes(Case):
    def test_a_message_of_64_mib_is_refused_unread_by_every_call(self):
        before = resident(thecad())
        huge = bytes(64 << 20)
        for call in calls():
            with self.subTest(call.name), expect(StatusCode.RESOURCE_EXHAUSTED, "too large", "16 MiB"):
                call(self.theca, huge)
        self.assertLess(resident(thecad()) - before, 32)
        self.theca.store.List(pb.sandbox.StoreListRequest())

    def test_a_text_that_is_quoted_back_is_bounded(self):
        long = "x" * 100_000
        with expect(StatusCode.INVALID_ARGUMENT, "xxx") as refusal:
            self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id="web", status=long))
        self.assertLess(len(refusal.text), 4000)
        with expect(StatusCode.INVALID_ARGUMENT):
            self.theca.store.List(pb.sandbox.StoreListRequest(filters=[f"id={long}"]))
        with expect(StatusCode.INVALID_ARGUMENT):
            self.theca.store.Get(pb.sandbox.StoreGetRequest(sandbox_id=long))

    def test_bytes_that_are_no_message_are_refused(self):
        call = self.theca.channel.unary_unary(
            "/containerd.services.tasks.v1.Tasks/Get",
            request_serializer=lambda raw: raw,
            response_deserializer=lambda raw: raw,
        )
        for garbage in [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"]:
            with self.subTest(garbage), self.assertRaises(grpc.RpcError) as refused:
                call(garbage)
            self.assertIn(refused.exception.code(), [StatusCode.INTERNAL, StatusCode.INVALID_ARGUMENT])

    def test_calls_that_are_none_are_unimplemented(self):
        for path in ["/containerd.services.tasks.v1.Tasks/Nothing", "/example.Nothing/Nothing"]:
            call = self.theca.channel.unary_unary(
                path, request_serializer=lambda raw: raw, response_deserializer=lambda raw: raw
            )
            with self.subTest(path), self.assertRaises(grpc.RpcError) as refused:
                call(b"")
            self.assertIs(refused.exception.code(), StatusCode.UNIMPLEMENTED)


class Crowds(WithSandbox):
    def test_a_thousand_waiters_hear_of_the_end_and_hold_up_nobody(self):
        id = self.name("s")
        self.addCleanup(shutdown, self.theca, id)
        start(self.theca, id)
        before = resident(thecad())
        with Client(SOCKET, namespace="tests", timeout=600) as crowd:
            wait = pb.sandbox.ControllerWaitRequest(sandbox_id=id)
            waiters = [crowd.controller.Wait.future(wait) for _ in range(1000)]
            # On the connection of the waiters.
            crowd.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=id), timeout=30)
            self.assertLess(resident(thecad()) - before, 32)
            self.assertFalse(any(waiter.done() for waiter in waiters))
            shutdown(crowd, id)
            exits = {waiter.result(timeout=BOOT).exit_status for waiter in waiters}
        self.assertEqual(exits, {0})

    def test_waiters_that_go_leave_nothing(self):
        before = resident(thecad())
        for _ in range(10):
            with Client(SOCKET, namespace="tests") as crowd:
                wait = pb.sandbox.ControllerWaitRequest(sandbox_id=self.sandbox)
                waiters = [crowd.controller.Wait.future(wait) for _ in range(100)]
                crowd.controller.Status(pb.sandbox.ControllerStatusRequest(sandbox_id=self.sandbox))
                del waiters
        eventually(lambda: resident(thecad()) - before < 16)

    def test_many_clients_at_once(self):
        def visit(number):
            with Client(SOCKET, namespace="tests") as client:
                with expect(StatusCode.NOT_FOUND, f"nobody-{number}"):
                    client.tasks.Get(pb.tasks.GetTaskRequest(container_id=f"nobody-{number}"))
                return True

        with concurrent.futures.ThreadPoolExecutor(20) as threads:
            self.assertTrue(all(threads.map(visit, range(200))))


class AlreadyThere(WithSandbox):
    def test_a_duplicate_of_each_kind_is_refused_and_changes_nothing(self):
        id = self.name()
        create = pb.execution.CreateContainerRequest(id=id, bundle_path=self.bundle())
        self.theca.execution.CreateContainer(create)
        with concurrent.futures.ThreadPoolExecutor(10) as threads:
            refused = [threads.submit(self.theca.execution.CreateContainer, create) for _ in range(10)]
            codes = {call.exception().code() for call in refused}
        self.assertEqual(codes, {StatusCode.ALREADY_EXISTS})
        self.theca.execution.StartContainer(pb.execution.StartContainerRequest(id=id))

    def test_of_many_that_want_an_id_one_gets_it(self):
        id, bundle = self.name(), self.bundle()
        create = pb.execution.CreateContainerRequest(id=id, bundle_path=bundle)
        with concurrent.futures.ThreadPoolExecutor(10) as threads:
            calls = [threads.submit(self.theca.execution.CreateContainer, create) for _ in range(10)]
            failures = [call.exception() for call in calls if call.exception()]
        self.assertEqual(len(failures), 9)
        self.assertEqual({failure.code() for failure in failures}, {StatusCode.ALREADY_EXISTS})


if __name__ == "__main__":
    unittest.main()
