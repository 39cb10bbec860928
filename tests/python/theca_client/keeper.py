"""A sandbox's keeper, over ttrpc: where a container's own endpoint is, and a container's counters as containerd asks for them.

Python has no library for ttrpc, and two calls need none: a frame is a header of ten bytes and a message of few fields. They
are taken apart by hand, so that the keeper's definitions, which share names with the generations', stay out of this process.
"""

import socket
import struct

import grpc
from google.protobuf.any_pb2 import Any

_HEADER = struct.Struct(">IIBB")
_REQUEST, _RESPONSE = 1, 2
_VARINT, _BYTES = 0, 2


class KeeperError(grpc.RpcError):
    """What the keeper refused, in the shape of gRPC's errors, for `expect`. ttrpc has gRPC's codes."""

    def __init__(self, number, text):
        super().__init__(text)
        self._code = next(code for code in grpc.StatusCode if code.value[0] == number)
        self._text = text

    def code(self):
        return self._code

    def details(self):
        return self._text


def open_shim(keeper, container, timeout=30):
    """The path of the socket on which `containerd.v1.services.shim.Shim` of `container` is served, made if there was none.
    `keeper` is the path of the keeper's socket."""
    answer = _call(keeper, "theca.keeper.v1.Keeper", "OpenShim", _field(1, container.encode()), timeout)
    scheme, path = _fields(answer)[1].decode().split("://")
    if scheme != "unix":
        raise AssertionError(f"the keeper answers an address of {scheme}")
    return path


def task_stats(keeper, container, timeout=30):
    """`containerd.task.v3.Task.Stats` of `container`: the Any that holds its counters."""
    answer = _call(keeper, "containerd.task.v3.Task", "Stats", _field(1, container.encode()), timeout)
    return Any.FromString(_fields(answer)[1])


def _call(path, service, method, payload, timeout):
    request = _field(1, service.encode()) + _field(2, method.encode()) + _field(3, payload)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(timeout)
        peer.connect(str(path))
        peer.sendall(_HEADER.pack(len(request), 1, _REQUEST, 0) + request)
        length, stream, kind, _ = _HEADER.unpack(_exactly(peer, _HEADER.size))
        if (stream, kind) != (1, _RESPONSE):
            raise AssertionError(f"the keeper answers stream {stream} with a message of kind {kind}")
        answer = _fields(_exactly(peer, length))
    status = _fields(answer.get(1, b""))
    if status.get(1):
        raise KeeperError(status[1], status.get(2, b"").decode())
    return answer.get(2, b"")


def _exactly(peer, length):
    received = b""
    while len(received) < length:
        more = peer.recv(length - len(received))
        if not more:
            raise AssertionError("the keeper hung up")
        received += more
    return received


def _field(number, content):
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _fields(message):
    """Number to value of each field: bytes, or a number. Of a repeated one the last."""
    fields, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == _VARINT:
            fields[key >> 3] = varint()
        elif key & 7 == _BYTES:
            length = varint()
            fields[key >> 3] = message[at : at + length]
            at += length
        else:
            raise AssertionError(f"a field of wire type {key & 7}")
    return fields
