//! What may change of a sandbox, and when: before its start everything that it is made of, while it runs what its containers may
//! use of the VM. A VM does not become larger.

use std::sync::Arc;

use super::handle::Handle;
use super::{Resources, Standing, UpdateSandbox, kernel_args};
use crate::id::{Namespace, SandboxId};
use crate::node::journal::SandboxEntry;
use crate::node::{Error, Node, Result};
use crate::sandbox::allowance::{Allowance, CpuQuota};

const MIB: u64 = 1 << 20;

/// What is asked of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish<T> {
    /// Nothing: it stays as it is.
    #[default]
    Keep,
    /// All that the VM has.
    All,
    /// No more than this.
    AtMost(T),
}

/// Another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    /// Of a VM that is still to be booted.
    pub fresh: Resources,
    /// Processors that a VM which runs must have for it; 0: any number.
    pub vcpus: u32,
    /// RAM that it must have; 0: any size.
    pub memory_mib: u64,
    /// Processor time of all containers.
    pub cpu: Wish<CpuQuota>,
    /// Memory of all containers, in bytes.
    pub memory: Wish<u64>,
}

impl Node {
    /// Changes what may be changed of a sandbox that has not ended. Of one that runs, limits of its containers are in force when
    /// this answers; [`Error::Outgrown`] for more than its VM has. Goes on when whoever asked has gone.
    pub async fn update_sandbox(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        update: UpdateSandbox,
    ) -> Result<()> {
        let (node, handle) = (self.clone(), self.shared.sandbox(namespace, id)?);
        self.detached(async move {
            // One after the other, and none while the VM is being made: the last one to be told OK is what is in force.
            let _one = handle.changing.lock().await;
            node.change_to(&handle, update).await
        })
        .await
    }

    async fn change_to(&self, handle: &Arc<Handle>, update: UpdateSandbox) -> Result<()> {
        let (planned, before) = {
            let entry = &handle.mirror().entry;
            (plan(entry, &update)?, entry.create.resources.allowance)
        };
        let allowed = match planned {
            Planned::Allow(allowance) => {
                let keeper = self.running(handle, "update")?;
                keeper.allow(allowance).await?;
                Some(keeper)
            }
            Planned::Same | Planned::Fresh(_) => None,
        };
        let noted = self.amend(handle, |entry| {
            if entry.standing == Standing::Stopped {
                return Err(ended(&entry.create.id));
            }
            take(entry, update, planned);
            Ok(())
        });
        if let (Err(_), Some(keeper)) = (&noted, allowed) {
            // What is not written down is not in force; a keeper that is gone limits nothing.
            let _ = keeper.allow(before).await;
        }
        noted
    }
}

/// What becomes of the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planned {
    /// Nothing.
    Same,
    /// The VM is booted with another.
    Fresh(Resources),
    /// The containers of a VM that runs get another share.
    Allow(Allowance),
}

fn plan(entry: &SandboxEntry, update: &UpdateSandbox) -> Result<Planned> {
    let create = &entry.create;
    if entry.standing == Standing::Stopped {
        return Err(ended(&create.id));
    }
    if entry.standing == Standing::Created {
        if let Some(words) = &update.kernel_args {
            kernel_args::check(words)?;
        }
        let Some(resize) = update.resources else { return Ok(Planned::Same) };
        super::verbs::check_size(resize.fresh)?;
        return Ok(Planned::Fresh(resize.fresh.resolved()));
    }
    let other_words = |words: &Vec<String>| !words.is_empty() && *words != create.kernel_args;
    if update.kernel_args.as_ref().is_some_and(other_words) {
        return Err(Error::Invalid(format!(
            "kernel_args of sandbox {} cannot change, for its guest's kernel runs: leave them out, or make another sandbox",
            create.id
        )));
    }
    let Some(resize) = update.resources else { return Ok(Planned::Same) };
    let allowance = shared_out(&create.id, create.resources, resize)?;
    // Who names a limit that is noted already may know better whether it is in force.
    let names_one = (resize.cpu, resize.memory) != (Wish::Keep, Wish::Keep);
    Ok(if names_one { Planned::Allow(allowance) } else { Planned::Same })
}

