"""A client that asks and never reads an answer. gRPC's own library takes in what comes, whether it is asked for or not. So this
one speaks HTTP/2 itself, and needs little of it: frames, and headers that are not compressed."""

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0x0, 0x1, 0x4
_END_STREAM, _END_HEADERS = 0x1, 0x4


class Deaf:
    """A connection to the server at `path`, from which nothing is ever read."""

    def __init__(self, path, namespace):
        self._namespace = namespace
        self._stream = -1
        self._peer = socket.socket(socket.AF_UNIX)
        self._peer.settimeout(30)
        self._peer.connect(str(path))
        self._peer.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def ask(self, method, request):
        """Calls `/package.Service/Method` with a message."""
        self._stream += 2
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            "containerd-namespace": self._namespace,
        }
        block = b"".join(_field(name, value) for name, value in headers.items())
        body = request.SerializeToString()
        message = struct.pack(">BI", 0, len(body)) + body
        self._peer.sendall(
            _frame(_HEADERS, _END_HEADERS, self._stream, block) + _frame(_DATA, _END_STREAM, self._stream, message)
        )

    def close(self):
        self._peer.close()


def _frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name, value):
    """A literal that is not to be indexed, RFC 7541, 6.2.2. Lengths up to 126 are one byte."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
