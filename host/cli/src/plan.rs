//! From flags to a container that could be made: everything is read and checked here, nothing is left on disk but a pulled
//! image.

mod bound_files;
mod bundle;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use oci_spec::runtime::{Process, Root, Spec};
use theca_image::Config as ImageConfig;

use self::bound_files::BoundFile;
use crate::commands::image::{find, find_or_pull};
use crate::container::{
    ContainerId, ContainerName, Held, LARGEST_DISK, Phase, Record, SMALLEST_DISK, Settings, Shelf, Source,
    cidfile, create_disk, pin_disk,
};
use crate::flags::{ContainerFlags, Pull};
use crate::host::{self, DEFAULT_MEMORY};
use crate::output::{size, time};
use crate::spec::environment;
use crate::spec::seccomp::Profile;
use crate::spec::{self, Namespaces, Wish, capabilities, limits, names, signal};
use crate::stdio::window_size;

/// `/dev/shm` when nothing is said.
const DEFAULT_SHM: u64 = 64 << 20;
const SIGTERM: i32 = 15;

/// A container that could be made.
#[derive(Debug)]
pub struct Plan {
    id: ContainerId,
    name: Option<ContainerName>,
    source: Source,
    spec: Box<Spec>,
    files: Vec<BoundFile>,
    labels: BTreeMap<String, String>,
    settings: Settings,
    disk_bytes: u64,
    cidfile: Option<PathBuf>,
}

impl Plan {
    /// Reads and checks the flags; finds or pulls the image.
    pub async fn read(flags: ContainerFlags, shelf: &Shelf) -> anyhow::Result<Self> {
        refusals::check(&flags)?;
        let name = flags.name.as_deref().map(str::parse).transpose()?;
        let mut settings = settings(&flags)?;
        let disk_bytes = size::parse(&flags.storage_size).context("--storage-size")?;
        if disk_bytes < SMALLEST_DISK {
            bail!("--storage-size {} is too small for a file system; give at least 16m", flags.storage_size);
        }
        if disk_bytes > LARGEST_DISK {
            bail!("--storage-size {} is more than a disk can have; give at most 15t", flags.storage_size);
        }
        if let Some(path) = flags.cidfile.as_deref().filter(|path| path.exists()) {
            bail!("the file {} of --cidfile exists; remove it or name another", path.display());
        }
        // Another command, in another folder, may have to find it.
        let cidfile = flags.cidfile.as_deref().map(std::path::absolute).transpose().context("--cidfile")?;
        let own_signal = flags.stop_signal.as_deref().map(signal::parse).transpose()?;
        let mut own_labels = labels(&flags)?;
        let id = ContainerId::random().context("failed to read /dev/urandom")?;
        let Base { source, spec, files, labels, stop_signal } = Base::find(&flags, &id, shelf).await?;
        let mut labels: BTreeMap<_, _> = labels;
        labels.append(&mut own_labels);
        let process = spec.process().as_ref();
        settings.terminal = process.and_then(Process::terminal).unwrap_or(false);
        settings.writable_disk = spec.root().as_ref().and_then(Root::readonly) != Some(true);
        settings.stop_signal = match (own_signal, stop_signal) {
            (Some(own), _) => own,
            (None, Some(of_image)) => signal::parse(&of_image).context("the image's stop signal")?,
            (None, None) => SIGTERM,
        };
        Ok(Self { id, name, source, spec, files, labels, settings, disk_bytes, cidfile })
    }

    /// Whether the container's init has a terminal, and an open input.
    pub fn terminal_and_stdin(&self) -> (bool, bool) {
        (self.settings.terminal, self.settings.open_stdin)
    }

    /// Makes the container: folder, record and disk, but not yet its config.json. It goes again on drop.
    pub fn make(&self, shelf: &Shelf, phase: Phase) -> anyhow::Result<Made> {
        let args = self.spec.process().as_ref().and_then(|process| process.args().clone());
        let mut held = shelf.add(&self.id, self.name.clone(), |name| Record {
            id: self.id.clone(),
            name,
            created_ms: time::now_ms(),
            source: self.source.clone(),
            command: args.unwrap_or_default(),
            labels: self.labels.clone(),
            settings: self.settings.clone(),
            cidfile: self.cidfile.clone(),
            phase,
        })?;
        self.pin_image(&mut held)?;
        if self.settings.writable_disk {
            create_disk(
                &shelf.roots().templates(),
                &held.folder().disk(),
                self.disk_bytes,
                !self.settings.auto_remove,
            )?;
        }
        if let Some(path) = &self.cidfile {
            cidfile::write(path, &held.record.id)?;
        }
        held.removed_on_drop(true);
        Ok(Made { held })
    }

