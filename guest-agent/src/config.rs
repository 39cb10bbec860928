//! Where the agent finds and keeps things. In a guest there is one answer; tests on a whole machine have others.

use std::ffi::CString;
use std::path::PathBuf;

/// Paths of the agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's own program, for set-up processes.
    pub program: CString,
    /// What it keeps at run time.
    pub run: PathBuf,
    /// The top of the cgroup v2 tree, or an empty part of one.
    pub cgroups: PathBuf,
    /// Where device nodes are.
    pub dev: PathBuf,
    /// Where block devices are described.
    pub sys_block: PathBuf,
}

impl Config {
    /// The guest's.
    pub fn guest() -> Self {
        Self {
            program: c"/proc/self/exe".to_owned(),
            run: PathBuf::from("/run/theca"),
            cgroups: PathBuf::from("/sys/fs/cgroup"),
            dev: PathBuf::from("/dev"),
            sys_block: PathBuf::from("/sys/block"),
        }
    }
}
