//! The store's calls on [`Node`]. Files are written on threads that may block.

use std::sync::Arc;

use super::{ContainerRecord, SandboxRecord, Store};
use crate::id::{ContainerId, Namespace, SandboxId};
use crate::node::{Error, Node, Result};

impl Node {
    /// Keeps a sandbox's record. [`Error::RecordExists`] for a known id. The store sets the times.
    pub async fn create_sandbox_record(
        &self,
        namespace: &Namespace,
        record: SandboxRecord,
    ) -> Result<Arc<SandboxRecord>> {
        let namespace = namespace.clone();
        self.with_store(move |store| store.sandboxes.create(&namespace, record)).await
    }

    /// Takes over the fields at `paths` from `record`; all that may change when there is none.
    pub async fn update_sandbox_record(
        &self,
        namespace: &Namespace,
        record: SandboxRecord,
        paths: Vec<String>,
    ) -> Result<Arc<SandboxRecord>> {
        let namespace = namespace.clone();
        self.with_store(move |store| store.sandboxes.update(&namespace, &record, &paths)).await
    }

    /// A sandbox's record. [`Error::UnknownRecord`] for an unknown id.
    pub fn sandbox_record(&self, namespace: &Namespace, id: &SandboxId) -> Result<Arc<SandboxRecord>> {
        self.store().sandboxes.get(namespace, id.as_str())
    }

    /// Records that match any of `filters` (all when there is none), by id.
    pub fn sandbox_records(
        &self,
        namespace: &Namespace,
        filters: &[String],
    ) -> Result<Vec<Arc<SandboxRecord>>> {
        self.store().sandboxes.list(namespace, filters)
    }

    /// Forgets a sandbox's record, and nothing else. [`Error::UnknownRecord`] for an unknown id.
    pub async fn delete_sandbox_record(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        let (namespace, id) = (namespace.clone(), id.clone());
        self.with_store(move |store| store.sandboxes.delete(&namespace, id.as_str())).await
    }

    /// Keeps a container's record. [`Error::RecordExists`] for a known id. The store sets the times.
    pub async fn create_container_record(
        &self,
        namespace: &Namespace,
        record: ContainerRecord,
    ) -> Result<Arc<ContainerRecord>> {
        let namespace = namespace.clone();
        self.with_store(move |store| store.containers.create(&namespace, record)).await
    }

    /// Takes over the fields at `paths` from `record`; all that may change when there is none.
    pub async fn update_container_record(
        &self,
        namespace: &Namespace,
        record: ContainerRecord,
        paths: Vec<String>,
    ) -> Result<Arc<ContainerRecord>> {
        let namespace = namespace.clone();
        self.with_store(move |store| store.containers.update(&namespace, &record, &paths)).await
    }

    /// A container's record. [`Error::UnknownRecord`] for an unknown id.
    pub fn container_record(&self, namespace: &Namespace, id: &ContainerId) -> Result<Arc<ContainerRecord>> {
        self.store().containers.get(namespace, id.as_str())
    }

    /// Records that match any of `filters` (all when there is none), by id.
    pub fn container_records(
        &self,
        namespace: &Namespace,
        filters: &[String],
    ) -> Result<Vec<Arc<ContainerRecord>>> {
        self.store().containers.list(namespace, filters)
    }

    /// Forgets a container's record. [`Error::UnknownRecord`] for an unknown id; refused while it has a task.
    pub async fn delete_container_record(&self, namespace: &Namespace, id: &ContainerId) -> Result<()> {
        self.refuse_while_task(namespace, id)?;
        let (namespace, id) = (namespace.clone(), id.clone());
        self.with_store(move |store| store.containers.delete(&namespace, id.as_str())).await
    }

    async fn with_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store: Arc<Store> = self.store().clone();
        let done = tokio::task::spawn_blocking(move || act(&store)).await;
        done.map_err(|lost| Error::Internal(format!("the store failed: {lost}")))?
    }
}
