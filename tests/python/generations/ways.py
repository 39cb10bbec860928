"""What can be done to a container through each of the four interfaces that have containers, in the same words for all."""

import grpc

from host import config
from theca_client import oci_process, oci_spec, pb

RUNNING, STOPPED, PAUSED = "running", "stopped", "paused"


class Way:
    """One interface. `sees` answers status and init's pid; None if there is no such container."""

    #: Whether a container that was made this way is deleted by its init's end.
    ends_with_init = False

    def __init__(self, case):
        self.case, self.theca = case, case.theca

    def sees(self, id):
        try:
            return self.look(id)
        except grpc.RpcError as error:
            if error.code() is self.UNKNOWN:
                return None
            raise

    UNKNOWN = grpc.StatusCode.NOT_FOUND


def _process(args):
    return oci_process({"args": args, "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}})


class Api(Way):
    """2015. It has no Delete: init's end is that."""

    ends_with_init = True

    def make(self, id, args, stdout):
        request = pb.api.CreateContainerRequest(id=id, bundlePath=self.case.bundle(*args), stdout=stdout)
        return self.theca.api.CreateContainer(request).pid

    def look(self, id):
        for container in self.theca.api.State(pb.api.StateRequest()).containers:
            if container.id == id:
                # Only processes that live are told.
                return container.status, next((process.pid for process in container.processes), None)
        return None

    def signal(self, id, signal):
        self.theca.api.Signal(pb.api.SignalRequest(id=id, signal=signal))

    def add(self, id, args):
        return self.theca.api.AddProcess(pb.api.AddProcessRequest(id=id, args=args)).pid

    def pause(self, id):
        self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="paused"))

    def resume(self, id):
        self.theca.api.UpdateContainer(pb.api.UpdateContainerRequest(id=id, status="running"))


class Execution(Way):
    """2016."""

    def make(self, id, args, stdout):
        request = pb.execution.CreateContainerRequest(id=id, bundle_path=self.case.bundle(*args), stdout=stdout)
        pid = self.theca.execution.CreateContainer(request).initProcess.pid
        self.theca.execution.StartContainer(pb.execution.StartContainerRequest(id=id))
        return pid

    def look(self, id):
        container = self.theca.execution.GetContainer(pb.execution.GetContainerRequest(id=id)).container
        init = self.theca.execution.GetProcess(pb.execution.GetProcessRequest(container_id=id)).process
        return pb.execution.Status.Name(container.status).lower(), init.pid

    def signal(self, id, signal):
        self.theca.execution.SignalProcess(pb.execution.SignalProcessRequest(container_id=id, signal=signal))

    def add(self, id, args):
        request = pb.execution.StartProcessRequest(container_id=id, process={"args": args})
        return self.theca.execution.StartProcess(request).process.pid

    def pause(self, id):
        self.theca.execution.PauseContainer(pb.execution.PauseContainerRequest(id=id))

    def resume(self, id):
        self.theca.execution.ResumeContainer(pb.execution.ResumeContainerRequest(id=id))

    def delete(self, id):
        self.theca.execution.DeleteContainer(pb.execution.DeleteContainerRequest(id=id))


class Tasks(Way):
    """June 2017. What it makes comes from a record in the store."""

    def make(self, id, args, stdout):
        container = pb.containers.Container(id=id, spec=oci_spec(config(*args, sandbox=self.case.sandbox)))
        self.theca.containers.Create(pb.containers.CreateContainerRequest(container=container))
        pid = self.theca.tasks.Create(pb.tasks.CreateTaskRequest(container_id=id, stdout=stdout)).pid
        self.theca.tasks.Start(pb.tasks.StartTaskRequest(container_id=id))
        return pid

    def look(self, id):
        task = self.theca.tasks.Get(pb.tasks.GetTaskRequest(container_id=id)).task
        return pb.task_types.Status.Name(task.status).lower(), task.pid

    def signal(self, id, signal):
        self.theca.tasks.Kill(pb.tasks.KillRequest(container_id=id, signal=signal))

    def add(self, id, args):
        return self.theca.tasks.Exec(pb.tasks.ExecProcessRequest(container_id=id, spec=_process(args))).pid

    def pause(self, id):
        self.theca.tasks.Pause(pb.tasks.PauseTaskRequest(container_id=id))

    def resume(self, id):
        self.theca.tasks.Resume(pb.tasks.ResumeTaskRequest(container_id=id))

    def delete(self, id):
        return self.theca.tasks.Delete(pb.tasks.DeleteTaskRequest(container_id=id)).exit_status


class Shim(Way):
    """May 2017, at the sandbox's keeper: thecad hears of what happens here, and is asked nothing."""

    UNKNOWN = grpc.StatusCode.FAILED_PRECONDITION

    def make(self, id, args, stdout):
        shim = self.case.shim(id)
        pid = shim.Create(pb.shim.CreateRequest(bundle=self.case.bundle(*args), stdout=stdout)).pid
        shim.Start(pb.shim.StartRequest())
        return pid

    def look(self, id):
        state = self.case.shim(id).State(pb.shim.StateRequest())
        return pb.task_types.Status.Name(state.status).lower(), state.pid

    def signal(self, id, signal):
        self.case.shim(id).Kill(pb.shim.KillRequest(signal=signal))

    def add(self, id, args):
        return self.case.shim(id).Exec(pb.shim.ExecRequest(spec=_process(args))).pid

    def pause(self, id):
        self.case.shim(id).Pause(pb.shim.PauseRequest())

    def resume(self, id):
        self.case.shim(id).Resume(pb.shim.ResumeRequest())

    def delete(self, id):
        return self.case.shim(id).Delete(pb.shim.DeleteRequest()).exit_status


WAYS = [Api, Execution, Tasks, Shim]
