//! The flags that describe a container, shared by `run` and `create`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::spec::limits::{Cpus, Tmpfs};

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// If it is not in the store.
    #[default]
    Missing,
    /// Every time.
    Always,
    /// Never.
    Never,
}

/// How `run` and `create` are called, behind their names.
macro_rules! usage {
    ($verb:literal) => {
        concat!(
            "theca ",
            $verb,
            " [OPTIONS] IMAGE [COMMAND] [ARG...]\n       ",
            "theca ",
            $verb,
            " [OPTIONS] --rootfs DIR COMMAND [ARG...]\n       ",
            "theca ",
            $verb,
            " [OPTIONS] --bundle DIR"
        )
    };
}
pub(crate) use usage;

/// See the module.
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub struct ContainerFlags {
    /// Name of the container; one is made up otherwise
    #[arg(long)]
    pub name: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,

    /// Processors: whole ones become the VM's, a part of them a quota on top
    #[arg(long, default_value = "1", value_name = "N")]
    pub cpus: Cpus,
    /// Memory of the VM, e.g. 512m or 2g; the guest's kernel takes its part of it [default: 256m]
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Size of the container's writable disk; blocks are used as they are written
    #[arg(long, default_value = "10g", value_name = "SIZE")]
    pub storage_size: String,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Most processes and threads
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Resource limit of processes, e.g. nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// How readily the guest's kernel kills the container's init for memory, -1000 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,

    /// Set a variable; a bare name passes this shell's value on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,
    /// Working folder
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User of the container's /etc/passwd, or a number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Host name inside the container
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// Program in place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Signal that `stop` sends
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub stop_timeout: u32,

    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Mount a tmpfs
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<Tmpfs>,
    /// Add a capability
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined or seccomp=FILE
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Set a kernel parameter of the container's namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,

    /// Attach a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub label_file: Vec<PathBuf>,
    /// Attach an annotation to the OCI configuration
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub annotation: Vec<String>,
    /// Write the container's id to a file, which must not exist
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cidfile: Option<PathBuf>,

    /// Run an OCI bundle as it is
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "rootfs")]
    pub bundle: Option<PathBuf>,
    /// Run on a copy of a folder instead of an image
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub rootfs: Option<PathBuf>,
    /// When to fetch the image from its registry [default: missing]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pull: Option<Pull>,

    /// A guest kernel other than the installed one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kernel: Option<PathBuf>,
    /// Words to add to the guest kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub kernel_cmdline: String,

    /// Network: none, which is loopback only; the next capability brings more
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub network: Option<String>,
    /// Comes with the network
    #[arg(short, long, value_name = "PORT", hide = true)]
    pub publish: Vec<String>,
    /// Comes with the network
    #[arg(short = 'P', long, hide = true)]
    pub publish_all: bool,
    /// Comes with shared folders
    #[arg(short, long, value_name = "VOLUME", hide = true)]
    pub volume: Vec<String>,
    /// Comes with shared folders
    #[arg(long, value_name = "MOUNT", hide = true)]
    pub mount: Vec<String>,

    /// Print help
    #[arg(long, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,

    /// The image, unless --bundle or --rootfs is given; then the command. The usage line tells.
    #[arg(value_name = "IMAGE", trailing_var_arg = true, hide = true)]
    pub image_and_command: Vec<String>,
}
