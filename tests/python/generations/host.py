"""The machine under test: a thecad that serves, roots and bundles for containers, and cleaning up after each test.

Which of thecad's endpoints is tested is what the stubs on PYTHONPATH say. THECAD_SOCKET names its socket where it is not the
usual one.
"""

import contextlib
import copy
import fcntl
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import unittest
from pathlib import Path

import grpc

from theca_client import Client, Shim, eventually, open_shim, pb

FIXTURES = Path(os.environ.get("THECA_TEST_FIXTURES", "/var/lib/theca-testbed"))
STATE = Path(os.environ.get("THECA_STATE", "/run/theca"))
SOCKET = os.environ.get("THECAD_SOCKET") or STATE / {"today": "thecad.sock", "generations": "thecad-2022.sock"}[pb.ENDPOINT]
TODAY = pb.ENDPOINT == "today"


def once(loader, tests, pattern):
    """unittest's `load_tests` for a file that tests the same whichever endpoint it is: over the stubs of today's."""
    return tests if TODAY else unittest.TestSuite()


#: A boot takes seconds where KVM itself is emulated; nothing waits longer than this for one.
BOOT = 180

_numbers = itertools.count()


def root():
    """A root file system of busybox alone, made once per machine."""
    final = Path("/var/tmp/theca-client/root")
    final.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{final}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            making = Path(tempfile.mkdtemp(dir=final.parent))
            for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"]:
                (making / folder).mkdir()
            shutil.copy("/bin/busybox", making / "bin")
            applets = subprocess.run(["/bin/busybox", "--list"], check=True, text=True, stdout=subprocess.PIPE)
            for applet in set(applets.stdout.split()) - {"busybox"}:
                (making / "bin" / applet).symlink_to("busybox")
            making.chmod(0o755)
            making.rename(final)
    return final


class Case(unittest.TestCase):
    """A test against thecad. What it makes is gone afterwards: ids come from `name`, and those are cleaned up."""

    def setUp(self):
        self.theca = self.enterContext(Client(SOCKET, namespace="tests"))

    def name(self, kind="c", length=0):
        """An id that nobody else has, at least of this length; its sandbox, if there ever is one, goes with the test."""
        id = new_id(kind, length)
        self.addCleanup(shutdown, self.theca, id)
        return id

    def folder(self):
        """An empty folder on the host."""
        return Path(self.enterContext(tempfile.TemporaryDirectory(prefix="theca-client-", dir="/var/tmp")))

    def bundle(self, *args, **changes):
        """The path of a bundle that runs `args`. `changes` are as `config` takes them."""
        folder = self.folder()
        (folder / "config.json").write_text(json.dumps(config(*args, **changes)))
        return str(folder)


class WithSandbox(Case):
    """Tests that share a sandbox, for its boot is what takes long. Containers are in it by `bundle`.

    A disk that was given to a VM stays in it, so a sandbox has room for a handful of folders as roots in its life: after some
    containers there is another one.
    """

    sandbox = None
    _containers = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(cls._end)

    @classmethod
    def _end(cls):
        if cls.sandbox:
            with Client(SOCKET, namespace="tests") as client:
                shutdown(client, cls.sandbox)
        cls.sandbox = None

    def setUp(self):
        super().setUp()
        cls = type(self)
        if cls._containers > 2:
            cls._end()
        if cls.sandbox is None:
            cls.sandbox, cls._containers = new_id("s"), 0
            start(self.theca, cls.sandbox)

    def bundle(self, *args, **changes):
        changes.setdefault("sandbox", self.sandbox)
        return super().bundle(*args, **changes)

    def keeper(self):
        """The path of the sandbox's keeper, for whoever asks that without thecad."""
        return STATE / "tests" / self.sandbox / "keeper.sock"

    def shim(self, id):
        """The Shim of container `id`, which need not exist yet. It asks for no namespace."""
        return self.enterContext(Shim(open_shim(self.keeper(), id), namespace=None))

    def name(self, kind="c", length=0):
        type(self)._containers += 1
        id = new_id(kind, length)
        self.addCleanup(remove, self.theca, id)
        return id


