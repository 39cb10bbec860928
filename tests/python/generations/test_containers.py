"""containerd.services.containers.v1.Containers, in today's form and in that of 2017."""

import unittest

from google.protobuf.any_pb2 import Any
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from host import TODAY, Case
from theca_client import expect, oci_spec, pb


class Containers(Case):
    def create(self, id=None, **fields):
        id = id or self.name()
        container = pb.containers.Container(id=id, **fields)
        made = self.theca.containers.Create(pb.containers.CreateContainerRequest(container=container)).container
        self.addCleanup(self.forget, id)
        return made

    def forget(self, id):
        if self.listed(f"id=={id}"):
            self.theca.containers.Delete(pb.containers.DeleteContainerRequest(id=id))

    def get(self, id):
        return self.theca.containers.Get(pb.containers.GetContainerRequest(id=id)).container

    def listed(self, *filters):
        # The form of 2017 takes one filter.
        request = {"filters": filters} if TODAY else {"filter": ",".join(filters)}
        answer = self.theca.containers.List(pb.containers.ListContainersRequest(**request))
        return [container.id for container in answer.containers]

    def update(self, container, *paths):
        mask = FieldMask(paths=paths) if paths else None
        request = pb.containers.UpdateContainerRequest(container=container, update_mask=mask)
        return self.theca.containers.Update(request).container

    def test_a_container_is_kept_with_all_it_has(self):
        spec = oci_spec({"ociVersion": "1.0.0"})
        options = Any(type_url="example.Options", value=b"o") if TODAY else {"shim": "theca"}
        runtime = pb.containers.Container.Runtime(name="theca", options=options)
        form = {"snapshotter": "erofs", "snapshot_key": "web", "sandbox": "pod"} if TODAY else {"rootfs": "web"}
        made = self.create(labels={"team": "blue"}, image="debian", runtime=runtime, spec=spec, **form)
        self.assertEqual(self.get(made.id), made)
        self.assertEqual((made.image, made.spec, made.runtime), ("debian", spec, runtime))
        for field, value in form.items():
            self.assertEqual(getattr(made, field), value)
        self.assertGreater(made.created_at.seconds, 0)
        self.assertEqual(made.updated_at, made.created_at)

    def test_an_update_takes_over_the_fields_of_its_mask(self):
        made = self.create(labels={"team": "blue", "app": "web"}, image="old")
        changed = pb.containers.Container(id=made.id, labels={"team": "red"}, image="new")
        after = self.update(changed, "labels.team")
        self.assertEqual((dict(after.labels), after.image), ({"team": "red", "app": "web"}, "old"))
        after = self.update(changed, "image")
        self.assertEqual((dict(after.labels), after.image), ({"team": "red", "app": "web"}, "new"))
        changed.image = "newest"
        after = self.update(changed)
        self.assertEqual((dict(after.labels), after.image), ({"team": "red"}, "newest"))
        self.assertGreater(after.updated_at.ToNanoseconds(), made.updated_at.ToNanoseconds())

    def test_an_update_takes_over_the_specification_and_the_root(self):
        old, new = oci_spec({"ociVersion": "1.0.0"}), oci_spec({"ociVersion": "1.0.2"})
        field = "snapshot_key" if TODAY else "rootfs"
        made = self.create(spec=old, image="debian", **{field: "old"})
        changed = pb.containers.Container(id=made.id, spec=new, **{field: "new"})
        seen = lambda container: (container.spec, getattr(container, field), container.image)
        self.assertEqual(seen(self.update(changed, "spec")), (new, "old", "debian"))
        self.assertEqual(seen(self.update(changed, field)), (new, "new", "debian"))
        self.assertEqual(seen(self.get(made.id)), (new, "new", "debian"))

    @unittest.skipUnless(TODAY, "the form of 2017 has no extensions")
    def test_an_update_takes_over_extensions_or_some_of_them(self):
        note = lambda text: Any(type_url="example.Note", value=text)
        made = self.create(extensions={"a": note(b"1"), "b": note(b"2")})
        changed = pb.containers.Container(id=made.id, extensions={"b": note(b"3")})
        extensions = lambda *paths: {key: note.value for key, note in self.update(changed, *paths).extensions.items()}
        self.assertEqual(extensions("extensions.b"), {"a": b"1", "b": b"3"})
        self.assertEqual(extensions("extensions.a"), {"b": b"3"})
        changed.extensions["c"].CopyFrom(note(b"4"))
        self.assertEqual(extensions("extensions"), {"b": b"3", "c": b"4"})

    def test_a_runtime_never_changes(self):
        made = self.create(runtime={"name": "theca"}, image="old")
        changed = pb.containers.Container(id=made.id, runtime={"name": "runc"}, image="new")
        with expect(StatusCode.INVALID_ARGUMENT, "runtime's name of a container cannot change"):
            self.update(changed)
        for path in ["runtime", "runtime.name"]:
            with self.subTest(path), expect(StatusCode.INVALID_ARGUMENT, path):
                self.update(changed, path)
        self.assertEqual(self.get(made.id), made)
        after = self.update(changed, "image")
        self.assertEqual((after.runtime.name, after.image), ("theca", "new"))

    @unittest.skipUnless(TODAY, "the form of 2017 has no snapshotter")
    def test_an_update_of_everything_leaves_what_never_changes(self):
        made = self.create(snapshotter="erofs", snapshot_key="web")
        made.snapshot_key = "web-2"
        self.assertEqual(self.update(made).snapshot_key, "web-2")
        made.snapshotter = "overlayfs"
        with expect(StatusCode.INVALID_ARGUMENT, "snapshotter of a container cannot change"):
            self.update(made)

    def test_lists_have_filters(self):
        blue = self.create(labels={"team": "blue"}, image="debian").id
        red = self.create(labels={"team": "red"}, image="alpine").id
        self.assertLessEqual({blue, red}, set(self.listed()))
        self.assertEqual(self.listed(f"id=={red}"), [red])
        self.assertEqual(self.listed(f"id~=^({blue}|{red})$,image==debian"), [blue])
        self.assertEqual(self.listed(f"id~=^({blue}|{red})$,labels.team!=blue"), [red])
        with expect(StatusCode.INVALID_ARGUMENT, "filter"):
            self.listed("id=x")

    def test_lists_are_filtered_by_runtime_and_by_what_is_there(self):
        blue = self.create(labels={"team": "blue", "io.x/y": "1"}, image="debian", runtime={"name": "theca"}).id
        bare = self.create(labels={"team": ""}).id
        both = f"id~=^({blue}|{bare})$"
        self.assertEqual(self.listed(f"{both},runtime.name==theca"), [blue])
        self.assertEqual(self.listed(f"{both},runtime.name!=theca"), [bare])
        for present in ["labels.team", 'labels."io.x/y"', "image", "runtime.name"]:
            with self.subTest(present):
                self.assertEqual(self.listed(f"{both},{present}"), [blue])
        self.assertEqual(self.listed(f"{both},nonsense"), [])

    @unittest.skipUnless(TODAY, "the form of 2017 has no sandbox")
    def test_lists_are_filtered_by_sandbox(self):
        inside, outside = self.create(sandbox="pod").id, self.create().id
        self.assertEqual(self.listed(f"id~=^({inside}|{outside})$,sandbox==pod"), [inside])
        self.assertEqual(self.listed(f"id~=^({inside}|{outside})$,sandbox!=pod"), [outside])

    @unittest.skipUnless(TODAY, "2017 has no ListStream")
    def test_a_list_may_be_a_stream(self):
        made = {self.create().id for _ in range(3)}
        stream = self.theca.containers.ListStream(pb.containers.ListContainersRequest())
        self.assertLessEqual(made, {message.container.id for message in stream})
        with expect(StatusCode.INVALID_ARGUMENT, "filter"):
            list(self.theca.containers.ListStream(pb.containers.ListContainersRequest(filters=["id=x"])))

    def test_known_and_unknown_ids_are_refused(self):
        made = self.create()
        with expect(StatusCode.ALREADY_EXISTS, made.id):
            self.create(id=made.id)
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.get("nobody")
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.update(pb.containers.Container(id="nobody"), "image")
        with expect(StatusCode.NOT_FOUND, "nobody"):
            self.theca.containers.Delete(pb.containers.DeleteContainerRequest(id="nobody"))

    def test_requests_that_make_no_sense_are_refused(self):
        with expect(StatusCode.INVALID_ARGUMENT, "no container"):
            self.theca.containers.Create(pb.containers.CreateContainerRequest())
        made = self.create()
        for path in ["id", "created_at", "nonsense"]:
            with self.subTest(path), expect(StatusCode.INVALID_ARGUMENT, path):
                self.update(made, path)

    def test_a_deleted_container_is_gone_and_its_id_free(self):
        made = self.create()
        self.theca.containers.Delete(pb.containers.DeleteContainerRequest(id=made.id))
        with expect(StatusCode.NOT_FOUND):
            self.get(made.id)
        self.create(id=made.id)


if __name__ == "__main__":
    unittest.main()
