//! From a request to a task that waits for its start: which bundle, which sandbox, and the undoing when it fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, warn};

use super::lookup::Found;
use super::specification::Specification;
use super::{CreateTask, Task};
use crate::bundle::{self, BundleError, MAX_CONFIG, is_oci};
use crate::error::story;
use crate::id::{Namespace, SandboxId};
use crate::node::Node;
use crate::node::error::{Error, Result};
use crate::node::journal::SandboxEntry;
use crate::node::keeper::NewTask;
use crate::node::sandbox::handle::{Handle, Request};
use crate::node::sandbox::mirror::{Expected, News};
use crate::node::sandbox::{CreateSandbox, Resources};
use crate::node::store::ContainerRecord;
use crate::node::template::OCI_SPEC;
use crate::node::values::Source;

/// How long reading a specification may take.
const READING: Duration = Duration::from_secs(30);

/// Where a task is made.
#[derive(Clone, Copy)]
enum Place {
    /// In a sandbox that is there.
    Joined,
    /// In one of its own, of this size.
    Own(Resources),
}

impl Node {
    /// Makes a task, without running it, and its sandbox if it is to have one of its own. Answers it with its init's pid. A
    /// failure leaves nothing. [`Error::ContainerExists`] for an id that is in use. Goes on when whoever asked has gone.
    pub async fn create_task(&self, namespace: &Namespace, create: CreateTask) -> Result<Task> {
        let (node, namespace) = (self.clone(), namespace.clone());
        self.detached(async move { node.creating(&namespace, create).await }).await
    }

    async fn creating(&self, namespace: &Namespace, create: CreateTask) -> Result<Task> {
        let id = create.container.clone();
        if self.shared.is_container(namespace, &id) {
            return Err(Error::ContainerExists(id));
        }
        let record = self.shared.store.containers.find(namespace, id.as_str());
        let spec = spec_of(&create.source, record.as_deref(), &id).await?;
        let specification = Specification::parse(&spec)?;
        let joined = match create.sandbox.clone() {
            Some(sandbox) => Some(sandbox),
            None => specification.sandbox(record.as_deref(), id.as_str())?,
        };
        let (sandbox, place) = match joined {
            Some(sandbox) => (sandbox, Place::Joined),
            None => (id.as_str().parse()?, Place::Own(specification.size(self.machine()))),
        };
        self.shared.reserve(namespace, &id, &sandbox)?;
        let made = self.make(namespace, &create, record, &spec, &sandbox, place).await;
        if made.is_err() {
            self.shared.release(namespace, &id, &sandbox);
            if let Err(error) = self.shared.journal.remove_bundle(namespace, &id) {
                warn!(container = %id, %error, "the bundle of a task that was not created stays");
            }
        }
        made
    }

    async fn make(
        &self,
        namespace: &Namespace,
        create: &CreateTask,
        record: Option<Arc<ContainerRecord>>,
        spec: &[u8],
        sandbox: &SandboxId,
        place: Place,
    ) -> Result<Task> {
        let id = &create.container;
        let bundle = match &create.source {
            Source::Bundle(path) => path.clone(),
            Source::Store => self
                .shared
                .journal
                .make_bundle(namespace, id, spec)
                .map_err(|error| Error::Internal(format!("failed to make a bundle: {error}")))?,
        };
        let handle = match place {
            Place::Joined => self.shared.sandbox(namespace, sandbox)?,
            Place::Own(size) => self.new_sandbox(namespace, own_sandbox(sandbox.clone(), size)).await?,
        };
        let own = matches!(place, Place::Own(_));
        handle.mirror().expected.insert(
            id.clone(),
            Expected {
                rootfs: create.rootfs.clone(),
                io: create.io.clone(),
                labels: record.map(|record| record.labels.clone()).unwrap_or_default(),
                delete_at_exit: create.delete_at_exit,
            },
        );
        let written = match create.delete_at_exit && !own {
            // Should this process end in the middle, the next one knows what it is not to keep.
            true => self.amend(&handle, |entry| match entry.exit {
                None => {
                    entry.passing.insert(id.clone());
                    Ok(())
                }
                // Nothing is written of one that may be forgotten already.
                Some(_) => Err(handle.refusal("create a container in", "has ended")),
            }),
            false => Ok(()),
        };
        let made = match written {
            Ok(()) => self.make_in(&handle, create, bundle, own).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            self.change(&handle, |mirror| {
                mirror.expected.remove(id);
                News { entry_changed: mirror.entry.passing.remove(id), ..News::default() }
            });
            if own {
                let ended = handle.ask(|reply| Request::Shutdown(Duration::ZERO, reply)).await;
                debug!(container = %id, ?ended, "the sandbox of a task that was not created");
            } else {
                self.maybe_over(&handle);
            }
        }
        made
    }

