#!/usr/bin/env python3
"""Writes what the published definitions say as facts, one a line, for the test proto/tests/as_published.rs.

Run by hand when a published text is repaired anew:

    $(tests/python/setup)/venv/bin/python tests/python/facts.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorSet

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE / "published"
TABLES = HERE.parent.parent / "proto/tests/published"

CGROUPS = "github.com/containerd/cgroups/cgroup2/stats"
TYPES = "github.com/containerd/containerd/api/types"
SHARED = ["api-2015.proto", "execution-2017.proto", "tasks-v1.proto"]
# Table: folders of published texts, and the files that an endpoint serves.
ENDPOINTS = {
    "today": (["common", "today"], [*SHARED, "sandbox.proto", "containers.proto"]),
    "generations": (["common", "generations"], [*SHARED, "sandbox-2022.proto", "containers-2017.proto"]),
    "shim": (["common"], ["shim-2017.proto", f"{TYPES}/descriptor/descriptor.proto"]),
    "cgroups": (["common"], [f"{CGROUPS}/metrics.proto"]),
    "keeper": (["keeper"], ["events.proto", "streaming.proto", "task.proto", "transfer.proto"]),
}
# Not part of any interface: Google's well-known types and the options of a Go generator.
FOREIGN = ("google.", "gogoproto")


def main():
    for table, (roots, files) in ENDPOINTS.items():
        facts = sorted(set(of_files(compile_files(roots, files))))
        (TABLES / f"{table}.txt").write_text("\n".join(facts) + "\n")


def compile_files(roots, files):
    with tempfile.NamedTemporaryFile() as out:
        includes = [f"-I{PUBLISHED / root}" for root in roots]
        command = [sys.executable, "-m", "grpc_tools.protoc", *includes]
        command += ["--include_imports", f"--descriptor_set_out={out.name}", *files]
        subprocess.run(command, check=True)
        return FileDescriptorSet.FromString(Path(out.name).read_bytes()).file


def of_files(files):
    for file in files:
        if file.package.startswith(FOREIGN):
            continue
        for service in file.service:
            for method in service.method:
                request = "stream " * method.client_streaming + method.input_type.lstrip(".")
                answer = "stream " * method.server_streaming + method.output_type.lstrip(".")
                yield f"rpc {file.package}.{service.name} {method.name} {request} -> {answer}"
        for message in file.message_type:
            yield from of_message(file.package, message)
        for enum in file.enum_type:
            yield from of_enum(file.package, enum)


def of_message(scope, message):
    name = f"{scope}.{message.name}"
    yield f"message {name}"
    for field in message.field:
        repeated = "repeated " * (field.label == Field.LABEL_REPEATED)
        oneof = f" oneof {message.oneof_decl[field.oneof_index].name}" if field.HasField("oneof_index") else ""
        yield f"field {name} {field.name} {field.number} {repeated}{type_of(field)}{oneof}"
    for nested in message.nested_type:
        yield from of_message(name, nested)
    for enum in message.enum_type:
        yield from of_enum(name, enum)


def of_enum(scope, enum):
    for value in enum.value:
        yield f"enum {scope}.{enum.name} {value.name} {value.number}"


def type_of(field):
    return field.type_name.lstrip(".") or Field.Type.Name(field.type).removeprefix("TYPE_").lower()


if __name__ == "__main__":
    main()