    /// Sees to it that the container keeps the disk of its image, whatever becomes of the image.
    fn pin_image(&self, held: &mut Held) -> anyhow::Result<()> {
        let Source::Image { reference, id, disk } = &self.source else { return Ok(()) };
        let pinned = held.folder().image();
        if pin_disk(disk, &pinned)? {
            held.record.source = Source::Image { reference: reference.clone(), id: id.clone(), disk: pinned };
            held.save()?;
        }
        Ok(())
    }

    /// Writes the container's bundle; the keeper needs it at Create.
    pub fn write_config(&self, held: &Held) -> anyhow::Result<()> {
        if !matches!(self.source, Source::Bundle { .. }) {
            names::write(&held.folder().bundle(), self.spec.hostname().as_deref().unwrap_or_default())?;
        }
        bound_files::write(&self.files, &held.folder().bundle())?;
        let path = held.folder().bundle().join("config.json");
        let json = serde_json::to_vec(&self.spec).context("failed to write the configuration as JSON")?;
        fs::write(&path, json).with_context(|| format!("failed to write {}", path.display()))
    }
}

/// What a container is made from: a root file system, a configuration, and what an image says beside that.
struct Base {
    source: Source,
    spec: Box<Spec>,
    files: Vec<BoundFile>,
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
}

impl Base {
    async fn find(flags: &ContainerFlags, id: &ContainerId, shelf: &Shelf) -> anyhow::Result<Self> {
        if let Some(path) = &flags.bundle {
            refusals::check_with_bundle(flags)?;
            let bundle = bundle::read(path)?;
            let source = Source::Bundle { bundle: bundle.folder, rootfs: bundle.rootfs };
            let bundle::Bundle { spec, files, .. } = bundle;
            return Ok(Self { source, spec, files, labels: BTreeMap::new(), stop_signal: None });
        }
        let mut wish = wish(flags, id)?;
        if let Some(folder) = &flags.rootfs {
            wish.command = flags.image_and_command.clone();
            return Self::generate(
                Source::Rootfs(bundle::root_folder(folder)?),
                &ImageConfig::default(),
                &wish,
            );
        }
        let Some((reference, command)) = flags.image_and_command.split_first() else {
            bail!("no image: name one, or give --bundle DIR or --rootfs DIR");
        };
        wish.command = command.to_vec();
        let image = match flags.pull.unwrap_or_default() {
            Pull::Never => find(shelf.roots(), reference)?,
            Pull::Missing => find_or_pull(shelf.roots(), reference, false).await?,
            Pull::Always => find_or_pull(shelf.roots(), reference, true).await?,
        };
        let config = image.config().cloned().unwrap_or_default();
        let source =
            Source::Image { reference: reference.clone(), id: image.id.to_string(), disk: image.erofs };
        Self::generate(source, &config, &wish)
    }

    fn generate(source: Source, image: &ImageConfig, wish: &Wish) -> anyhow::Result<Self> {
        Ok(Self {
            source,
            spec: Box::new(spec::generate(image, wish)?),
            files: Vec::new(),
            labels: image.labels().clone().unwrap_or_default().into_iter().collect(),
            stop_signal: image.stop_signal().clone(),
        })
    }
}

/// A container that was just made, and goes on drop with the file of its id until it is kept.
#[derive(Debug)]
pub struct Made {
    /// The container.
    pub held: Held,
}

impl Made {
    /// The container stays, or is removed by `held` alone, and the file of its id stays. The record says so when it is next
    /// written.
    pub fn keep(mut self, removed_on_drop: bool) -> Held {
        self.held.removed_on_drop(removed_on_drop);
        self.held.record.cidfile = None;
        self.held
    }
}