/// What the containers of a VM that was booted with `booted` may use from now on.
fn shared_out(id: &SandboxId, booted: Resources, resize: Resize) -> Result<Allowance> {
    let Resources { vcpus, memory_mib, .. } = booted;
    let too_much = match (resize.vcpus > vcpus, resize.memory_mib > memory_mib) {
        (true, _) => Some(format!("{} processors", resize.vcpus)),
        (_, true) => Some(format!("{} MiB", resize.memory_mib)),
        _ => None,
    };
    if let Some(wanted) = too_much {
        return Err(Error::Outgrown { sandbox: id.clone(), vcpus, memory_mib, wanted });
    }
    let Allowance { cpu, memory_bytes } = booted.allowance;
    Ok(Allowance {
        cpu: match resize.cpu {
            Wish::Keep => cpu,
            Wish::All => None,
            Wish::AtMost(quota) => quota.within(vcpus),
        },
        memory_bytes: match resize.memory {
            Wish::Keep => memory_bytes,
            Wish::All => None,
            Wish::AtMost(bytes) => Some(bytes).filter(|bytes| *bytes < memory_mib.saturating_mul(MIB)),
        },
    })
}

fn take(entry: &mut SandboxEntry, update: UpdateSandbox, planned: Planned) {
    let create = &mut entry.create;
    let UpdateSandbox { labels, extensions, more_labels, more_annotations, kernel_args, .. } = update;
    create.labels = labels.unwrap_or_else(|| std::mem::take(&mut create.labels));
    create.labels.extend(more_labels);
    create.annotations.extend(more_annotations);
    create.extensions = extensions.unwrap_or_else(|| std::mem::take(&mut create.extensions));
    if let (Standing::Created, Some(words)) = (entry.standing, kernel_args) {
        create.kernel_args = words;
    }
    match planned {
        Planned::Same => {}
        Planned::Fresh(resources) => create.resources = resources,
        Planned::Allow(allowance) => create.resources.allowance = allowance,
    }
}

fn ended(id: &SandboxId) -> Error {
    Error::SandboxState { sandbox: id.clone(), verb: "update", state: "has ended" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTED: Resources = Resources {
        vcpus: 2,
        memory_mib: 512,
        allowance: Allowance {
            cpu: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
            memory_bytes: None,
        },
    };

    fn with(resize: Resize) -> Result<Allowance> {
        shared_out(&"pod".parse().unwrap(), BOOTED, resize)
    }

    #[test]
    fn what_is_not_asked_for_stays_and_what_is_as_much_as_the_vm_has_is_no_limit() {
        assert_eq!(with(Resize::default()).unwrap(), BOOTED.allowance);
        let quota = CpuQuota { quota_us: 30_000, period_us: 25_000 };
        let memory = Wish::AtMost(100 << 20);
        let both = with(Resize { cpu: Wish::AtMost(quota), memory, ..Resize::default() }).unwrap();
        assert_eq!(both, Allowance { cpu: Some(quota), memory_bytes: Some(100 << 20) });
        let (cpu, memory) = (Wish::AtMost(CpuQuota::of_processors(2)), Wish::AtMost(512 << 20));
        let whole = with(Resize { cpu, memory, vcpus: 2, memory_mib: 512, ..Resize::default() }).unwrap();
        assert!(whole.is_all());
        assert!(with(Resize { cpu: Wish::All, ..Resize::default() }).unwrap().is_all());
    }

    #[test]
    fn more_than_the_vm_has_is_told_with_what_it_has() {
        for (vcpus, memory_mib, words) in [(3, 0, "3 processors"), (0, 513, "513 MiB")] {
            let error = with(Resize { vcpus, memory_mib, ..Resize::default() }).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("2 vCPU and 512 MiB"), "{error}");
        }
    }
}
