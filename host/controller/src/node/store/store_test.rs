use std::fs;

use super::documents::{Documents, MAX_BYTES_IN_NAMESPACE};
use super::{ContainerRecord, Durability, Runtime, SandboxRecord, Store};
use crate::id::Namespace;
use crate::node::error::{Error, Kind};
use crate::node::values::Payload;

fn namespace() -> Namespace {
    "tests".parse().unwrap()
}

fn sandbox(id: &str, team: &str) -> SandboxRecord {
    let mut record = SandboxRecord::new(id.parse().unwrap());
    record.labels.insert("io.example/team".into(), team.into());
    record.spec = Some(Payload { type_url: "spec".into(), value: vec![0, 255, b'"'] });
    record
}

#[test]
fn what_was_kept_is_there_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let kept = store.sandboxes.create(&namespace(), sandbox("web", "red")).unwrap();
    store.containers.create(&namespace(), ContainerRecord::new("web".parse().unwrap())).unwrap();
    store.sandboxes.create(&namespace(), sandbox("gone", "red")).unwrap();
    store.sandboxes.delete(&namespace(), "gone").unwrap();
    let again = Store::open(root.path()).unwrap();
    assert_eq!(again.sandboxes.list(&namespace(), &[]).unwrap(), [kept]);
    assert!(again.containers.get(&namespace(), "web").is_ok());
    let other = "other".parse().unwrap();
    assert!(again.sandboxes.list(&other, &[]).unwrap().is_empty());
}

#[test]
fn known_and_unknown_ids_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let ns = namespace();
    store.sandboxes.create(&ns, sandbox("web", "red")).unwrap();
    let twice = store.sandboxes.create(&ns, sandbox("web", "blue"));
    assert_eq!(twice.unwrap_err().kind(), Kind::AlreadyExists);
    let unknown: [Error; 3] = [
        store.sandboxes.get(&ns, "db").unwrap_err(),
        store.sandboxes.delete(&ns, "db").unwrap_err(),
        store.sandboxes.update(&ns, &sandbox("db", "red"), &[]).unwrap_err(),
    ];
    assert!(unknown.iter().all(|error| error.kind() == Kind::NotFound));
}

#[test]
fn an_update_takes_over_what_is_named() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let ns = namespace();
    let before = store.sandboxes.create(&ns, sandbox("web", "red")).unwrap();
    let mut wanted = sandbox("web", "blue");
    wanted.spec = None;
    wanted.runtime = Some(Runtime { name: "theca".into(), ..Runtime::default() });
    let after = store.sandboxes.update(&ns, &wanted, &["labels.io.example/team".into()]).unwrap();
    assert_eq!(
        (&after.labels["io.example/team"][..], &after.spec, &after.runtime),
        ("blue", &before.spec, &None)
    );
    assert_eq!(after.created_at, before.created_at);
    assert!(after.updated_at >= before.updated_at);
    let all = store.sandboxes.update(&ns, &wanted, &[]).unwrap();
    assert_eq!((&all.spec, &all.runtime), (&None, &wanted.runtime));
    let refused = store.sandboxes.update(&ns, &wanted, &["labels".into(), "id".into()]).unwrap_err();
    assert_eq!(refused.kind(), Kind::InvalidArgument);
    assert_eq!(
        refused.to_string(),
        "cannot update field \"id\" of a sandbox: use labels, extensions, spec, runtime or sandboxer"
    );
}

#[test]
fn an_update_of_a_whole_container_takes_image_and_snapshot_too_and_refuses_what_never_changes() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let ns = namespace();
    let mut kept = ContainerRecord::new("web".parse().unwrap());
    kept.snapshotter = "erofs".into();
    kept.runtime = Some(Runtime { name: "theca".into(), ..Runtime::default() });
    store.containers.create(&ns, kept.clone()).unwrap();
    let wanted = ContainerRecord { image: "debian".into(), snapshot_key: "web-2".into(), ..kept.clone() };
    let after = store.containers.update(&ns, &wanted, &[]).unwrap();
    assert_eq!((after.image.as_str(), after.snapshot_key.as_str()), ("debian", "web-2"));
    let other = ContainerRecord { snapshotter: "overlayfs".into(), ..wanted.clone() };
    let runtime = ContainerRecord { runtime: None, ..wanted.clone() };
    for (from, field) in
        [(other, "the snapshotter of a container"), (runtime, "the runtime's name of a container")]
    {
        let error = store.containers.update(&ns, &from, &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().starts_with(field), "{error}");
        store.containers.update(&ns, &from, &["image".into()]).unwrap();
    }
}

