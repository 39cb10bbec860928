"""The two ttrpc calls of the client library, against a keeper of few lines."""

import contextlib
import socket
import struct
import tempfile
import threading
import unittest
from pathlib import Path

from grpc import StatusCode

from theca_client import expect, open_shim, pack, pb, task_stats, unpack

#: Longer than a length of one byte tells.
LONG = "/run/" + "x" * 200


def field(number, content):
    length = len(content)
    assert length < 1 << 14
    prefix = bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
    return bytes([number << 3 | 2]) + prefix + content


class OverTtrpc(unittest.TestCase):
    def keeper(self, answer, stream=1, kind=2):
        """The path of a keeper that answers one call so, and where its request will be."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "keeper.sock"
        listener = self.enterContext(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen()
        requests = []

        def serve():
            peer, _ = listener.accept()
            with peer:
                length, *header = struct.unpack(">IIBB", peer.recv(10, socket.MSG_WAITALL))
                requests.append((header, peer.recv(length, socket.MSG_WAITALL)))
                frame = struct.pack(">IIBB", len(answer), stream, kind, 0) + answer
                # An answer may come in pieces; whoever does not like the first hangs up.
                with contextlib.suppress(BrokenPipeError):
                    for at in range(0, len(frame), 7):
                        peer.sendall(frame[at : at + 7])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        return path, requests

    def test_a_shim_is_asked_for_by_the_containers_id(self):
        for address in ["/run/shim-0.sock", LONG]:
            path, requests = self.keeper(field(2, field(1, f"unix://{address}".encode())))
            self.assertEqual(open_shim(path, "web"), address)
            asked = field(1, b"theca.keeper.v1.Keeper") + field(2, b"OpenShim") + field(3, field(1, b"web"))
            self.assertEqual(requests, [([1, 1, 0], asked)])

    def test_counters_are_asked_for_by_the_containers_id(self):
        counters = pb.cgroups.Metrics(pids={"current": 3}, network=[{"name": LONG}])
        path, requests = self.keeper(field(2, field(1, pack(counters).SerializeToString())))
        self.assertEqual(unpack(task_stats(path, "web"), pb.cgroups.Metrics), counters)
        asked = field(1, b"containerd.task.v3.Task") + field(2, b"Stats") + field(3, field(1, b"web"))
        self.assertEqual(requests, [([1, 1, 0], asked)])

    def test_a_refusal_has_code_and_words(self):
        status = b"\x08\x03" + field(2, f"no container is called {LONG}".encode())
        path, _ = self.keeper(field(1, status))
        with expect(StatusCode.INVALID_ARGUMENT, "no container", LONG):
            open_shim(path, "web")

    def test_what_is_no_answer_is_none(self):
        answer = field(2, field(1, b"unix:///run/shim-0.sock"))
        for broken in [{"stream": 3}, {"kind": 3}]:
            with self.subTest(broken), self.assertRaisesRegex(AssertionError, "the keeper answers stream"):
                open_shim(self.keeper(answer, **broken)[0], "web")
        with self.assertRaisesRegex(AssertionError, "an address of tcp"):
            open_shim(self.keeper(field(2, field(1, b"tcp://1.2.3.4")))[0], "web")
        with self.assertRaises(FileNotFoundError):
            open_shim("/nowhere/keeper.sock", "web")


if __name__ == "__main__":
    unittest.main()
