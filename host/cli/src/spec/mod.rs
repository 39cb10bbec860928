//! The OCI runtime configuration of a container: what the image says, what the command line says, docker's defaults.
//!
//! Pure: nothing here touches the system but the reading of files that flags name.

pub mod capabilities;
pub mod environment;
pub mod limits;
mod mounts;
pub mod names;
pub mod seccomp;
pub mod signal;

use std::collections::{BTreeMap, HashMap, HashSet};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Box as ConsoleSize, BoxBuilder, Capability, Linux, LinuxBuilder, LinuxCpuBuilder, LinuxMemoryBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, PosixRlimit,
    Process, RootBuilder, Spec, User,
};
use theca_image::Config as ImageConfig;

use environment::DEFAULT_PATH;
use limits::{CPU_PERIOD_US, Tmpfs};
use seccomp::{Profile, ProfileError};

/// The version of the runtime spec that is written.
const OCI_VERSION: &str = "1.2.0";

/// What the command line asks of a container. `None` and empty mean that nothing was said.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `--entrypoint`; an empty text takes the image's away.
    pub entrypoint: Option<String>,
    /// What follows the image.
    pub command: Vec<String>,
    /// `--env-file` and `--env`, in this order.
    pub env: Vec<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// Which namespaces it has of its own.
    pub namespaces: Namespaces,
    /// `--hostname`, or the short id.
    pub hostname: String,
    /// `--tty`, with the size of this terminal if it is known.
    pub terminal: Option<Option<(u16, u16)>>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `--shm-size`.
    pub shm_bytes: u64,
    /// `--cap-add` and `--cap-drop`.
    pub capabilities: HashSet<Capability>,
    /// `--ulimit`.
    pub rlimits: Vec<PosixRlimit>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=`.
    pub seccomp: Profile,
    /// `--memory`.
    pub memory_bytes: Option<u64>,
    /// `--cpus`, when it is not whole.
    pub cpu_quota_us: Option<i64>,
    /// `--pids-limit`.
    pub pids_limit: Option<i64>,
    /// `--sysctl`.
    pub sysctl: BTreeMap<String, String>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
}

/// What a container shares with others of its sandbox. A namespace that its configuration leaves out is the sandbox's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// Nothing: it is alone there.
    #[default]
    Own,
    /// As in a pod: network and IPC, and where asked processes.
    Pod {
        /// Whether it sees the processes of others, and they its.
        processes: bool,
    },
}

impl Namespaces {
    fn has(self, kind: LinuxNamespaceType) -> bool {
        match (self, kind) {
            (Self::Pod { .. }, LinuxNamespaceType::Network | LinuxNamespaceType::Ipc) => false,
            (Self::Pod { processes }, LinuxNamespaceType::Pid) => !processes,
            _ => true,
        }
    }
}

/// Why no configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the image nor the command line names a program.
    #[error("no command: the image names none; add one behind the image")]
    NoCommand,
    /// The working folder is relative.
    #[error("the working folder {0:?} is not absolute; begin it with /")]
    Workdir(String),
    /// The seccomp profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A value that the runtime spec does not take.
    #[error("failed to put the configuration together")]
    Spec(#[from] OciSpecError),
}

/// The configuration of a container.
pub fn generate(image: &ImageConfig, wish: &Wish) -> Result<Spec, SpecError> {
    let mut mounts = mounts::all(wish.shm_bytes, &wish.tmpfs, wish.read_only);
    if let Namespaces::Pod { .. } = wish.namespaces {
        mounts::share_memory(&mut mounts);
    }
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(RootBuilder::default().path("rootfs").readonly(wish.read_only).build()?))
        .set_mounts(Some(mounts))
        .set_hostname(Some(wish.hostname.clone()))
        .set_process(Some(process(image, wish)?))
        .set_annotations(
            (!wish.annotations.is_empty()).then(|| wish.annotations.clone().into_iter().collect()),
        )
        .set_linux(Some(linux(wish)?));
    Ok(spec)
}

/// What the container's init runs: docker's rules for entry point and command.
pub fn arguments(image: &ImageConfig, wish: &Wish) -> Result<Vec<String>, SpecError> {
    let (entrypoint, default_command) = match &wish.entrypoint {
        Some(own) => (Some(own.clone()).filter(|own| !own.is_empty()).into_iter().collect(), Vec::new()),
        None => (image.entrypoint().clone().unwrap_or_default(), image.cmd().clone().unwrap_or_default()),
    };
    let command = if wish.command.is_empty() { default_command } else { wish.command.clone() };
    let all: Vec<String> = entrypoint.into_iter().chain(command).collect();
    if all.is_empty() { Err(SpecError::NoCommand) } else { Ok(all) }
}

fn process(image: &ImageConfig, wish: &Wish) -> Result<Process, SpecError> {
    let mut layers = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", wish.hostname)];
    if wish.terminal.is_some() {
        layers.push("TERM=xterm".to_owned());
    }
    layers.extend(image.env().clone().unwrap_or_default());
    layers.extend(wish.env.iter().cloned());

    let user = wish.user.clone().or_else(|| image.user().clone()).filter(|user| !user.is_empty());
    let image_workdir = image.working_dir().clone().filter(|folder| !folder.is_empty());
    let mut process = Process::default();
    process
        .set_terminal(Some(wish.terminal.is_some()))
        .set_console_size(wish.terminal.flatten().map(console_size))
        .set_args(Some(arguments(image, wish)?))
        .set_env(Some(environment::merge(layers)))
        .set_cwd(workdir(wish.workdir.clone().or(image_workdir))?.into())
        .set_capabilities(Some(capabilities::of_process(&wish.capabilities, is_root(user.as_deref()))))
        .set_user(user_of(user.as_deref()))
        .set_rlimits((!wish.rlimits.is_empty()).then(|| wish.rlimits.clone()))
        .set_no_new_privileges(Some(wish.no_new_privileges))
        .set_oom_score_adj(wish.oom_score_adj);
    Ok(process)
}

/// What `exec` asks of a further process.
#[derive(Clone, Debug, Default)]
pub struct ExecWish {
    /// The command.
    pub command: Vec<String>,
    /// `--env-file` and `--env`.
    pub env: Vec<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--tty`, with this terminal's size.
    pub terminal: Option<Option<(u16, u16)>>,
    /// `--privileged`.
    pub privileged: bool,
}

