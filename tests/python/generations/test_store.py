"""containerd.services.sandbox.v1.Store, in both of its forms: they have the same messages."""

import unittest

from google.protobuf.any_pb2 import Any
from grpc import StatusCode

from host import SOCKET, TODAY, Case
from theca_client import Client, expect, pb


def note(text):
    return Any(type_url="example.Note", value=text.encode())


class Store(Case):
    def name(self, kind="pod"):
        id = super().name(kind)
        self.addCleanup(self.forget, id)
        return id

    def forget(self, id):
        listed = self.theca.store.List(pb.sandbox.StoreListRequest(filters=[f"id=={id}"])).list
        for sandbox in listed:
            self.theca.store.Delete(pb.sandbox.StoreDeleteRequest(sandbox_id=sandbox.sandbox_id))

    def create(self, **fields):
        sandbox = pb.sandbox_types.Sandbox(**{"sandbox_id": self.name(), **fields})
        return self.theca.store.Create(pb.sandbox.StoreCreateRequest(sandbox=sandbox)).sandbox

    def get(self, id):
        return self.theca.store.Get(pb.sandbox.StoreGetRequest(sandbox_id=id)).sandbox

    def listed(self, *filters):
        answer = self.theca.store.List(pb.sandbox.StoreListRequest(filters=filters))
        return [sandbox.sandbox_id for sandbox in answer.list]

    def update(self, sandbox, *fields):
        request = pb.sandbox.StoreUpdateRequest(sandbox=sandbox, fields=fields)
        return self.theca.store.Update(request).sandbox

    def test_a_sandbox_is_kept_with_all_it_has(self):
        made = self.create(
            runtime=pb.sandbox_types.Sandbox.Runtime(name="theca", options=note("options")),
            spec=note("spec"),
            labels={"team": "blue"},
            extensions={"metadata": note("extension")},
        )
        self.assertEqual(self.get(made.sandbox_id), made)
        self.assertEqual((made.runtime.name, made.runtime.options), ("theca", note("options")))
        self.assertEqual((made.spec, made.labels["team"]), (note("spec"), "blue"))
        self.assertEqual(made.extensions["metadata"], note("extension"))
        self.assertGreater(made.created_at.seconds, 0)
        self.assertEqual(made.updated_at, made.created_at)

    def test_an_update_takes_over_the_fields_that_it_names(self):
        made = self.create(labels={"team": "blue", "app": "web"}, spec=note("old"))
        changed = pb.sandbox_types.Sandbox(sandbox_id=made.sandbox_id, labels={"team": "red"}, spec=note("new"))
        after = self.update(changed, "labels.team")
        self.assertEqual((dict(after.labels), after.spec), ({"team": "red", "app": "web"}, note("old")))
        after = self.update(changed, "labels", "spec")
        self.assertEqual((dict(after.labels), after.spec), ({"team": "red"}, note("new")))
        self.assertEqual(after.created_at, made.created_at)
        self.assertGreater(after.updated_at.ToNanoseconds(), made.updated_at.ToNanoseconds())
        self.assertEqual(self.get(made.sandbox_id), after)

    def test_an_update_takes_over_extensions_or_some_of_them(self):
        made = self.create(extensions={"a": note("1"), "b": note("2")}, labels={"team": "blue"})
        changed = pb.sandbox_types.Sandbox(sandbox_id=made.sandbox_id, extensions={"b": note("3"), "c.d": note("4")})
        extensions = lambda *fields: {key: note.value for key, note in self.update(changed, *fields).extensions.items()}
        self.assertEqual(extensions("extensions.b"), {"a": b"1", "b": b"3"})
        self.assertEqual(extensions("extensions.c.d"), {"a": b"1", "b": b"3", "c.d": b"4"})
        # A key that is not there any more goes.
        self.assertEqual(extensions("extensions.a"), {"b": b"3", "c.d": b"4"})
        changed.extensions.pop("b")
        self.assertEqual(extensions("extensions"), {"c.d": b"4"})
        self.assertEqual(dict(self.get(made.sandbox_id).labels), {"team": "blue"})

    def test_an_update_takes_over_the_runtime(self):
        made = self.create(runtime={"name": "old", "options": note("o")}, labels={"team": "blue"})
        after = self.update(pb.sandbox_types.Sandbox(sandbox_id=made.sandbox_id, runtime={"name": "new"}), "runtime")
        self.assertEqual((after.runtime.name, after.runtime.HasField("options")), ("new", False))
        self.assertEqual((dict(after.labels), self.get(made.sandbox_id)), ({"team": "blue"}, after))
        with expect(StatusCode.INVALID_ARGUMENT, "runtime.name"):
            self.update(made, "runtime.name")

    @unittest.skipUnless(TODAY, "2022 has no sandboxer")
    def test_an_update_takes_over_the_sandboxer_if_it_is_named(self):
        made = self.create(sandboxer="old")
        self.assertEqual(made.sandboxer, "old")
        changed = pb.sandbox_types.Sandbox(sandbox_id=made.sandbox_id, sandboxer="new")
        self.assertEqual(self.update(changed).sandboxer, "old")
        self.assertEqual(self.update(changed, "sandboxer").sandboxer, "new")
        self.assertEqual(self.listed(f"id=={made.sandbox_id},sandboxer==new"), [made.sandbox_id])
        self.assertEqual(self.listed(f"id=={made.sandbox_id},sandboxer==old"), [])

    def test_an_update_without_fields_takes_over_all_that_may_change(self):
        made = self.create(labels={"team": "blue"}, spec=note("old"))
        after = self.update(pb.sandbox_types.Sandbox(sandbox_id=made.sandbox_id, labels={"team": "red"}))
        self.assertEqual((dict(after.labels), after.HasField("spec")), ({"team": "red"}, False))

    def test_lists_have_filters(self):
        blue = self.create(labels={"team": "blue", "io.x/y": "a,b"}).sandbox_id
        red = self.create(labels={"team": "red"}).sandbox_id
        both = sorted([blue, red])
        self.assertLessEqual(set(both), set(self.listed()))
        self.assertEqual(self.listed(f"id=={blue}"), [blue])
        self.assertEqual(self.listed(f"id=={blue}", f"id=={red}"), both)
        self.assertEqual(self.listed(f"id=={blue},labels.team==red"), [])
        self.assertEqual(self.listed('labels."io.x/y"=="a,b"'), [blue])
        self.assertEqual(self.listed(f"id~=^({blue}|{red})$,labels.team!=blue"), [red])
        self.assertEqual(self.listed(f"id~=^({blue}|{red})$,labels.team~=^bl"), [blue])

    def test_lists_are_filtered_by_runtime_and_by_what_is_there(self):
        blue = self.create(labels={"team": "blue", "io.x/y": "1"}, runtime={"name": "theca"}).sandbox_id
        bare = self.create(labels={"team": ""}).sandbox_id
        both = f"id~=^({blue}|{bare})$"
        self.assertEqual(self.listed(f"{both},runtime.name==theca"), [blue])
        self.assertEqual(self.listed(f"{both},runtime.name!=theca"), [bare])
        self.assertEqual(self.listed(f"{both},runtime.name"), [blue])
        self.assertEqual(self.listed(f"{both},labels.team"), [blue], "an empty one counts as none")
        self.assertEqual(self.listed(f'{both},labels."io.x/y"'), [blue])
        self.assertEqual(self.listed(f"sandbox_id=={bare}"), [bare])
        self.assertEqual(self.listed(f"{both},nonsense"), [])

    def test_a_filter_that_is_none_is_refused(self):
        for filter in ["id=", "id==", "==x", 'labels."team==x', "id=~x", "id~=["]:
            with self.subTest(filter), expect(StatusCode.INVALID_ARGUMENT, "filter"):
                self.listed(filter)

    def test_a_known_id_is_refused(self):
        made = self.create()
        with expect(StatusCode.ALREADY_EXISTS, made.sandbox_id):
            self.create(sandbox_id=made.sandbox_id)

    def test_an_unknown_id_is_refused(self):
        nobody = pb.sandbox_types.Sandbox(sandbox_id="nobody")
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.get("nobody")
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.theca.store.Delete(pb.sandbox.StoreDeleteRequest(sandbox_id="nobody"))
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.update(nobody, "labels")

    def test_a_deleted_sandbox_is_gone_and_its_id_free(self):
        made = self.create()
        self.theca.store.Delete(pb.sandbox.StoreDeleteRequest(sandbox_id=made.sandbox_id))
        with expect(StatusCode.NOT_FOUND):
            self.get(made.sandbox_id)
        self.create(sandbox_id=made.sandbox_id)

    def test_requests_that_make_no_sense_are_refused(self):
        with expect(StatusCode.INVALID_ARGUMENT, "no sandbox"):
            self.theca.store.Create(pb.sandbox.StoreCreateRequest())
        with expect(StatusCode.INVALID_ARGUMENT, "no sandbox"):
            self.theca.store.Update(pb.sandbox.StoreUpdateRequest())
        made = self.create()
        for field in ["sandbox_id", "created_at", "nonsense", "labels."]:
            with self.subTest(field), expect(StatusCode.INVALID_ARGUMENT, field):
                self.update(made, field)

    def test_namespaces_do_not_see_each_other(self):
        made = self.create()
        with Client(SOCKET, namespace="another") as another:
            self.assertNotIn(made.sandbox_id, [s.sandbox_id for s in another.store.List(pb.sandbox.StoreListRequest()).list])
            with expect(StatusCode.NOT_FOUND):
                another.store.Get(pb.sandbox.StoreGetRequest(sandbox_id=made.sandbox_id))


if __name__ == "__main__":
    unittest.main()
