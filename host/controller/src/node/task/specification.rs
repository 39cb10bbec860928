//! What the node itself reads of an OCI runtime specification: which sandbox it names, and how large one of its own is to be.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::id::SandboxId;
use crate::node::Machine;
use crate::node::error::{Error, Result};
use crate::node::sandbox::Resources;
use crate::node::store::ContainerRecord;
use crate::sandbox::allowance::DEFAULT_PERIOD_US;
use crate::sandbox::options::GUEST_MIB;

/// Annotations and labels that name a sandbox to join.
const JOINS: [&str; 2] = ["io.theca.sandbox", "io.kubernetes.cri.sandbox-id"];
const MIB: u64 = 1 << 20;

/// A specification, as far as it is read here. The agent reads all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Specification {
    annotations: BTreeMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    resources: Option<Limits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    limit: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    quota: Option<i64>,
    period: Option<u64>,
}

impl Specification {
    /// Of JSON; [`Error::Invalid`] for what is none.
    pub fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|error| Error::Invalid(format!("the specification is no OCI runtime spec: {error}")))
    }

    /// The sandbox that the container's record or this names; the container's own name means one of its own.
    pub fn sandbox(&self, record: Option<&ContainerRecord>, id: &str) -> Result<Option<SandboxId>> {
        if let Some(sandbox) = record.and_then(|record| record.sandbox.clone()) {
            return Ok(Some(sandbox));
        }
        let labels = record.map(|record| &record.labels);
        let tables = labels.into_iter().chain([&self.annotations]);
        let name = tables.flat_map(|table| JOINS.iter().filter_map(|key| table.get(*key))).next();
        match name.filter(|name| *name != id) {
            Some(name) => Ok(Some(name.parse()?)),
            None => Ok(None),
        }
    }

    /// The size of a sandbox for this container alone: room for what its limits (`linux.resources`) allow it, as for a pod. What
    /// has no limit, or one beyond the machine, gets the default.
    pub fn size(&self, machine: Machine) -> Resources {
        let limits = self.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let memory = limits.and_then(|limits| limits.memory.as_ref()?.limit);
        // 0 and less are no limit.
        let memory = memory.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let memory_mib = memory.map_or(0, |bytes| bytes.div_ceil(MIB) + GUEST_MIB);
        let cpu = limits.and_then(|limits| limits.cpu.as_ref());
        Resources {
            vcpus: cpu.and_then(processors).unwrap_or(0).min(u64::from(machine.cpus)) as u32,
            memory_mib: if memory_mib <= machine.memory_mib { memory_mib } else { 0 },
            ..Resources::default()
        }
    }
}

/// How many processors a quota keeps busy; `None` without one.
fn processors(cpu: &Cpu) -> Option<u64> {
    let quota = u64::try_from(cpu.quota?).ok()?;
    let period = cpu.period.filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD_US);
    Some(quota.div_ceil(period))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MACHINE: Machine = Machine { cpus: 4, memory_mib: 8192 };

    fn size(resources: Value) -> (u32, u64) {
        let spec = json!({ "ociVersion": "1.0.2", "linux": { "resources": resources } });
        let size = Specification::parse(spec.to_string().as_bytes()).unwrap().size(MACHINE);
        (size.vcpus, size.memory_mib)
    }

    #[test]
    fn a_sandbox_has_room_for_what_its_container_may_use() {
        assert_eq!(size(json!({ "memory": { "limit": 1 << 30 } })), (0, 1024 + GUEST_MIB));
        assert_eq!(size(json!({ "memory": { "limit": 1 } })), (0, 1 + GUEST_MIB));
        assert_eq!(size(json!({ "cpu": { "quota": 150_000, "period": 100_000 } })), (2, 0));
        assert_eq!(size(json!({ "cpu": { "quota": 30_000 } })), (1, 0));
        assert_eq!(size(json!({ "cpu": { "quota": 30_000, "period": 10_000, "shares": 2 } })), (3, 0));
    }

    #[test]
    fn what_is_no_limit_changes_nothing() {
        for limit in [json!(null), json!(0), json!(-1), json!(i64::MAX), json!(9_223_372_036_854_771_712_i64)]
        {
            assert_eq!(size(json!({ "memory": { "limit": limit } })), (0, 0), "{limit}");
        }
        for cpu in [json!({}), json!({ "quota": -1, "period": 100_000 }), json!({ "period": 5 })] {
            assert_eq!(size(json!({ "cpu": cpu })), (0, 0), "{cpu}");
        }
        // More than there is cannot be used.
        assert_eq!(size(json!({ "cpu": { "quota": 1_000_000, "period": 0 } })), (4, 0));
        assert_eq!(size(json!(null)), (0, 0));
        let bare = Specification::parse(b"{}").unwrap();
        assert_eq!(bare.size(MACHINE), Resources::default());
    }

    #[test]
    fn what_is_no_specification_is_said() {
        let error = Specification::parse(br#"{"linux": 3}"#).unwrap_err();
        assert!(error.to_string().contains("no OCI runtime spec"), "{error}");
    }
}
