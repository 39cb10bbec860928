//! Records of the sandbox store and of the container store, today's form and that of 2017.

use std::collections::{BTreeMap, HashMap};

use prost_types::{Any, FieldMask};
use theca_controller::node::Error;
use theca_controller::node::store::{ContainerRecord, Runtime, SandboxRecord};
use theca_controller::node::values::Payload;
use theca_proto::containerd::services::containers::v1 as today;
use theca_proto::containerd::types::{Sandbox, sandbox};
use theca_proto::generations::containerd::services::containers::v1 as of_2017;

use super::payload::{any, payload};
use super::time;

/// A sandbox as its client wants it kept.
pub fn sandbox(sandbox: Option<Sandbox>) -> Result<SandboxRecord, Error> {
    let sandbox = sandbox.ok_or_else(|| Error::Invalid("the request has no sandbox".into()))?;
    let runtime = |runtime: sandbox::Runtime| Runtime {
        name: runtime.name,
        options: runtime.options.map(payload),
        words: BTreeMap::new(),
    };
    Ok(SandboxRecord {
        runtime: sandbox.runtime.map(runtime),
        spec: sandbox.spec.map(payload),
        labels: sandbox.labels.into_iter().collect(),
        extensions: payloads(sandbox.extensions),
        sandboxer: sandbox.sandboxer,
        ..SandboxRecord::new(sandbox.sandbox_id.parse()?)
    })
}

/// A sandbox as it is kept.
pub fn sandbox_wire(record: &SandboxRecord) -> Sandbox {
    let runtime =
        |runtime: Runtime| sandbox::Runtime { name: runtime.name, options: runtime.options.map(any) };
    Sandbox {
        sandbox_id: record.id.to_string(),
        runtime: record.runtime.clone().map(runtime),
        spec: record.spec.clone().map(any),
        labels: record.labels.clone().into_iter().collect(),
        created_at: Some(time::wire(record.created_at)),
        updated_at: Some(time::wire(record.updated_at)),
        extensions: anys(record.extensions.clone()),
        sandboxer: record.sandboxer.clone(),
    }
}

/// A container as its client wants it kept.
pub fn container(container: Option<today::Container>) -> Result<ContainerRecord, Error> {
    let container = container.ok_or_else(no_container)?;
    let runtime = |runtime: today::container::Runtime| Runtime {
        name: runtime.name,
        options: runtime.options.map(payload),
        words: BTreeMap::new(),
    };
    let sandbox = Some(container.sandbox).filter(|id| !id.is_empty());
    Ok(ContainerRecord {
        labels: container.labels.into_iter().collect(),
        image: container.image,
        runtime: container.runtime.map(runtime),
        spec: container.spec.map(payload),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        extensions: payloads(container.extensions),
        sandbox: sandbox.map(|id| id.parse()).transpose()?,
        ..ContainerRecord::new(container.id.parse()?)
    })
}