    async fn make_in(
        &self,
        handle: &Arc<Handle>,
        create: &CreateTask,
        bundle: PathBuf,
        own: bool,
    ) -> Result<Task> {
        if own {
            handle.ask(Request::Start).await?;
        }
        // Of a VM of its own that did not boot, its keeper knows why.
        let keeper = match handle.keeper().filter(|_| own) {
            Some(keeper) => keeper,
            None => self.running(handle, "create a container in")?,
        };
        let task = NewTask {
            container: create.container.clone(),
            bundle,
            rootfs: create.rootfs.clone(),
            io: create.io.clone(),
            options: None,
        };
        keeper.create(task).await?;
        let found = self.look_up(&handle.namespace, &create.container).await?;
        if let Err(error) = self.has_record(&found) {
            // A process that begins anew would not know it.
            let gone = self.delete_task(&handle.namespace, &create.container, true).await;
            warn!(container = %create.container, ?gone, "a container that cannot be written down is deleted");
            return Err(error);
        }
        self.describe(&found).await;
        found.read(|record| record.task())?.ok_or_else(|| Error::UnknownContainer(create.container.clone()))
    }

    /// Whether a task is written down; if it is not, it is tried once more.
    fn has_record(&self, found: &Found) -> Result<()> {
        let (namespace, journal) = (&found.handle.namespace, &self.shared.journal.tasks);
        found.read(|record| match journal.find(namespace, found.id.as_str()) {
            Some(_) => Ok(()),
            None => journal.put(namespace, record.clone()),
        })?
    }
}

fn own_sandbox(id: SandboxId, resources: Resources) -> SandboxEntry {
    let create = CreateSandbox {
        id,
        resources,
        kernel_args: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        netns_path: String::new(),
        extensions: BTreeMap::new(),
    };
    SandboxEntry::new(create, true)
}

/// The specification as JSON.
async fn spec_of(
    source: &Source,
    record: Option<&ContainerRecord>,
    id: &crate::id::ContainerId,
) -> Result<Vec<u8>> {
    match source {
        Source::Bundle(bundle) if bundle.as_os_str().is_empty() => {
            Err(Error::Invalid("empty bundle path".into()))
        }
        Source::Bundle(bundle) if !bundle.is_absolute() => {
            Err(Error::Invalid(format!("the bundle {} is no absolute path", bundle.display())))
        }
        Source::Bundle(bundle) => read_config(bundle).await,
        Source::Store => {
            let unknown = || Error::UnknownRecord { what: "container", id: id.to_string() };
            let spec = record.ok_or_else(unknown)?.spec.as_ref();
            let none =
                || Error::Invalid(format!("the record of container {id} has no spec: update it with one"));
            let spec = spec.ok_or_else(none)?;
            if !is_oci(&spec.type_url, "Spec") {
                return Err(Error::Invalid(format!(
                    "the spec of container {id}'s record is of type {:?}, which is not known here: use {OCI_SPEC}",
                    spec.type_url
                )));
            }
            // It becomes a bundle's.
            if spec.value.len() as u64 > MAX_CONFIG {
                return Err(too_large("the spec of the container's record"));
            }
            Ok(spec.value.clone())
        }
    }
}

/// `config.json` of a bundle, as the keeper will read it. A file system that hangs holds up nobody else.
pub(in crate::node) async fn read_config(bundle: &Path) -> Result<Vec<u8>> {
    let path = bundle.to_owned();
    let reading = tokio::task::spawn_blocking(move || bundle::read_config(&path));
    let late =
        |_| Error::TimedOut { what: format!("reading the bundle {}", bundle.display()), limit: READING };
    let read = timeout(READING, reading).await.map_err(late)?;
    read.map_err(|lost| Error::Internal(lost.to_string()))?.map_err(unreadable)
}

/// Why a bundle's `config.json` is not taken.
pub(in crate::node) fn unreadable(error: BundleError) -> Error {
    match error {
        BundleError::TooLarge(_) => too_large("the bundle's config.json"),
        other => Error::Invalid(story(&other)),
    }
}

fn too_large(what: &'static str) -> Error {
    Error::TooLarge { what, limit: MAX_CONFIG as usize }
}
