"""The client library against a server in Python: the header, the bound, refusals."""

import concurrent.futures
import tempfile
import unittest
from pathlib import Path

import grpc
from grpc import StatusCode

from theca_client import Client, eventually, expect, oci_process, pack, pb, unpack


class Tasks(pb.tasks_grpc.TasksServicer):
    """Answers Get with the caller's namespace, and knows no container to kill."""

    def Get(self, request, context):
        headers = dict(context.invocation_metadata())
        namespace = headers.get("containerd-namespace", "")
        left = context.time_remaining()
        return pb.tasks.GetTaskResponse(task={"id": namespace, "container_id": request.container_id, "pid": int(left)})

    def Kill(self, request, context):
        context.abort(StatusCode.NOT_FOUND, f"no container is called {request.container_id}")

    def Pause(self, request, context):
        context.abort(StatusCode.INTERNAL, "oops")


class API(pb.api_grpc.APIServicer):
    def Events(self, request, context):
        yield pb.api.Event(type="start-container", id=dict(context.invocation_metadata())["containerd-namespace"])
        context.abort(StatusCode.DATA_LOSS, "the reader was too slow")


class OverAUnixSocket(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.socket = Path(folder) / "thecad.sock"
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        pb.tasks_grpc.add_TasksServicer_to_server(Tasks(), server)
        pb.api_grpc.add_APIServicer_to_server(API(), server)
        server.add_insecure_port(f"unix:{self.socket}")
        server.start()
        self.addCleanup(lambda: server.stop(None).wait())
        self.theca = self.enterContext(Client(self.socket, namespace="tests", timeout=30))

    def get(self, client, **call):
        return client.tasks.Get(pb.tasks.GetTaskRequest(container_id="web"), **call).task

    def test_every_call_names_the_namespace(self):
        self.assertEqual(self.get(self.theca).id, "tests")
        self.assertEqual(next(self.theca.api.Events(pb.api.EventsRequest())).id, "tests")
        with Client(self.socket) as another:
            self.assertEqual(self.get(another).id, "default")
        with Client(self.socket, namespace=None) as nameless:
            self.assertEqual(self.get(nameless).id, "")

    def test_every_call_is_bounded(self):
        self.assertIn(self.get(self.theca).pid, range(25, 31))
        self.assertIn(self.get(self.theca, timeout=300).pid, range(290, 301))

    def test_a_refusal_is_held_to_its_code_and_its_words(self):
        kill = pb.tasks.KillRequest(container_id="web", signal=9)
        with expect(StatusCode.NOT_FOUND, "container", "web") as refusal:
            self.theca.tasks.Kill(kill)
        self.assertEqual(refusal.text, "no container is called web")
        with expect(StatusCode.DATA_LOSS, "slow"):
            list(self.theca.api.Events(pb.api.EventsRequest()))

        with self.assertRaisesRegex(AssertionError, "expected ALREADY_EXISTS, got NOT_FOUND"):
            with expect(StatusCode.ALREADY_EXISTS):
                self.theca.tasks.Kill(kill)
        with self.assertRaisesRegex(AssertionError, "without \\['db'\\]"):
            with expect(StatusCode.NOT_FOUND, "db"):
                self.theca.tasks.Kill(kill)
        with self.assertRaisesRegex(AssertionError, "no sentence"):
            with expect(StatusCode.INTERNAL):
                self.theca.tasks.Pause(pb.tasks.PauseTaskRequest())
        with self.assertRaisesRegex(AssertionError, "was answered"):
            with expect(StatusCode.NOT_FOUND):
                self.get(self.theca)

    def test_a_server_that_is_not_there_is_unavailable(self):
        with Client(self.socket.with_name("nobody.sock")) as theca:
            with expect(StatusCode.UNAVAILABLE):
                self.get(theca)


class Anys(unittest.TestCase):
    def test_a_message_is_packed_under_its_bare_name(self):
        options = pb.options.SandboxOptions(vcpus=2, memory_bytes=1 << 28)
        packed = pack(options)
        self.assertEqual(packed.type_url, "theca.options.v1.SandboxOptions")
        self.assertEqual(unpack(packed, pb.options.SandboxOptions), options)
        with self.assertRaisesRegex(AssertionError, "expected runtime.v1.PodSandboxConfig"):
            unpack(packed, pb.cri.PodSandboxConfig)

    def test_an_oci_document_is_json(self):
        packed = oci_process({"args": ["true"]})
        self.assertEqual(packed.type_url, "types.containerd.io/opencontainers/runtime-spec/1/Process")
        self.assertEqual(packed.value, b'{"args": ["true"]}')


class Waiting(unittest.TestCase):
    def test_what_comes_late_is_waited_for_and_what_never_comes_is_told(self):
        answers = iter([0, 0, 7])
        self.assertEqual(eventually(lambda: next(answers), interval=0), 7)

        def never():
            raise AssertionError("the sandbox is still there")

        with self.assertRaisesRegex(AssertionError, "not within 0 s: the sandbox is still there"):
            eventually(never, timeout=0)