def new_id(kind, length=0):
    return f"{kind}-{os.getpid()}-{next(_numbers)}".ljust(length, "x")


def config(*args, sandbox=None, resources=None, **changes):
    """A config.json: what `runc spec` writes, on busybox, without a terminal. `resources` are limits, `changes` are of its
    process."""
    document = copy.deepcopy(json.loads((FIXTURES / "bundle/config.json").read_text()))
    document["process"].update({"terminal": False, "args": list(args or ["sleep", "1000"]), **changes})
    document["root"] = {"path": str(root()), "readonly": True}
    if resources:
        document["linux"]["resources"].update(resources)
    if sandbox:
        document["annotations"] = {"io.theca.sandbox": sandbox}
    return document


def start(client, id, **request):
    """A sandbox that takes tasks, by the Controller of the endpoint."""
    if TODAY:
        client.controller.Create(pb.sandbox.ControllerCreateRequest(sandbox_id=id, **request))
    else:
        return client.controller.Start(pb.sandbox.ControllerStartRequest(sandbox_id=id, **request), timeout=BOOT)
    return client.controller.Start(pb.sandbox.ControllerStartRequest(sandbox_id=id), timeout=BOOT)


def shutdown(client, id):
    """A sandbox that is no more. One that never was is none either."""
    client.controller.Shutdown(pb.sandbox.ControllerShutdownRequest(sandbox_id=id), timeout=BOOT)


def remove(client, id):
    """A container that is no more, whatever it was."""
    with contextlib.suppress(grpc.RpcError):
        client.tasks.Kill(pb.tasks.KillRequest(container_id=id, signal=9, all=True))

    def deleted():
        try:
            client.tasks.Delete(pb.tasks.DeleteTaskRequest(container_id=id))
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return True

    eventually(deleted, timeout=60)
    with contextlib.suppress(grpc.RpcError):
        client.containers.Delete(pb.containers.DeleteContainerRequest(id=id))


def resident(pid):
    """Resident memory in MiB."""
    table = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in table if line.startswith("VmRSS")).split()[1]) / 1024


def thecad():
    """The pid of thecad."""
    return server(SOCKET)


def server(path):
    """The pid of whoever has made a socket to listen on."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.unpack("3i", credentials)[0]


class Fifo:
    """A FIFO on the host that is read all the time."""

    def __init__(self, case, name="stdout"):
        self.path = str(case.folder() / name)
        os.mkfifo(self.path)
        # Open for both, so that nobody waits for the other side.
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        case.addCleanup(self.close)
        self._seen = b""

    def close(self):
        """Ends this side. Input ends with it, once thecad was told that there will be no other."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def text(self):
        """All that was written so far."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._fd, 1 << 16):
                self._seen += more
        return self._seen.decode()

    def waiting(self):
        """How many bytes are in it, unread."""
        return struct.unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))[0]

    def write(self, text):
        os.write(self._fd, text.encode())

    def holds(self, text, timeout=30):
        """Waits for `text`."""
        return eventually(lambda: text in self.text(), timeout=timeout)


class Reader:
    """A stream, read on a thread of its own, so that a test can look at what has come."""

    def __init__(self, case, call):
        self.call = call
        self.messages = []
        self.error = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        # Headers come when the server has subscribed: from here on nothing is missed.
        call.initial_metadata()
        self._thread.start()
        case.addCleanup(self.close)

    def _read(self):
        try:
            for message in self.call:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.error = error

    def close(self):
        self.call.cancel()
        self._thread.join(10)

    def has(self, wanted, timeout=60):
        """The first message for which `wanted` holds, once it is there."""
        return eventually(lambda: next((m for m in self.messages if wanted(m)), None), timeout=timeout)
