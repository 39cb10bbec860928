//! Update: changes the limits of a container's cgroup, or of the one that all of them are in.

use super::{Result, Sandbox};
use crate::cgroup::resources;
use crate::cgroup::resources::Setting;
use crate::oci::SpecError;

/// What may be said of all containers together. Their number of processes is not: the agent's own come from what is left.
const OF_ALL: [&str; 2] = ["cpu.max", "memory.max"];

impl Sandbox {
    /// Takes an OCI `LinuxResources` as JSON; what it leaves out stays as it is. Without an id it is about all containers
    /// together, those that are still to come included.
    pub async fn update(&self, id: &str, resources: &[u8]) -> Result<()> {
        if id.is_empty() {
            let settings = of_all(resources::settings(&resources::parse(resources)?)?)?;
            return Ok(self.tree.of_all().apply(&settings)?);
        }
        let container = self.find(id)?;
        let task = container.task().await?;
        let status = task.status();
        status.require(status.can_update(), id, "update")?;
        let resources = resources::parse(resources)?;
        if resources.devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
            let reason = "a container's devices are set when it is created";
            let field = "linux.resources.devices".to_owned();
            return Err(SpecError::Unsupported { field, reason }.into());
        }
        let settings = resources::settings(&resources)?;
        if let Some(limit) = resources::checked_limit(&resources) {
            task.cgroup.fits_below(limit)?;
        }
        Ok(task.cgroup.apply(&settings)?)
    }
}

fn of_all(settings: Vec<Setting>) -> std::result::Result<Vec<Setting>, SpecError> {
    match settings.iter().find(|setting| !OF_ALL.contains(&setting.file.as_str())) {
        None => Ok(settings),
        Some(Setting { file, .. }) => Err(SpecError::Unsupported {
            field: file.clone(),
            reason: "of all containers together only cpu.max and memory.max can be set",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> std::result::Result<Vec<Setting>, SpecError> {
        of_all(resources::settings(&resources::parse(json.as_bytes()).unwrap()).unwrap())
    }

    #[test]
    fn all_containers_together_have_limits_of_time_and_memory_and_no_others() {
        let limits = of(r#"{"cpu":{"quota":120000,"period":100000},"memory":{"limit":-1}}"#).unwrap();
        let limits: Vec<_> = limits.iter().map(|limit| (limit.file.as_str(), limit.value.as_str())).collect();
        assert_eq!(limits, [("cpu.max", "120000 100000"), ("memory.max", "max")]);
        let error = of(r#"{"pids":{"limit":5}}"#).unwrap_err().to_string();
        assert!(error.contains("pids.max") && error.contains("only cpu.max and memory.max"), "{error}");
    }
}
