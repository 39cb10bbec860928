//! What a process may do: limits, scheduling, user, capabilities, and the system call filter.

use std::env;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::personality::{Persona, set as set_personality};
use nix::sys::prctl;
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Gid, Pid, Uid, chdir, fchown, setgroups, setresgid, setresuid};

use super::Result;
use super::job::{Capabilities, ProcessJob, Rlimit};
use super::program::Program;
use super::users::Identity;
use crate::process::handshake::{Attempt, Failure};
use crate::sys::{capability, sched, seccomp};

/// Past the last capability that any kernel knows.
const CAPABILITIES: u32 = 64;

/// Takes on limits and scheduling, which needs the rights that [`change`] gives up.
pub fn limit(process: &ProcessJob) -> Result<()> {
    process.rlimits.iter().try_for_each(set_rlimit)?;
    if let Some(processors) = &process.cpu_affinity {
        let action = || format!("run on the processors {processors:?}");
        let mut set = CpuSet::new();
        processors.iter().try_for_each(|processor| set.set(*processor)).attempt(action)?;
        sched_setaffinity(Pid::from_raw(0), &set).attempt(action)?;
    }
    if let Some(attributes) = process.scheduler {
        sched::set_scheduler(attributes).attempt(|| format!("set the scheduling to {attributes:?}"))?;
    }
    if let Some((class, priority)) = process.io_priority {
        sched::set_io_priority(class, priority)
            .attempt(|| format!("set the I/O priority to class {class}, {priority}"))?;
    }
    if let Some(personality) = process.personality {
        let persona = Persona::from_bits_retain(personality as i32);
        set_personality(persona).attempt(|| format!("set the personality {personality:#x}"))?;
    }
    Ok(())
}

/// Becomes the user, with its capabilities, in its folder. Without no_new_privileges the filter is loaded here, while
/// that is still allowed; otherwise by [`filter_last`].
pub fn change(process: &ProcessJob, user: &Identity) -> Result<Program> {
    let mask = Mode::from_bits_truncate(user.umask.unwrap_or(0o022));
    umask(mask);
    own_stdio(user.uid)?;
    let as_root = chdir(&process.cwd);
    if !process.no_new_privileges {
        load_filter(process)?;
    }
    let known: u64 =
        (0..CAPABILITIES).filter(|number| capability::is_known(*number)).fold(0, |all, n| all | 1 << n);
    let wanted = process.capabilities;
    for number in (0..CAPABILITIES).filter(|number| (known & !wanted.bounding) >> number & 1 == 1) {
        capability::drop_bounding(number).attempt(|| format!("drop capability {number}"))?;
    }
    prctl::set_keepcaps(true).attempt(|| "keep capabilities".to_owned())?;
    let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).attempt(|| format!("set the groups {:?}", user.groups))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid).attempt(|| format!("become group {gid}"))?;
    setresuid(uid, uid, uid).attempt(|| format!("become user {uid}"))?;
    set_capabilities(wanted, known)?;
    if process.no_new_privileges {
        prctl::set_no_new_privs().attempt(|| "set no_new_privs".to_owned())?;
    }
    enter_folder(&process.cwd, as_root)?;
    Ok(Program::new(process, user.home.as_deref()))
}

/// Loads the filter if [`change`] did not.
pub fn filter_last(process: &ProcessJob) -> Result<()> {
    if process.no_new_privileges { load_filter(process) } else { Ok(()) }
}

fn load_filter(process: &ProcessJob) -> Result<()> {
    match &process.seccomp {
        Some(filter) => {
            seccomp::load(&filter.program, filter.flags).attempt(|| "load the system call filter".to_owned())
        }
        None => Ok(()),
    }
}

fn set_capabilities(wanted: Capabilities, known: u64) -> Result<()> {
    let action = || "set capabilities".to_owned();
    let permitted = wanted.permitted & known;
    capability::set(wanted.effective & permitted, permitted, wanted.inheritable & known).attempt(action)?;
    capability::clear_ambient().attempt(action)?;
    // A capability can only be ambient if it is permitted and inheritable; others are left out, as other runtimes do.
    let ambient = wanted.ambient & permitted & wanted.inheritable;
    for number in (0..CAPABILITIES).filter(|number| ambient >> number & 1 == 1) {
        capability::raise_ambient(number).attempt(|| format!("make capability {number} ambient"))?;
    }
    Ok(())
}

fn set_rlimit(limit: &Rlimit) -> Result<()> {
    let Rlimit { resource, soft, hard } = *limit;
    crate::sys::rlimit::set(resource, soft, hard)
        .attempt(|| format!("set resource limit {resource} to {soft}, at most {hard}"))
}

/// Lets the user open `/dev/stdout` and the like: pipes and terminals were made by root.
fn own_stdio(uid: u32) -> Result<()> {
    let action = || "hand over the standard streams".to_owned();
    let null = nix::sys::stat::stat("/dev/null").map(|null| null.st_rdev).ok();
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let owned = |fd: std::os::fd::BorrowedFd<'_>| -> std::result::Result<(), Errno> {
        let stat = fstat(fd)?;
        let is_device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
        if stat.st_uid == uid || (is_device && Some(stat.st_rdev) == null) {
            return Ok(());
        }
        match fchown(fd, Some(Uid::from_raw(uid)), None) {
            Err(Errno::EROFS | Errno::EPERM) => Ok(()),
            result => result,
        }
    };
    use std::os::fd::AsFd;
    owned(streams.0.as_fd()).attempt(action)?;
    owned(streams.1.as_fd()).attempt(action)?;
    owned(streams.2.as_fd()).attempt(action)
}

/// Root may not enter what only the user may (a folder on a network file system), and the other way round.
fn enter_folder(cwd: &PathBuf, as_root: std::result::Result<(), Errno>) -> Result<()> {
    let action = || format!("enter the folder {}", cwd.display());
    match as_root {
        Err(Errno::EACCES) => chdir(cwd).attempt(action)?,
        result => result.attempt(action)?,
    }
    // A folder that is not below the root would be a way out of the container.
    match env::current_dir() {
        Ok(folder) if folder.is_absolute() => Ok(()),
        _ => Err(Failure::new(action(), "it is outside of the container")),
    }
}
