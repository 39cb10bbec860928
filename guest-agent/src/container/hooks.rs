//! Hooks of the guest's side: run by a set-up process of their own, since the agent does not wait for children.
//!
//! For the OCI specification their programs are the runtime's, which elsewhere is the host. Here the runtime is in the guest:
//! no configuration runs a program of the host. A guest has few programs beside its containers' own, so whether it has these
//! is looked at before anything is made.

use std::fs::OpenOptions;
use std::os::fd::AsFd;

use super::{Container, Error, Result, Sandbox};
use crate::oci::{self, HookPoint, SpecError};
use crate::process::launch::Launch;
use crate::setup::job::Job;
use crate::sys::spawn::PidNamespace;

const NOT_IN_GUEST: &str = "hooks of the runtime's namespace run inside the guest, where that program is not; a \
                            startContainer hook runs in the container";

impl Container {
    /// Refuses hooks that run in the guest and whose programs are not there. Poststop too: whoever asked for it would learn
    /// after the end only, from a log.
    pub(super) fn check_hooks(&self) -> Result<()> {
        for point in HookPoint::ALL.into_iter().filter(|point| point.runs_in_guest()) {
            for hook in oci::hooks(&self.spec, point, "")? {
                if !hook.path.is_file() {
                    let field = format!("hooks.{} with {}", point.name(), hook.path.display());
                    return Err(SpecError::unsupported(field, NOT_IN_GUEST).into());
                }
            }
        }
        Ok(())
    }
}

impl Sandbox {
    /// Runs the hooks of one moment, in their order, until one fails.
    pub(super) async fn run_hooks(
        &self,
        container: &Container,
        point: HookPoint,
        status: &str,
        pid: i32,
    ) -> Result<()> {
        let hooks = oci::hooks(&container.spec, point, &container.hook_state(status, pid))?;
        if hooks.is_empty() {
            return Ok(());
        }
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.map_err(Error::io("open /dev/null"))?;
        let launch = Launch {
            program: &self.config.program,
            stdio: [null.as_fd(); 3],
            cgroup: None,
            pid_namespace: PidNamespace::Shared,
            container: None,
        };
        let mut launched = launch.start(&self.reaper, Job::Hooks(hooks)).await?;
        Ok(launched.channel.finished().await?)
    }
}

impl Container {
    /// The OCI state that hooks read on stdin.
    pub(super) fn hook_state(&self, status: &str, pid: i32) -> String {
        let mut state = serde_json::json!({
            "ociVersion": self.spec.version,
            "id": self.id,
            "status": status,
            "bundle": "/",
        });
        if pid > 0 {
            state["pid"] = pid.into();
        }
        if let Some(annotations) = &self.spec.annotations {
            state["annotations"] = serde_json::json!(annotations);
        }
        state.to_string()
    }
}
