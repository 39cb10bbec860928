"""Events of containerd.v1.services.shim.Shim: what is told and in which order, and that there is one consumer at a time."""

import unittest

from grpc import StatusCode

from host import Reader, WithSandbox, once
from test_shim import Calls
from theca_client import eventually, pb

load_tests = once

EXIT, OOM, CREATE, START, EXEC_ADDED = range(5)


class Events(Calls, WithSandbox):
    def events(self, shim):
        return Reader(self, shim.Events(pb.shim.EventsRequest(), timeout=300))

    def told(self, events):
        return [(event.type, event.pid, event.exit_status) for event in events.messages]

    def has(self, events, number):
        eventually(lambda: len(events.messages) >= number, timeout=60)
        return self.told(events)

    def test_everything_is_told_in_order_and_nothing_else(self):
        id, shim = self.endpoint()
        events = self.events(shim)
        init = self.create(shim)
        shim.Start(pb.shim.StartRequest())
        first = self.exec(shim, "sh", "-c", "exit 7")
        self.assertEqual(self.has(events, 4)[3], (EXIT, first, 7))
        # None of these has an event.
        shim.Pause(pb.shim.PauseRequest())
        shim.Resume(pb.shim.ResumeRequest())
        self.kill(shim, 28)
        self.delete(shim, first)
        second = self.exec(shim, "sleep", "1000")
        self.kill(shim)
        self.has(events, 7)
        self.delete(shim)
        # What comes after the Delete is told after whatever that would have told.
        again = self.create(shim, "true")
        self.assertEqual(
            self.has(events, 8),
            [
                (CREATE, init, 0),
                (START, init, 0),
                (EXEC_ADDED, first, 0),
                (EXIT, first, 7),
                (EXEC_ADDED, second, 0),
                (EXIT, second, 137),
                (EXIT, init, 137),
                (CREATE, again, 0),
            ],
        )
        self.assertEqual({event.id for event in events.messages}, {id})
        for event in events.messages:
            self.assertEqual(event.HasField("exited_at"), event.type == EXIT, event)

    def test_a_container_that_runs_out_of_memory_is_told(self):
        id, shim = self.endpoint()
        events = self.events(shim)
        # It keeps what it reads until a line ends.
        init = self.create(shim, "tail", "/dev/zero", resources={"memory": {"limit": 16 << 20}})
        shim.Start(pb.shim.StartRequest())
        eventually(lambda: any(event.type == EXIT for event in events.messages), timeout=60)
        told = [(CREATE, init, 0), (START, init, 0), (OOM, init, 0), (EXIT, init, 137)]
        self.assertEqual(self.told(events), told)
        self.assertEqual({event.id for event in events.messages}, {id})

    def test_events_of_another_container_are_anothers(self):
        _, shim, init = self.running()
        _, other, others = self.running()
        mine, theirs = self.events(shim), self.events(other)
        self.kill(shim)
        self.assertEqual(self.has(mine, 3), [(CREATE, init, 0), (START, init, 0), (EXIT, init, 137)])
        self.assertEqual(self.has(theirs, 2), [(CREATE, others, 0), (START, others, 0)])

    def test_what_happened_while_nobody_listened_is_told_to_the_first_who_does(self):
        _, shim, init = self.running("sh", "-c", "exit 3")
        self.stops(shim)
        self.assertEqual(self.has(self.events(shim), 3), [(CREATE, init, 0), (START, init, 0), (EXIT, init, 3)])

    def test_there_is_one_consumer_and_what_it_had_last_goes_to_the_next(self):
        _, shim, init = self.running()
        first = self.events(shim)
        self.assertEqual(self.has(first, 2), [(CREATE, init, 0), (START, init, 0)])
        second = self.events(shim)
        eventually(lambda: first.error)
        self.assertIs(first.error.code(), StatusCode.ABORTED)
        self.assertEqual(first.error.details(), "another consumer has asked for the events")
        added = self.exec(shim, "sh", "-c", "exit 7")
        wanted = [(START, init, 0), (EXEC_ADDED, added, 0), (EXIT, added, 7)]
        eventually(lambda: wanted[-1] in self.told(second), timeout=60)
        # The last one that was given is sent again, with the one before if that was not known to have arrived.
        self.assertIn(self.told(second), [wanted, [(CREATE, init, 0), *wanted]])
        self.assertEqual(len(first.messages), 2)

    def test_what_a_consumer_that_went_away_has_not_had_goes_to_the_next(self):
        _, shim, init = self.running()
        first = self.events(shim)
        self.has(first, 2)
        first.close()
        self.kill(shim)
        self.stops(shim)
        second = self.events(shim)
        wanted = [(START, init, 0), (EXIT, init, 137)]
        eventually(lambda: wanted[-1] in self.told(second), timeout=60)
        self.assertIn(self.told(second), [wanted, [(CREATE, init, 0), *wanted]])

    def test_another_endpoint_of_the_container_begins_with_its_creation(self):
        id, shim, init = self.running()
        events = self.events(shim)
        self.has(events, 2)
        shim.Exit(pb.shim.ExitRequest())
        eventually(lambda: events.error, timeout=10)
        _, again = self.endpoint(id)
        self.assertEqual(self.has(self.events(again), 2), [(CREATE, init, 0), (START, init, 0)])


if __name__ == "__main__":
    unittest.main()
