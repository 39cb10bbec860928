"""Every message of every RPC means the same to Python's protobuf, over the published definitions, and to our Rust types."""

import random
import subprocess
import unittest

import rust
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message_factory import GetMessageClass

from theca_client import pb

ROUNDS = 20
SERVICES = [pb.api, pb.execution, pb.shim, pb.tasks, pb.containers, pb.sandbox]


def messages():
    """What travels: requests and answers of all RPCs, and the options and counters that travel inside."""
    inside = [pb.cri.PodSandboxConfig, pb.options.SandboxOptions, pb.cgroups.Metrics]
    travelling = {kind.DESCRIPTOR for kind in inside}
    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                travelling |= {method.input_type, method.output_type}
    published = (kind for kind in travelling if not kind.full_name.startswith("google."))
    return [GetMessageClass(kind) for kind in sorted(published, key=lambda kind: kind.full_name)]


@rust.needed
class Wire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rust = rust.start("wire", text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @classmethod
    def tearDownClass(cls):
        cls.rust.stdin.close()
        cls.rust.stdout.close()
        cls.rust.wait(timeout=60)

    def through_rust(self, name, encoded):
        print(pb.ENDPOINT, name, encoded.hex(), file=self.rust.stdin, flush=True)
        answer = self.rust.stdout.readline().strip()
        self.assertRegex(answer, "^[0-9a-f]*$", name)
        return bytes.fromhex(answer)

    def test_a_message_comes_back_from_rust_as_python_wrote_it(self):
        for kind in messages():
            name = kind.DESCRIPTOR.full_name
            with self.subTest(name):
                for seed in range(ROUNDS):
                    sent = filled(kind, random.Random(f"{name} {seed}"))
                    self.assertEqual(kind.FromString(self.through_rust(name, sent.SerializeToString())), sent)
                self.assertEqual(self.through_rust(name, b""), b"")

    def test_what_is_not_a_message_is_refused(self):
        print(pb.ENDPOINT, "types.SignalRequest", "0aff", file=self.rust.stdin, flush=True)
        self.assertTrue(self.rust.stdout.readline().startswith("!"))


def filled(kind, chance, depth=0):
    """A message with a value other than the default in every field (one field of each oneof)."""
    message = kind()
    skipped = set()
    for oneof in kind.DESCRIPTOR.oneofs:
        skipped |= set(oneof.fields) - {chance.choice(oneof.fields)}
    for field in kind.DESCRIPTOR.fields:
        if field in skipped:
            continue
        if is_map(field):
            fill_map(getattr(message, field.name), field, chance, depth)
        elif field.is_repeated:
            getattr(message, field.name).extend(value(field, chance, depth) for _ in range(chance.randint(1, 3)))
        elif field.message_type:
            getattr(message, field.name).CopyFrom(value(field, chance, depth))
        else:
            setattr(message, field.name, value(field, chance, depth))
    return message


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fill_map(entries, field, chance, depth):
    key, content = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    for _ in range(chance.randint(1, 3)):
        if content.message_type:
            entries[value(key, chance, depth)].CopyFrom(value(content, chance, depth))
        else:
            entries[value(key, chance, depth)] = value(content, chance, depth)


def value(field, chance, depth):
    if field.message_type:
        return filled(GetMessageClass(field.message_type), chance, depth + 1)
    if field.type == Field.TYPE_ENUM:
        return chance.choice([one.number for one in field.enum_type.values if one.number])
    if field.type == Field.TYPE_BOOL:
        return True
    if field.type == Field.TYPE_STRING:
        return chance.choice(["web", "θήκη", "a b/c\n", "x" * 300]) + str(chance.randint(1, 10**6))
    if field.type == Field.TYPE_BYTES:
        return chance.randbytes(chance.randint(1, 40))
    if field.type == Field.TYPE_DOUBLE:
        return chance.choice([0.01, 100.0, -1.5, chance.random()])
    bits = 64 if field.type in (Field.TYPE_INT64, Field.TYPE_UINT64) else 32
    if field.type in (Field.TYPE_UINT32, Field.TYPE_UINT64):
        return chance.choice([1, 127, 128, 2**bits - 1, chance.randrange(1, 2**bits)])
    if field.type in (Field.TYPE_INT32, Field.TYPE_INT64):
        return chance.choice([1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), chance.randrange(1, 2 ** (bits - 1))])
    raise AssertionError(f"{field.full_name} has a type that no published definition had")
