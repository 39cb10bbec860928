//! Update: changes the limits of a container's cgroup.

use super::{Result, Sandbox};
use crate::cgroup::resources;
use crate::oci::SpecError;

impl Sandbox {
    /// Takes an OCI `LinuxResources` as JSON; what it leaves out stays as it is.
    pub async fn update(&self, id: &str, resources: &[u8]) -> Result<()> {
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