/// A container as it is kept.
pub fn container_wire(record: &ContainerRecord) -> today::Container {
    let runtime = |runtime: Runtime| today::container::Runtime {
        name: runtime.name,
        options: runtime.options.map(any),
    };
    today::Container {
        id: record.id.to_string(),
        labels: record.labels.clone().into_iter().collect(),
        image: record.image.clone(),
        runtime: record.runtime.clone().map(runtime),
        spec: record.spec.clone().map(any),
        snapshotter: record.snapshotter.clone(),
        snapshot_key: record.snapshot_key.clone(),
        created_at: Some(time::wire(record.created_at)),
        updated_at: Some(time::wire(record.updated_at)),
        extensions: anys(record.extensions.clone()),
        sandbox: record.sandbox.as_ref().map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// A container as a client of 2017 wants it kept. Its `rootfs` is the key of a snapshot, and its runtime's options are words.
pub fn container_2017(container: Option<of_2017::Container>) -> Result<ContainerRecord, Error> {
    let container = container.ok_or_else(no_container)?;
    let runtime = |runtime: of_2017::container::Runtime| Runtime {
        name: runtime.name,
        options: None,
        words: runtime.options.into_iter().collect(),
    };
    Ok(ContainerRecord {
        labels: container.labels.into_iter().collect(),
        image: container.image,
        runtime: container.runtime.map(runtime),
        spec: container.spec.map(payload),
        snapshot_key: container.rootfs,
        ..ContainerRecord::new(container.id.parse()?)
    })
}

/// A container as it is kept, as far as the form of 2017 can tell.
pub fn container_2017_wire(record: &ContainerRecord) -> of_2017::Container {
    let runtime = |runtime: Runtime| of_2017::container::Runtime {
        name: runtime.name,
        options: runtime.words.into_iter().collect(),
    };
    of_2017::Container {
        id: record.id.to_string(),
        labels: record.labels.clone().into_iter().collect(),
        image: record.image.clone(),
        runtime: record.runtime.clone().map(runtime),
        spec: record.spec.clone().map(any),
        rootfs: record.snapshot_key.clone(),
        created_at: Some(time::wire(record.created_at)),
        updated_at: Some(time::wire(record.updated_at)),
    }
}

/// Paths of an Update; none means all that may change.
pub fn paths(mask: Option<FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

/// Extensions, from the wire.
pub fn payloads(extensions: HashMap<String, Any>) -> BTreeMap<String, Payload> {
    extensions.into_iter().map(|(name, value)| (name, payload(value))).collect()
}

fn anys(extensions: BTreeMap<String, Payload>) -> HashMap<String, Any> {
    extensions.into_iter().map(|(name, value)| (name, any(value))).collect()
}

fn no_container() -> Error {
    Error::Invalid("the request has no container".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Any {
        Any { type_url: "example.Note".into(), value: text.into() }
    }

    #[test]
    fn a_sandbox_comes_back_as_it_was_given_but_for_the_times() {
        let given = Sandbox {
            sandbox_id: "pod".into(),
            runtime: Some(sandbox::Runtime { name: "theca".into(), options: Some(note("o")) }),
            spec: Some(note("s")),
            labels: HashMap::from([("team".into(), "blue".into())]),
            created_at: None,
            updated_at: None,
            extensions: HashMap::from([("metadata".into(), note("e"))]),
            sandboxer: "theca".into(),
        };
        let kept = sandbox_wire(&sandbox(Some(given.clone())).unwrap());
        assert!(kept.created_at.is_some() && kept.updated_at.is_some());
        assert_eq!(Sandbox { created_at: None, updated_at: None, ..kept }, given);
    }

    #[test]
    fn a_container_comes_back_as_it_was_given_but_for_the_times() {
        let given = today::Container {
            id: "web".into(),
            labels: HashMap::from([("team".into(), "blue".into())]),
            image: "debian".into(),
            runtime: Some(today::container::Runtime { name: "theca".into(), options: Some(note("o")) }),
            spec: Some(note("s")),
            snapshotter: "erofs".into(),
            snapshot_key: "web".into(),
            extensions: HashMap::from([("x".into(), note("e"))]),
            sandbox: "pod".into(),
            ..Default::default()
        };
        let kept = container_wire(&container(Some(given.clone())).unwrap());
        assert_eq!(today::Container { created_at: None, updated_at: None, ..kept }, given);
    }

    #[test]
    fn a_container_of_2017_has_words_for_options_and_its_snapshot_for_root() {
        let words = HashMap::from([("shim".into(), "theca".into())]);
        let given = of_2017::Container {
            id: "web".into(),
            runtime: Some(of_2017::container::Runtime { name: "theca".into(), options: words }),
            rootfs: "web-root".into(),
            ..Default::default()
        };
        let record = container_2017(Some(given.clone())).unwrap();
        assert_eq!(container_wire(&record).snapshot_key, "web-root");
        let kept = container_2017_wire(&record);
        assert_eq!(of_2017::Container { created_at: None, updated_at: None, ..kept }, given);
    }

    #[test]
    fn records_without_a_name_that_may_be_kept_are_refused() {
        for id in ["", "../etc", "a/b", &"x".repeat(77)] {
            assert!(
                sandbox(Some(Sandbox { sandbox_id: id.into(), ..Default::default() })).is_err(),
                "{id:?}"
            );
            assert!(
                container(Some(today::Container { id: id.into(), ..Default::default() })).is_err(),
                "{id:?}"
            );
            let joins = today::Container { id: "web".into(), sandbox: id.into(), ..Default::default() };
            assert_eq!(container(Some(joins)).is_ok(), id.is_empty(), "{id:?}");
        }
        assert!(sandbox(None).is_err() && container(None).is_err() && container_2017(None).is_err());
    }
}
