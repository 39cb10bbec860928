"""What a server built from our definitions tells by reflection is what was published."""

import tempfile
import unittest
from pathlib import Path

import grpc
import rust

from theca_client import connect, eventually, pb
from theca_client.reflection import OF_A_CONTAINER, OF_THE_ENDPOINT, tells_what_was_published


@rust.needed
class Reflection(unittest.TestCase):
    def check(self, endpoint, modules):
        socket = Path(self.enterContext(tempfile.TemporaryDirectory())) / "theca.sock"
        server = rust.start("reflection", endpoint, socket)
        self.addCleanup(server.wait, timeout=30)
        self.addCleanup(server.terminate)
        eventually(socket.exists)
        channel = self.enterContext(connect(socket))
        grpc.channel_ready_future(channel).result(timeout=30)
        tells_what_was_published(self, channel, modules)

    def test_an_endpoint_of_thecad(self):
        self.check(pb.ENDPOINT, OF_THE_ENDPOINT)

    def test_the_endpoint_of_a_container(self):
        self.check("shim", OF_A_CONTAINER)
