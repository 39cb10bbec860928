"""A reader of events that is too far behind: thecad's services over pretended VMs, since real ones cause events too slowly
for one ever to be."""

import tempfile
import unittest
from pathlib import Path

import grpc
import rust
from grpc import StatusCode

from theca_client import Client, eventually, expect, pb

#: So many events of a namespace are kept for those that read them (docs/interfaces/api-2015.md).
KEPT = 4096
#: So little of a stream leaves the server before it is read; a message is longer.
WINDOW = 16
#: Each of them is two events.
ROUNDS = KEPT // 2 + 50


@rust.needed
class Overflow(unittest.TestCase):
    def setUp(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        socket = folder / "theca.sock"
        server = rust.start("on_fakes", pb.ENDPOINT, socket, package="theca-api", features="daemon")
        self.addCleanup(server.wait, timeout=30)
        self.addCleanup(server.terminate)
        eventually(socket.exists)
        (folder / "config.json").write_text("{}")
        self.theca = self.enterContext(Client(socket))
        self.lazy = self.enterContext(Client(socket, window=WINDOW))
        self.theca.api.CreateContainer(pb.api.CreateContainerRequest(id="web", bundlePath=str(folder)))

    def events(self, client):
        stream = client.api.Events(pb.api.EventsRequest())
        stream.initial_metadata()
        self.addCleanup(stream.cancel)
        return stream

    def turn(self, status):
        self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id="web", status=status))

    def test_it_is_told_what_it_has_missed_and_begins_anew(self):
        quick, slow = self.events(self.theca), self.events(self.lazy)
        for _ in range(ROUNDS):
            self.turn("paused")
            self.turn("running")
            self.assertEqual([next(quick).type, next(quick).type], ["pause", "resume"])
        read = []
        with expect(StatusCode.DATA_LOSS, "events were dropped", "ask for State") as refusal:
            for event in slow:
                read.append(event.type)
        # What it was sent is in order, and all that it was not sent is counted.
        self.assertLess(len(read), 2 * ROUNDS - KEPT)
        self.assertEqual(read, [["pause", "resume"][at % 2] for at in range(len(read))])
        self.assertIn(f"{2 * ROUNDS - KEPT - len(read)} events", refusal.text)

        again = self.events(self.lazy)
        self.assertEqual(self.theca.api.State(pb.api.StateRequest()).containers[0].status, "running")
        self.turn("paused")
        self.assertEqual(next(again).type, "pause")


if __name__ == "__main__":
    unittest.main()
