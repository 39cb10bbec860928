"""What a server built from our definitions tells by reflection is what was published."""

import tempfile
import unittest
from pathlib import Path

import grpc
import rust
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from theca_client import connect, eventually, pb

OF_THE_ENDPOINT = [pb.api, pb.containers, pb.execution, pb.sandbox, pb.tasks]
OF_A_CONTAINER = [pb.shim]


def services(modules):
    return {one.full_name: one for module in modules for one in module.DESCRIPTOR.services_by_name.values()}


def shape(service):
    """The service's methods: names, messages and what streams."""
    return [
        (one.name, one.input_type.full_name, one.output_type.full_name, one.client_streaming, one.server_streaming)
        for one in service.methods
    ]


@rust.needed
class Reflection(unittest.TestCase):
    def ask(self, endpoint):
        socket = Path(self.enterContext(tempfile.TemporaryDirectory())) / "theca.sock"
        server = rust.start("reflection", endpoint, socket)
        self.addCleanup(server.wait, timeout=30)
        self.addCleanup(server.terminate)
        eventually(socket.exists)
        channel = self.enterContext(connect(socket))
        grpc.channel_ready_future(channel).result(timeout=30)
        return ProtoReflectionDescriptorDatabase(channel)

    def check(self, endpoint, modules):
        database = self.ask(endpoint)
        published = services(modules)
        self.assertLessEqual(set(published), set(database.get_services()))
        told = DescriptorPool(database)
        for name, service in published.items():
            self.assertEqual(sorted(shape(told.FindServiceByName(name))), sorted(shape(service)), name)

    def test_an_endpoint_of_thecad(self):
        self.check(pb.ENDPOINT, OF_THE_ENDPOINT)

    def test_the_endpoint_of_a_container(self):
        self.check("shim", OF_A_CONTAINER)
