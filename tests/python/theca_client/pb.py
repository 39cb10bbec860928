"""The generated stubs, by short names.

The two forms of the sandbox service and of the container store have the same names on the wire, so a process loads the
stubs of one endpoint: `../setup` makes a folder for each, and the one on PYTHONPATH decides. `sandbox` and `containers` are
the form of that endpoint.
"""

import importlib
import importlib.util


def _stubs(module):
    return importlib.import_module(f"{module}_pb2"), importlib.import_module(f"{module}_pb2_grpc")


#: "today" or "generations".
ENDPOINT = "today" if importlib.util.find_spec("sandbox_pb2") else "generations"

api, api_grpc = _stubs("api_2015")
execution, execution_grpc = _stubs("execution_2017")
shim, shim_grpc = _stubs("shim_2017")
tasks, tasks_grpc = _stubs("tasks_v1")
containers, containers_grpc = _stubs("containers" if ENDPOINT == "today" else "containers_2017")
sandbox, sandbox_grpc = _stubs("sandbox" if ENDPOINT == "today" else "sandbox_2022")

#: containerd.v1.types, which `shim` and `tasks` share.
task_types, _ = _stubs("github.com.containerd.containerd.api.types.task.task")
mount_types, _ = _stubs("github.com.containerd.containerd.api.types.mount.mount")
#: containerd.types, which `sandbox` uses.
sandbox_types, _ = _stubs("github.com.containerd.containerd.api.types.sandbox")
sandbox_mount_types, _ = _stubs("github.com.containerd.containerd.api.types.mount")

#: io.containerd.cgroups.v2: the counters that an Any of them holds.
cgroups, _ = _stubs("github.com.containerd.cgroups.cgroup2.stats.metrics")

#: Options of a sandbox: Kubernetes' and Theca's own.
cri, _ = _stubs("runtime.v1.cri")
options, _ = _stubs("theca.options.v1.options")
