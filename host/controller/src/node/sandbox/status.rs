//! What can be read of sandboxes: calls on [`Node`].

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::handle::Handle;
use super::{SandboxMetrics, SandboxStatus, Standing};
use crate::id::{Namespace, SandboxId};
use crate::node::{Node, Result, TASK_API};

impl Node {
    /// How the sandbox stands. `verbose` asks its keeper and guest too, which takes a bounded time.
    pub async fn sandbox_status(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        verbose: bool,
    ) -> Result<SandboxStatus> {
        let handle = self.shared.sandbox(namespace, id)?;
        let mut status = self.status_of(&handle);
        if verbose {
            status.info = self.facts(&handle).await;
        }
        Ok(status)
    }

    /// All sandboxes of a namespace, by id, those that the node made for single containers included.
    pub async fn sandboxes(&self, namespace: &Namespace) -> Result<Vec<SandboxStatus>> {
        Ok(self.shared.sandboxes(Some(namespace)).iter().map(|handle| self.status_of(handle)).collect())
    }

    /// Counters of its containers and of its VMM.
    pub async fn sandbox_metrics(&self, namespace: &Namespace, id: &SandboxId) -> Result<SandboxMetrics> {
        let handle = self.shared.sandbox(namespace, id)?;
        let keeper = self.running(&handle, "measure")?;
        let usage = keeper.usage().await?;
        let names: Vec<_> = handle.mirror().tasks.keys().cloned().collect();
        let mut containers = Vec::new();
        for container in names {
            // One that was deleted meanwhile, or has nothing to tell, is left out.
            if let Ok(sample) = self.stats(namespace, &container).await {
                containers.push((container, sample));
            }
        }
        Ok(SandboxMetrics {
            at: SystemTime::now(),
            containers,
            vmm_resident_bytes: usage.vmm_resident_bytes,
            vmm_cpu_usec: usage.vmm_cpu_usec,
            keeper_resident_bytes: usage.keeper_resident_bytes,
            guest_used_bytes: usage.guest_used_bytes,
            agent_resident_bytes: usage.agent_resident_bytes,
            files: usage.files,
            resources: handle.mirror().entry.create.resources,
        })
    }

    fn status_of(&self, handle: &Handle) -> SandboxStatus {
        let address = self.shared.keepers.address(&handle.namespace, &handle.id);
        let mirror = handle.mirror();
        let entry = &mirror.entry;
        let runs = matches!(entry.standing, Standing::Ready | Standing::Paused);
        SandboxStatus {
            id: handle.id.clone(),
            standing: entry.standing,
            pid: if runs { entry.pid } else { 0 },
            created_at: entry.created_at,
            exit: entry.exit,
            reason: entry.reason.clone(),
            address: if runs { address } else { String::new() },
            version: TASK_API,
            labels: entry.create.labels.clone(),
            resources: entry.create.resources,
            containers: mirror.tasks.keys().cloned().collect(),
            own_of_container: entry.own_of_container,
            info: BTreeMap::new(),
        }
    }

    async fn facts(&self, handle: &Handle) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        {
            let entry = &handle.mirror().entry;
            let create = &entry.create;
            facts.extend(
                create.annotations.iter().map(|(key, value)| (format!("annotation.{key}"), value.clone())),
            );
            facts.insert("netns_path".to_owned(), create.netns_path.clone());
            facts.insert("reason".to_owned(), entry.reason.clone());
        }
        let Some(keeper) = handle.keeper() else { return facts };
        if let Ok(info) = keeper.info().await {
            let cpu = info.allowance.cpu.map(|quota| quota.millis().to_string()).unwrap_or_default();
            let memory = info.allowance.memory_bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
            facts.extend([
                ("keeper_pid".to_owned(), info.keeper_pid.to_string()),
                ("vmm_pid".to_owned(), info.vmm_pid.to_string()),
                ("vcpus".to_owned(), info.vcpus.to_string()),
                ("memory_mib".to_owned(), info.memory_mib.to_string()),
                ("cpu_limit_milli".to_owned(), cpu),
                ("memory_limit_bytes".to_owned(), memory),
                ("kernel_release".to_owned(), info.kernel_release),
                ("agent_version".to_owned(), info.agent_version),
                ("guest_used_bytes".to_owned(), info.guest_used_bytes.to_string()),
                ("vm_failure".to_owned(), info.vm_failure),
            ]);
            facts.extend(
                info.phases.into_iter().map(|(name, at)| (format!("phase.{name}_us"), at.to_string())),
            );
        }
        facts.retain(|_, value| !value.is_empty());
        facts
    }
}
