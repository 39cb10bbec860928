"""What a server tells of its services by reflection, held against what was published."""

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from . import pb

#: What has an endpoint of thecad's services.
OF_THE_ENDPOINT = [pb.api, pb.containers, pb.execution, pb.sandbox, pb.tasks]
#: What has the service of a container's own endpoint.
OF_A_CONTAINER = [pb.shim]


def services(modules):
    """Their services by name, as they were published."""
    return {one.full_name: one for module in modules for one in module.DESCRIPTOR.services_by_name.values()}


def tells_what_was_published(case, channel, modules):
    """Fails `case` unless the server behind `channel` has all services of `modules`, with these methods and messages."""
    database = ProtoReflectionDescriptorDatabase(channel)
    published = services(modules)
    case.assertLessEqual(set(published), set(database.get_services()))
    told = DescriptorPool(database)
    for name, service in published.items():
        case.assertEqual(_shape(told.FindServiceByName(name)), _shape(service), name)


def _shape(service):
    """The service's methods: names, messages with their fields, and what streams."""
    return sorted(
        (one.name, _message(one.input_type), _message(one.output_type), one.client_streaming, one.server_streaming)
        for one in service.methods
    )


def _message(kind):
    return kind.full_name, sorted((field.number, field.name, field.type) for field in kind.fields)
