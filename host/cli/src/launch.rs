//! From a container on disk to a running one: spawn the keeper, create the task, start it.
//!
//! The VM boots while the bundle is written and FIFOs are made; Create then finds it ready or waits. Whatever fails, or
//! whoever interrupts, [`Launch::abandon`] leaves no keeper.

use std::env;

use anyhow::Context;
use prost::Message;
use prost_types::Any;
use theca_proto::containerd::task::v3::CreateTaskRequest;
use theca_proto::containerd::types::Mount;
use theca_proto::theca::keeper::v1::TaskOptions;
use theca_proto::type_url;

use crate::container::{Held, Record, Source};
use crate::error::StartError;
use crate::keeper::{Keeper, Options, Starting};
use crate::output::warn;
use crate::session::Exit;
use crate::stdio::Fifos;

/// A keeper on its way.
pub struct Launch {
    starting: Starting,
}

impl Launch {
    /// Spawns the keeper of a container that this command holds. `attached`: this command stays until the container ends.
    pub fn begin(held: &Held, attached: bool) -> anyhow::Result<Self> {
        let record = &held.record;
        let settings = &record.settings;
        let options = Options {
            vcpus: settings.vcpus,
            memory_mib: settings.memory_mib,
            kernel: settings.kernel.clone(),
            kernel_cmdline: settings.kernel_cmdline.clone(),
            disks: disks(held),
            ends_with_us: attached && settings.ends_with_its_command(),
            ephemeral: settings.auto_remove,
            exit_command: exit_command(record)?,
        };
        let starting = Starting::spawn(held.shelf().roots(), &record.id, &held.folder().bundle(), &options)?;
        Ok(Self { starting })
    }

    /// Creates the task. Its init does not run yet.
    pub async fn create(&mut self, held: &Held, fifos: &Fifos, keep_log: bool) -> anyhow::Result<Keeper> {
        let keeper = self.starting.ready().await?;
        let log_path = if keep_log { held.folder().log().display().to_string() } else { String::new() };
        // This side of the FIFOs is open. The user may leave, or this command be killed, and the container goes on.
        let options = TaskOptions { log_path, output_is_read: true, ..TaskOptions::default() };
        let request = CreateTaskRequest {
            bundle: held.folder().bundle().display().to_string(),
            rootfs: rootfs(held),
            terminal: held.record.settings.terminal,
            stdin: fifos.path(0),
            stdout: fifos.path(1),
            stderr: fifos.path(2),
            options: Some(Any {
                type_url: type_url::TASK_OPTIONS.to_owned(),
                value: options.encode_to_vec(),
            }),
            ..CreateTaskRequest::default()
        };
        let created = keeper.create(request).await;
        created.map_err(|error| StartError::of_create(error, &held.record.source))?;
        Ok(keeper)
    }

    /// Ends the keeper, however far it got.
    pub async fn abandon(self) {
        if let Err(error) = self.starting.abandon().await {
            warn(&format!("the sandbox may still be there: {:#}", anyhow::Error::from(error)));
        }
    }
}

/// Runs a created task's init, or a process that was added to it. The request for its exit goes first, so that even the
/// shortest run is seen whole.
pub async fn start<'a>(keeper: &'a Keeper, exec_id: &'a str) -> Result<Exit<'a>, StartError> {
    let mut exit: Exit = Box::pin(keeper.wait(exec_id));
    let mut started = Box::pin(keeper.start(exec_id));
    tokio::select! {
        biased;
        // The end of a process may be told first, be it short or one that did not start: the answer to Start knows.
        early = &mut exit => match started.await {
            Ok(_) => Ok(Box::pin(std::future::ready(early))),
            Err(error) => Err(error.into()),
        },
        started = &mut started => started.map_err(StartError::from).map(|_| exit),
    }
}

/// What the keeper runs when nobody is left to tidy up.
fn exit_command(record: &Record) -> anyhow::Result<Vec<String>> {
    let program = env::current_exe().context("failed to find this program's own file")?;
    Ok(vec![program.display().to_string(), "reap".into(), record.id.to_string()])
}

/// The disks that boot with the VM. A folder becomes a disk only at Create, so its VM boots then.
fn disks(held: &Held) -> Vec<(std::path::PathBuf, bool)> {
    let Source::Image { disk, .. } = &held.record.source else { return Vec::new() };
    let own = held.record.settings.writable_disk.then(|| (held.folder().disk(), false));
    [(disk.clone(), true)].into_iter().chain(own).collect()
}

/// The root file system as mounts, topmost read-only one first, then the writable one.
fn rootfs(held: &Held) -> Vec<Mount> {
    let mount = |kind: &str, source: &std::path::Path, option: &str| Mount {
        r#type: kind.to_owned(),
        source: source.display().to_string(),
        target: String::new(),
        options: vec![option.to_owned()],
    };
    let base = match &held.record.source {
        Source::Image { disk, .. } => mount("erofs", disk, "ro"),
        Source::Rootfs(folder) | Source::Bundle { rootfs: folder, .. } => mount("bind", folder, "ro"),
    };
    let own = held.record.settings.writable_disk.then(|| mount("ext4", &held.folder().disk(), "rw"));
    [base].into_iter().chain(own).collect()
}
