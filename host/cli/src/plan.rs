//! From flags to a container that could be made: everything is read and checked here, nothing is left on disk but a pulled
//! image.

mod bundle;
mod refusals;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci_spec::runtime::Spec;
use theca_image::Config as ImageConfig;

use crate::commands::image::{find, find_or_pull};
use crate::container::{
    ContainerName, Held, Phase, Record, SMALLEST_DISK, Settings, Shelf, Source, create_disk,
};
use crate::flags::{ContainerFlags, Pull};
use crate::host;
use crate::output::{size, time};
use crate::spec::environment;
use crate::spec::seccomp::Profile;
use crate::spec::{self, Wish, capabilities, limits, signal};
use crate::stdio::window_size;

/// What a guest gets when nothing is said.
const DEFAULT_MEMORY: u64 = 256 << 20;
const SIGTERM: i32 = 15;

/// A container that could be made.
#[derive(Debug)]
pub struct Plan {
    name: Option<ContainerName>,
    source: Source,
    body: Body,
    command: Vec<String>,
    labels: BTreeMap<String, String>,
    settings: Settings,
    disk_bytes: u64,
    cidfile: Option<PathBuf>,
}

/// Where config.json comes from.
#[derive(Debug)]
enum Body {
    /// Image and flags.
    Generated { image: Box<ImageConfig>, wish: Box<Wish>, own_hostname: bool },
    /// A bundle's own.
    Given(Box<Spec>),
}

impl Plan {
    /// Reads and checks the flags; finds or pulls the image.
    pub async fn read(flags: ContainerFlags, shelf: &Shelf) -> anyhow::Result<Self> {
        refusals::check(&flags)?;
        let name = flags.name.as_deref().map(str::parse).transpose()?;
        let settings = settings(&flags)?;
        let disk_bytes = size::parse(&flags.storage_size).context("--storage-size")?;
        if disk_bytes < SMALLEST_DISK {
            bail!("--storage-size {} is too small for a file system; give at least 16m", flags.storage_size);
        }
        if let Some(path) = flags.cidfile.as_deref().filter(|path| path.exists()) {
            bail!("the file {} of --cidfile exists; remove it or name another", path.display());
        }
        let labels = labels(&flags)?;
        let plan = Self {
            name,
            labels,
            disk_bytes,
            cidfile: flags.cidfile.clone(),
            // Replaced by what follows.
            source: Source::Rootfs(PathBuf::new()),
            body: Body::Given(Box::default()),
            command: Vec::new(),
            settings,
        };
        if let Some(bundle) = &flags.bundle {
            return plan.with_bundle(&flags, bundle);
        }
        let wish = wish(&flags)?;
        match &flags.rootfs {
            Some(folder) => {
                let folder = bundle::root_folder(folder)?;
                let wish = Wish { command: flags.image_and_command.clone(), ..wish };
                plan.generated(Source::Rootfs(folder), ImageConfig::default(), wish, &flags)
            }
            None => plan.with_image(&flags, wish, shelf).await,
        }
    }

    async fn with_image(self, flags: &ContainerFlags, wish: Wish, shelf: &Shelf) -> anyhow::Result<Self> {
        let Some((reference, command)) = flags.image_and_command.split_first() else {
            bail!("no image: name one, or give --bundle DIR or --rootfs DIR");
        };
        let image = match flags.pull {
            Pull::Never => find(shelf.roots(), reference)?,
            Pull::Missing => find_or_pull(shelf.roots(), reference, false).await?,
            Pull::Always => find_or_pull(shelf.roots(), reference, true).await?,
        };
        let config = image.config().cloned().unwrap_or_default();
        let source = Source::Image {
            reference: reference.clone(),
            id: image.id.to_string(),
            disk: image.erofs.clone(),
        };
        let wish = Wish { command: command.to_vec(), ..wish };
        self.generated(source, config, wish, flags)
    }

    fn generated(
        mut self,
        source: Source,
        image: ImageConfig,
        wish: Wish,
        flags: &ContainerFlags,
    ) -> anyhow::Result<Self> {
        self.command = spec::arguments(&image, &wish)?;
        let stop_signal = flags.stop_signal.as_deref().or(image.stop_signal().as_deref());
        self.settings.stop_signal = stop_signal.map(signal::parse).transpose()?.unwrap_or(SIGTERM);
        let mut labels: BTreeMap<_, _> = image.labels().clone().unwrap_or_default().into_iter().collect();
        labels.append(&mut self.labels);
        // Tried now, so that a profile or folder that does not do is told before anything is made.
        spec::generate(&image, &wish)?;
        let own_hostname = flags.hostname.is_some();
        let body = Body::Generated { image: Box::new(image), wish: Box::new(wish), own_hostname };
        Ok(Self { source, body, labels, ..self })
    }