/// A further process in a container whose init is `init`.
pub fn exec_process(init: &Process, wish: &ExecWish) -> Result<Process, SpecError> {
    let mut env = init.env().clone().unwrap_or_default();
    if wish.terminal.is_some() {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(wish.env.iter().cloned());
    let mut process = init.clone();
    process
        .set_args(Some(wish.command.clone()))
        .set_env(Some(environment::merge(env)))
        .set_terminal(Some(wish.terminal.is_some()))
        .set_console_size(wish.terminal.flatten().map(console_size));
    if let Some(folder) = &wish.workdir {
        process.set_cwd(workdir(Some(folder.clone()))?.into());
    }
    let bounding = init.capabilities().as_ref().and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    let set = if wish.privileged {
        capabilities::select(&["ALL".into()], &[]).unwrap_or_default()
    } else {
        bounding
    };
    let user = wish.user.as_deref().filter(|user| !user.is_empty());
    if user.is_some() {
        process.set_user(user_of(user));
    }
    if user.is_some() || wish.privileged {
        let root = user.map_or_else(|| is_root_user(process.user()), |user| is_root(Some(user)));
        process.set_capabilities(Some(capabilities::of_process(&set, root || wish.privileged)));
    }
    Ok(process)
}

fn workdir(folder: Option<String>) -> Result<String, SpecError> {
    let folder = folder.unwrap_or_else(|| "/".to_owned());
    check_workdir(&folder)?;
    Ok(folder)
}

/// Checks a `--workdir`.
pub fn check_workdir(folder: &str) -> Result<(), SpecError> {
    if folder.starts_with('/') { Ok(()) } else { Err(SpecError::Workdir(folder.to_owned())) }
}

fn console_size((columns, rows): (u16, u16)) -> ConsoleSize {
    BoxBuilder::default().width(columns).height(rows).build().unwrap_or_default()
}

/// `name`, `uid`, `name:group`, `uid:gid` and mixtures. The numbers are filled in as far as they are numbers; the agent
/// resolves the rest in the container's own /etc/passwd, which the host never reads.
fn user_of(user: Option<&str>) -> User {
    let mut resolved = User::default();
    if let Some(text) = user {
        let (name, group) = text.split_once(':').unwrap_or((text, ""));
        resolved.set_uid(name.parse().unwrap_or(0)).set_gid(group.parse().unwrap_or(0));
        resolved.set_username(Some(text.to_owned()));
    }
    resolved
}

fn is_root(user: Option<&str>) -> bool {
    let name = user.map(|user| user.split(':').next().unwrap_or_default());
    name.is_none_or(|name| name.is_empty() || name == "root" || name.parse::<u32>() == Ok(0))
}

fn is_root_user(user: &User) -> bool {
    is_root(user.username().as_deref()) && user.uid() == 0
}

fn linux(wish: &Wish) -> Result<Linux, SpecError> {
    let namespaces = [
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Uts,
    ];
    let namespaces = namespaces
        .into_iter()
        .filter(|kind| wish.namespaces.has(*kind))
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<LinuxNamespace>, _>>()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .resources(resources(wish)?)
        .masked_paths(mounts::MASKED.map(str::to_owned))
        .readonly_paths(mounts::READ_ONLY.map(str::to_owned))
        .sysctl(wish.sysctl.clone().into_iter().collect::<HashMap<_, _>>())
        .build()?;
    linux.set_seccomp(seccomp::filter(&wish.seccomp, &wish.capabilities)?);
    Ok(linux)
}

fn resources(wish: &Wish) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResources::default();
    if let Some(bytes) = wish.memory_bytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        resources.set_memory(Some(LinuxMemoryBuilder::default().limit(bytes).build()?));
    }
    if let Some(quota) = wish.cpu_quota_us {
        resources.set_cpu(Some(LinuxCpuBuilder::default().quota(quota).period(CPU_PERIOD_US).build()?));
    }
    if let Some(limit) = wish.pids_limit {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(limit).build()?));
    }
    Ok(resources)
}

#[cfg(test)]
#[path = "generate_test.rs"]
mod tests;
