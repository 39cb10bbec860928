"""Every call that the endpoint's definitions name, read from those, so that no table of a test forgets one."""

from google.protobuf.message_factory import GetMessageClass

from theca_client import oci_process
from theca_client.reflection import OF_THE_ENDPOINT, services

#: What a request needs to make sense, beside its id.
_BESIDE = {
    "types.API.CreateContainer": {"bundlePath": "/nowhere"},
    "types.API.UpdateContainer": {"status": "paused"},
    "types.API.AddProcess": {"args": ["true"]},
    "containerd.v1.ExecutionService.CreateContainer": {"bundle_path": "/nowhere"},
    "containerd.v1.ExecutionService.UpdateContainer": {"bundle_path": "/nowhere"},
    "containerd.v1.ExecutionService.StartProcess": {"process": {"args": ["true"]}},
    "containerd.services.tasks.v1.Tasks.Kill": {"signal": 9},
    "containerd.services.tasks.v1.Tasks.Exec": {"spec": oci_process({"args": ["true"], "cwd": "/"})},
    "containerd.services.sandbox.v1.Controller.Update": {"sandbox": {"labels": {"team": "blue"}}},
}
_IDS = ["id", "container_id", "sandbox_id"]


class Call:
    """One method of the endpoint."""

    def __init__(self, method):
        self._method = method
        self.name = method.full_name
        #: Fields that lead to the id: of the request, or of the record in it. None if it takes no id.
        self.id = next(_paths(method.input_type), None)
        #: What it is an id of.
        self.kind = "sandbox" if ".sandbox." in self.name else "container"

    def request(self, id):
        """A request that makes sense but for the id, which may be anything."""
        request = GetMessageClass(self._method.input_type)(**_BESIDE.get(self.name, {}))
        *outer, field = self.id
        holder = request
        for name in outer:
            holder = getattr(holder, name)
            holder.SetInParent()
        setattr(holder, field, id)
        return request.SerializeToString()

    def __call__(self, client, request):
        """The answers to the bytes of a request."""
        channel, service = client.channel, self._method.containing_service.full_name
        kind = channel.unary_stream if self._method.server_streaming else channel.unary_unary
        call = kind(f"/{service}/{self._method.name}", request_serializer=bytes, response_deserializer=bytes)
        answer = call(request)
        return list(answer) if self._method.server_streaming else [answer]


def _paths(message):
    fields = message.fields_by_name
    yield from ([name] for name in _IDS if name in fields)
    for field in message.fields:
        if field.message_type:
            yield from ([field.name, name] for name in _IDS if name in field.message_type.fields_by_name)


def calls():
    """All of them."""
    return [Call(method) for service in services(OF_THE_ENDPOINT).values() for method in service.methods]