#[test]
fn a_list_is_filtered() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for (id, team) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        store.sandboxes.create(&namespace(), sandbox(id, team)).unwrap();
    }
    let ids = |filters: &[&str]| {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let found = store.sandboxes.list(&namespace(), &filters).unwrap();
        found.iter().map(|record| record.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["labels.\"io.example/team\"==red"]), ["a", "c"]);
    assert_eq!(ids(&["id==b", "labels.\"io.example/team\"==red,id!=a"]), ["b", "c"]);
    assert!(store.sandboxes.list(&namespace(), &["id=".into()]).is_err());
}

#[test]
fn a_broken_file_is_set_aside_and_half_a_write_is_not_seen() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    store.sandboxes.create(&namespace(), sandbox("web", "red")).unwrap();
    let folder = root.path().join("thecad/tests/sandboxes");
    fs::write(folder.join("db.json"), "{\"id\":").unwrap();
    fs::write(folder.join("liar.json"), fs::read(folder.join("web.json")).unwrap()).unwrap();
    fs::write(folder.join(".web.new"), "{").unwrap();
    let again = Store::open(root.path()).unwrap();
    assert_eq!(again.sandboxes.list(&namespace(), &[]).unwrap().len(), 1);
    assert!(folder.join("db.broken").exists() && folder.join("liar.broken").exists());
    again.sandboxes.create(&namespace(), sandbox("db", "red")).unwrap();
}

#[test]
fn a_write_that_takes_long_holds_up_no_reader() {
    use nix::sys::stat::Mode;
    use std::sync::mpsc;
    use std::time::Duration;

    let root = tempfile::tempdir().unwrap();
    let store = Documents::<SandboxRecord>::open(root.path(), "sandboxes", Durability::Kernel).unwrap();
    store.create(&namespace(), sandbox("web", "red")).unwrap();
    // Whoever opens it to write waits for a reader.
    let slow = root.path().join("tests/sandboxes/.db.new");
    nix::unistd::mkfifo(&slow, Mode::S_IRWXU).unwrap();
    std::thread::scope(|threads| {
        let (read, done) = mpsc::channel();
        let (store, slow) = (&store, &slow);
        let writer = threads.spawn(|| store.create(&namespace(), sandbox("db", "red")));
        threads.spawn(move || {
            while store.files_are_free() {
                std::thread::yield_now();
            }
            read.send(
                store.get(&namespace(), "web").is_ok() && store.list(&namespace(), &[]).unwrap().len() == 1,
            )
        });
        let seen = done.recv_timeout(Duration::from_secs(20));
        fs::read(slow).unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(seen, Ok(true));
    });
    assert!(store.get(&namespace(), "db").is_ok());
}

#[test]
fn records_of_a_namespace_have_so_much_room_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let store = Documents::<SandboxRecord>::open(root.path(), "sandboxes", Durability::Kernel).unwrap();
    let large = |id: &str, mib: usize| {
        let mut record = sandbox(id, "red");
        record.labels.insert("x".into(), "x".repeat(mib << 20));
        record
    };
    let mut count = 0;
    let refused = loop {
        match store.create(&namespace(), large(&format!("s{count}"), 3)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((count, refused.kind()), (MAX_BYTES_IN_NAMESPACE / (3 << 20), Kind::ResourceExhausted));
    assert!(refused.to_string().contains("namespace tests may be no more than 64 MiB together"), "{refused}");
    let another: Namespace = "another".parse().unwrap();
    store.create(&another, large("s0", 3)).unwrap();
    let labels = ["labels".to_owned()];
    store.update(&namespace(), &sandbox("s0", "red"), &labels).unwrap();
    store.create(&namespace(), large("more", 3)).unwrap();
    let again = Documents::<SandboxRecord>::open(root.path(), "sandboxes", Durability::Kernel).unwrap();
    let still = again.update(&namespace(), &large("s0", 3), &labels).unwrap_err();
    assert_eq!(still.kind(), Kind::ResourceExhausted, "what was there before counts");
    again.delete(&namespace(), "s1").unwrap();
    again.update(&namespace(), &large("s0", 3), &labels).unwrap();
}
