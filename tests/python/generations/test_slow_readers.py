"""Streams that nobody reads: others get everything, thecad's memory is bounded, and what was not read waits.

That a reader who is 4096 events behind is told so takes more events than a VM in a test host causes in a quarter of an hour:
`offline/test_overflow.py` asks it of thecad over pretended VMs.
"""

import unittest

from host import SOCKET, Reader, WithSandbox, once, resident, thecad
from theca_client import Client, eventually, pb

load_tests = once

#: So little of a stream leaves thecad before it is read; a message is longer.
WINDOW = 16


class SlowReaders(WithSandbox):
    def setUp(self):
        super().setUp()
        self.lazy = self.enterContext(Client(SOCKET, namespace="tests", timeout=600, window=WINDOW))

    def unread(self):
        stream = self.lazy.api.Events(pb.api.EventsRequest())
        stream.initial_metadata()
        self.addCleanup(stream.cancel)
        return stream

    def told(self, events):
        return [(event.type, event.id) for event in events]

    def test_what_a_reader_has_not_read_waits_for_it(self):
        streams = [self.unread() for _ in range(50)]
        quick = Reader(self, self.theca.api.Events(pb.api.EventsRequest(), timeout=600))
        before = resident(thecad())
        id = self.name()
        self.theca.api.CreateContainer(pb.api.CreateContainerRequest(id=id, bundlePath=self.bundle()))
        for _ in range(10):
            self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="paused"))
            self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="running"))
        wanted = [("start-container", id), *[("pause", id), ("resume", id)] * 10]
        eventually(lambda: self.told(quick.messages) == wanted)
        # On the connection of those that do not read.
        state = self.lazy.api.State(pb.api.StateRequest(), timeout=30)
        self.assertIn((id, "running"), [(container.id, container.status) for container in state.containers])
        self.assertLess(resident(thecad()) - before, 16)
        for stream in streams:
            self.assertEqual(self.told(next(stream) for _ in wanted), wanted)


if __name__ == "__main__":
    unittest.main()
