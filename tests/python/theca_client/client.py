"""Every interface of an endpoint, over one channel."""

from . import pb
from .channel import TIMEOUT, connect


class _Connected:
    def __init__(self, *arguments):
        self.channel = connect(*arguments)

    def close(self):
        """Ends the connection and with it every call under way."""
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client(_Connected):
    """thecad. Which forms `store`, `controller` and `containers` have is what `pb.ENDPOINT` says."""

    def __init__(self, socket, namespace="default", timeout=TIMEOUT, window=None):
        super().__init__(socket, namespace, timeout, window)
        #: types.API, of 2015.
        self.api = pb.api_grpc.APIStub(self.channel)
        #: containerd.v1.ExecutionService, of 2016.
        self.execution = pb.execution_grpc.ExecutionServiceStub(self.channel)
        #: containerd.services.tasks.v1.Tasks, of 2017.
        self.tasks = pb.tasks_grpc.TasksStub(self.channel)
        self.containers = pb.containers_grpc.ContainersStub(self.channel)
        #: containerd.services.sandbox.v1.
        self.store = pb.sandbox_grpc.StoreStub(self.channel)
        self.controller = pb.sandbox_grpc.ControllerStub(self.channel)


class Shim(_Connected):
    """A container's own endpoint: containerd.v1.services.shim.Shim, of May 2017. `shim.Kill(…)` and so on."""

    def __init__(self, socket, namespace="default", timeout=TIMEOUT, window=None):
        super().__init__(socket, namespace, timeout, window)
        self._stub = pb.shim_grpc.ShimStub(self.channel)

    def __getattr__(self, method):
        return getattr(self._stub, method)
