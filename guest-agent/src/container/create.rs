//! Create: makes a container's cgroup, namespaces, root and init, which then waits for Start.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::exits::MemoryWatch;
use super::interfaces::Interfaces;
use super::outbox::What;
use super::{Error, Phase, Result, Sandbox, State, Task};
use crate::cgroup::Cgroup;
use crate::cgroup::device_rules::DeviceRules;
use crate::cgroup::resources;
use crate::oci::{self, HookPoint, PidNamespace};
use crate::process::Process;
use crate::process::launch::{Launch, Launched};
use crate::process::stdio::{Names, Prepared};
use crate::setup::job::{Job, MountSource};
use crate::sys::spawn;

impl Sandbox {
    /// Answers init's pid. On failure nothing stays but what Prepare made.
    pub async fn create(&self, id: &str, names: Names) -> Result<u32> {
        let container = self.find_open(id)?;
        let mut state = container.state.lock().await;
        if state.task.is_some() {
            return Err(Error::TaskExists(id.to_owned()));
        }
        let cgroup = Arc::new(self.tree.create(id)?);
        match self.create_in(&container, &state, &cgroup, names).await {
            Ok((init, phase)) => {
                let pid = init.pid.as_raw() as u32;
                let memory = Arc::new(MemoryWatch::new(&container, Arc::clone(&cgroup), self.events.clone()));
                container.outbox.tell(pid, What::Created);
                self.announce_exit(&init, &container, Arc::clone(&memory));
                let watching = tokio::spawn(Arc::clone(&memory).run()).abort_handle();
                let interfaces = interfaces(id, &init);
                let execs = Default::default();
                state.task = Some(Task { init, execs, phase, cgroup, interfaces, memory, watching });
                Ok(pid)
            }
            Err(error) => {
                if let Err(cleanup) = remove(&cgroup).await {
                    tracing::error!(
                        container = id,
                        error = &cleanup as &dyn std::error::Error,
                        "a cgroup stays"
                    );
                }
                Err(error)
            }
        }
    }

    async fn create_in(
        &self,
        container: &super::Container,
        state: &State,
        cgroup: &Cgroup,
        names: Names,
    ) -> Result<(Arc<Process>, Phase)> {
        let (id, spec) = (&container.id, &container.spec);
        let rootfs = state.rootfs.as_ref().ok_or_else(|| Error::NoContainer(id.clone()))?;
        container.check_hooks()?;
        let oci::Container { mut job, pid_namespace } = oci::container_job(
            spec,
            oci::Runtime {
                rootfs: rootfs.path(),
                cgroup: cgroup.path().to_owned(),
                readonly: rootfs.read_only,
                terminal: names.terminal,
                creating: &container.hook_state("creating", 0),
                created: &container.hook_state("created", 0),
            },
        )?;
        for mount in &mut job.mounts {
            if let MountSource::Bind { path } = &mut mount.source
                && let Some(supplied) = rootfs.supplied(path)
            {
                *path = supplied;
            }
        }
        let process = spec.process.clone().unwrap_or_default();
        let limits = spec.linux.as_ref().and_then(|linux| linux.resources().as_ref());
        if let Some(limits) = limits {
            cgroup.apply(&resources::settings(limits)?)?;
        }
        let devices = limits.and_then(|limits| limits.devices().as_deref()).unwrap_or_default();
        cgroup.filter_devices(&DeviceRules::read(devices)?)?;
        let stdio = Prepared::new(&names, &self.streams).map_err(Error::io("set up the standard streams"))?;
        let joined = match &pid_namespace {
            PidNamespace::Join(path) => {
                Some(File::open(path).map_err(Error::io(format!("open the namespace {}", path.display())))?)
            }
            _ => None,
        };
        let folder = cgroup.open()?;
        let launch = Launch {
            program: &self.config.program,
            stdio: stdio.ends(),
            cgroup: Some(folder.as_fd()),
            pid_namespace: match (&pid_namespace, &joined) {
                (PidNamespace::New, _) => spawn::PidNamespace::New,
                (_, Some(namespace)) => spawn::PidNamespace::Join(namespace.as_fd()),
                _ => spawn::PidNamespace::Shared,
            },
            container: None,
        };
        let waits_for_hooks = job.runtime_hooks;
        let Launched { pid, pidfd, exit, mut channel } =
            launch.start(&self.reaper, Job::Create(Box::new(job))).await?;
        if waits_for_hooks {
            channel.namespaces_ready().await?;
            for point in [HookPoint::Prestart, HookPoint::CreateRuntime] {
                self.run_hooks(container, point, "creating", pid.as_raw()).await?;
            }
            channel.proceed().await?;
        }
        let terminal = channel.ready().await?;
        let stdio = stdio.connect(terminal).map_err(Error::io("connect the standard streams"))?;
        let init = Process::new(pid, pidfd, exit, process, names, stdio);
        Ok((Arc::new(init), Phase::Created(channel)))
    }
}

/// The network interfaces of an init that waits for Start. Somebody may have killed it by now: that shows as its exit.
fn interfaces(id: &str, init: &Process) -> Option<Interfaces> {
    let opened = Interfaces::of(init.pid);
    let log = |error| tracing::warn!(container = id, %error, "the network will not be counted");
    opened.map_err(log).ok()
}

/// Ends whatever lives in a cgroup and removes it.
pub(super) async fn remove(cgroup: &Cgroup) -> Result<()> {
    cgroup.end().await?;
    Ok(cgroup.remove()?)
}