/// What the flags decide; the configuration and the image decide the rest.
fn settings(flags: &ContainerFlags) -> anyhow::Result<Settings> {
    let memory = flags.memory.as_deref().map(size::parse).transpose().context("--memory")?;
    let memory = memory.unwrap_or(DEFAULT_MEMORY);
    let kernel = flags.kernel.as_deref().map(|path| {
        fs::canonicalize(path).with_context(|| format!("failed to find the guest kernel {}", path.display()))
    });
    let kernel = kernel.transpose()?;
    host::admit(flags.cpus.vcpus, memory, kernel.as_deref())?;
    Ok(Settings {
        vcpus: flags.cpus.vcpus,
        memory_mib: memory >> 20,
        kernel,
        kernel_cmdline: flags.kernel_cmdline.clone(),
        writable_disk: true,
        terminal: false,
        open_stdin: flags.interactive,
        auto_remove: flags.rm,
        stop_signal: SIGTERM,
        stop_timeout: flags.stop_timeout,
    })
}

fn wish(flags: &ContainerFlags, id: &ContainerId) -> anyhow::Result<Wish> {
    if let Some(name) = &flags.hostname {
        names::check(name).context("--hostname")?;
    }
    if let Some(folder) = &flags.workdir {
        spec::check_workdir(folder)?;
    }
    let mut env = Vec::new();
    for file in &flags.env_file {
        env.extend(environment::from_file(file)?);
    }
    for variable in &flags.env {
        env.extend(environment::from_flag(variable)?);
    }
    let (no_new_privileges, seccomp) = security(&flags.security_opt)?;
    Ok(Wish {
        entrypoint: flags.entrypoint.clone(),
        command: Vec::new(),
        env,
        workdir: flags.workdir.clone(),
        user: flags.user.clone(),
        namespaces: Namespaces::Own,
        hostname: flags.hostname.clone().unwrap_or_else(|| id.short().to_owned()),
        terminal: flags.tty.then(window_size),
        read_only: flags.read_only,
        tmpfs: flags.tmpfs.clone(),
        shm_bytes: flags.shm_size.as_deref().map_or(Ok(DEFAULT_SHM), size::parse).context("--shm-size")?,
        capabilities: capabilities::select(&flags.cap_add, &flags.cap_drop)?,
        rlimits: flags.ulimit.iter().map(|limit| limits::ulimit(limit)).collect::<Result<_, _>>()?,
        no_new_privileges,
        seccomp,
        memory_bytes: flags.memory.as_deref().map(size::parse).transpose()?,
        cpu_quota_us: flags.cpus.quota_us,
        // Zero is docker's other word for no limit.
        pids_limit: flags.pids_limit.map(|limit| if limit == 0 { -1 } else { limit }),
        sysctl: pairs(&flags.sysctl, "--sysctl", true)?,
        oom_score_adj: flags.oom_score_adj,
        annotations: pairs(&flags.annotation, "--annotation", false)?,
    })
}

fn security(options: &[String]) -> anyhow::Result<(bool, Profile)> {
    let (mut no_new_privileges, mut seccomp) = (false, Profile::Default);
    for option in options {
        match option.replacen(':', "=", 1).split_once('=').unwrap_or((option, "")) {
            ("no-new-privileges", "" | "true") => no_new_privileges = true,
            ("no-new-privileges", "false") => no_new_privileges = false,
            ("seccomp", "unconfined") => seccomp = Profile::Unconfined,
            ("seccomp", path) if !path.is_empty() => seccomp = Profile::File(path.into()),
            _ => bail!(
                "--security-opt {option} is not supported; use no-new-privileges, seccomp=unconfined or seccomp=FILE"
            ),
        }
    }
    Ok((no_new_privileges, seccomp))
}

/// `--label-file`, then `--label`.
fn labels(flags: &ContainerFlags) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = Vec::new();
    for file in &flags.label_file {
        let text = fs::read_to_string(file)
            .with_context(|| format!("failed to read the labels in {}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        all.extend(lines.map(str::to_owned));
    }
    all.extend(flags.label.iter().cloned());
    pairs(&all, "--label", false)
}

/// `NAME=VALUE` texts of a flag.
pub fn pairs(texts: &[String], flag: &str, value_needed: bool) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        None if !value_needed && !text.is_empty() => Ok((text.clone(), String::new())),
        _ => bail!("{flag} {text:?} has no name and value; write NAME=VALUE"),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
#[path = "plan/plan_test.rs"]
mod tests;
