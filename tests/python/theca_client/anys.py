"""google.protobuf.Any as containerd fills it: the type URL is a bare name, and OCI documents are JSON."""

import json

from google.protobuf.any_pb2 import Any

_OCI = "types.containerd.io/opencontainers/runtime-spec/1/"


def pack(message):
    """A protobuf message, under its full name without the host that protobuf's own packing puts before it."""
    return Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def unpack(packed, kind):
    """The message of type `kind` that `packed` must hold."""
    name = packed.type_url.rpartition("/")[2]
    if name != kind.DESCRIPTOR.full_name:
        raise AssertionError(f"expected {kind.DESCRIPTOR.full_name}, got {packed.type_url!r}")
    return kind.FromString(packed.value)


def oci_spec(document):
    """A whole config.json."""
    return _json("Spec", document)


def oci_process(document):
    """The process section of a config.json."""
    return _json("Process", document)


def oci_resources(document):
    """The linux.resources section of a config.json."""
    return _json("LinuxResources", document)


def _json(kind, document):
    return Any(type_url=_OCI + kind, value=json.dumps(document).encode())
