"""An independent client of Theca's gRPC interfaces, over stubs of the definitions as containerd published them.

It shares no code and no definition with the server: what it agrees on with Theca, any client of that generation does.

    from theca_client import Client, expect, pb
    from grpc import StatusCode

    with Client("/run/theca/thecad.sock", namespace="tests") as theca:
        theca.tasks.Start(pb.tasks.StartTaskRequest(container_id="web"))
        with expect(StatusCode.NOT_FOUND, "nobody"):
            theca.tasks.Start(pb.tasks.StartTaskRequest(container_id="nobody"))
"""

from . import pb
from .anys import oci_process, oci_resources, oci_spec, pack, unpack
from .channel import connect
from .client import Client, Shim
from .errors import expect
from .keeper import KeeperError, open_shim, task_stats
from .wait import eventually

__all__ = [
    "Client",
    "KeeperError",
    "Shim",
    "connect",
    "eventually",
    "expect",
    "oci_process",
    "oci_resources",
    "oci_spec",
    "open_shim",
    "pack",
    "pb",
    "task_stats",
    "unpack",
]