    fn with_bundle(mut self, flags: &ContainerFlags, path: &Path) -> anyhow::Result<Self> {
        refusals::check_with_bundle(flags)?;
        let bundle = bundle::read(path)?;
        let process = bundle.spec.process().as_ref();
        self.settings.terminal = process.and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        let root = bundle.spec.root().as_ref();
        self.settings.writable_disk = root.and_then(oci_spec::runtime::Root::readonly) != Some(true);
        self.command = process.and_then(|process| process.args().clone()).unwrap_or_default();
        self.settings.stop_signal =
            flags.stop_signal.as_deref().map(signal::parse).transpose()?.unwrap_or(SIGTERM);
        let (source, body) = (Source::Bundle { bundle: bundle.folder, rootfs: bundle.rootfs }, bundle.spec);
        Ok(Self { source, body: Body::Given(Box::new(body)), ..self })
    }

    /// Whether the container's init has a terminal, and an open input.
    pub fn terminal_and_stdin(&self) -> (bool, bool) {
        (self.settings.terminal, self.settings.open_stdin)
    }

    /// Makes the container: folder, record and disk, but not yet its config.json. It goes again on drop.
    pub fn make(&self, shelf: &Shelf, phase: Phase) -> anyhow::Result<Made> {
        let mut held = shelf.add(self.name.clone(), |id, name| Record {
            id,
            name,
            created_ms: time::now_ms(),
            source: self.source.clone(),
            command: self.command.clone(),
            labels: self.labels.clone(),
            settings: self.settings.clone(),
            phase,
        })?;
        if self.settings.writable_disk {
            create_disk(&shelf.roots().templates(), &held.folder().disk(), self.disk_bytes)?;
        }
        let cidfile =
            self.cidfile.as_deref().map(|path| Cidfile::write(path, held.record.id.as_str())).transpose()?;
        held.removed_on_drop(true);
        Ok(Made { held, cidfile })
    }

    /// Writes the container's config.json; the keeper needs it at Create.
    pub fn write_config(&self, held: &Held) -> anyhow::Result<()> {
        let spec = match &self.body {
            Body::Given(spec) => spec.as_ref().clone(),
            Body::Generated { image, wish, own_hostname } => {
                let mut wish = wish.as_ref().clone();
                if !own_hostname {
                    wish.hostname = held.record.id.short().to_owned();
                }
                spec::generate(image, &wish)?
            }
        };
        let path = held.folder().bundle().join("config.json");
        let json = serde_json::to_vec(&spec).context("failed to write the configuration as JSON")?;
        fs::write(&path, json).with_context(|| format!("failed to write {}", path.display()))
    }
}

/// A container that was just made, and goes on drop with the file of its id until it is kept.
#[derive(Debug)]
pub struct Made {
    /// The container.
    pub held: Held,
    cidfile: Option<Cidfile>,
}

impl Made {
    /// The container stays, or is removed by `held` alone.
    pub fn keep(mut self, removed_on_drop: bool) -> Held {
        self.held.removed_on_drop(removed_on_drop);
        if let Some(cidfile) = &mut self.cidfile {
            cidfile.keep = true;
        }
        self.held
    }
}

#[derive(Debug)]
struct Cidfile {
    path: PathBuf,
    keep: bool,
}

impl Cidfile {
    fn write(path: &Path, id: &str) -> anyhow::Result<Self> {
        let failed = || format!("failed to write the id to {}", path.display());
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).open(path).with_context(failed)?;
        let cidfile = Self { path: path.to_owned(), keep: false };
        file.write_all(id.as_bytes()).with_context(failed)?;
        Ok(cidfile)
    }
}

impl Drop for Cidfile {
    fn drop(&mut self) {
        if !self.keep {
            // The container it names is going too.
            let _ = fs::remove_file(&self.path);
        }
    }
}

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
        writable_disk: !flags.read_only,
        terminal: flags.tty,
        open_stdin: flags.interactive,
        auto_remove: flags.rm,
        stop_signal: SIGTERM,
        stop_timeout: flags.stop_timeout,
    })
}

fn wish(flags: &ContainerFlags) -> anyhow::Result<Wish> {
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
        hostname: flags.hostname.clone().unwrap_or_default(),
        terminal: flags.tty.then(window_size),
        read_only: flags.read_only,
        tmpfs: flags.tmpfs.clone(),
        shm_bytes: size::parse(&flags.shm_size).context("--shm-size")?,
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

fn pairs(texts: &[String], flag: &str, value_needed: bool) -> anyhow::Result<BTreeMap<String, String>> {
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
