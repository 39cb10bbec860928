//! Finding and executing the container's program.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execve};

use super::Result;
use super::job::ProcessJob;
use crate::process::handshake::{Attempt, Failure};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be executed.
pub struct Program {
    args: Vec<String>,
    env: Vec<String>,
    file: PathBuf,
}

impl Program {
    /// The program of a process. Its environment gets `HOME` if it has none.
    pub fn new(process: &ProcessJob, home: Option<&str>) -> Self {
        let mut env = process.env.clone();
        if !env.iter().any(|variable| variable.starts_with("HOME=")) {
            env.push(format!("HOME={}", home.unwrap_or("/")));
        }
        Self { args: process.args.clone(), env, file: PathBuf::new() }
    }

    /// Finds the file, as the user that will execute it, so that a mistake shows before Start.
    pub fn look_up(mut self) -> Result<Self> {
        let name = self.args.first().cloned().unwrap_or_default();
        let found = if name.contains('/') {
            check(Path::new(&name)).map(|()| PathBuf::from(&name))
        } else {
            let path = self.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
            search(&name, path.unwrap_or(DEFAULT_PATH))
        };
        self.file = found.map_err(|error| Failure::of_program(&name, error.into()))?;
        Ok(self)
    }

    /// Becomes the program; comes back only with the reason why not.
    pub fn execute(self) -> Failure {
        let name = self.args.first().cloned().unwrap_or_default();
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let strings = |strings: &[String]| {
            strings.iter().map(|s| c_string(s.as_bytes())).collect::<io::Result<Vec<_>>>()
        };
        let prepared = || {
            io::Result::Ok((
                c_string(self.file.as_os_str().as_bytes())?,
                strings(&self.args)?,
                strings(&self.env)?,
            ))
        };
        let (file, args, env) = match prepared().attempt(|| format!("execute {name:?}")) {
            Ok(prepared) => prepared,
            Err(failure) => return failure,
        };
        match execve(&file, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => Failure::of_program(&name, errno.into()),
        }
    }
}

/// The first file in `path` that can be executed. One that cannot be is only the answer if there is no other.
fn search(name: &str, path: &str) -> std::result::Result<PathBuf, Errno> {
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut error = Errno::ENOENT;
    for folder in path.split(':') {
        let file = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(Errno::EACCES) => error = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(error)
}

fn check(file: &Path) -> std::result::Result<(), Errno> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT));
    if fs::metadata(file).map_err(errno)?.is_dir() {
        return Err(Errno::EACCES);
    }
    access(file, AccessFlags::X_OK)
}
