//! Starting a fresh program in a cgroup and a pid namespace, in one step.
//!
//! `clone3` places the child in its cgroup before it runs its first instruction, so that nothing it does escapes the
//! limits, and makes it the first process of a new pid namespace without a second fork. Between `clone3` and `execve`
//! the child makes system calls only: it is a copy of the async runtime and may neither allocate nor take a lock.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::check;

/// Where the child's pid namespace comes from.
pub enum PidNamespace<'a> {
    /// The agent's own.
    Shared,
    /// A new one, in which the child is pid 1.
    New,
    /// An existing one, named by a namespace or a pidfd.
    Join(BorrowedFd<'a>),
}

/// What to start, and where.
pub struct Spawn<'a> {
    /// The program.
    pub program: CString,
    /// Its arguments, from `argv[0]` on. The environment is empty.
    pub args: Vec<CString>,
    /// Descriptors that become 0, 1, 2 and so on in the child; no other descriptor survives.
    pub fds: Vec<BorrowedFd<'a>>,
    /// The folder of the cgroup that the child is born in; absent: the agent's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The pid namespace.
    pub pid_namespace: PidNamespace<'a>,
}

/// A started child.
pub struct Spawned {
    /// As seen from the agent.
    pub pid: Pid,
    /// Names the process even after its pid is free again.
    pub pidfd: OwnedFd,
}

/// `struct clone_args` of `linux/sched.h`, up to the field that `CLONE_INTO_CGROUP` needs.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The highest descriptor that [`Spawn::fds`] may end on; copies wait above it before they take their places.
const SCRATCH: RawFd = 64;

impl Spawn<'_> {
    /// Starts the program. A program that cannot be executed shows as a child that exits with 127.
    pub fn start(&self) -> io::Result<Spawned> {
        let PidNamespace::Join(namespace) = &self.pid_namespace else {
            return self.clone_and_exec();
        };
        // Only what is cloned while the thread's namespace for children is another one lands there.
        let own = File::open("/proc/self/ns/pid")?;
        setns(namespace, CloneFlags::CLONE_NEWPID)?;
        let spawned = self.clone_and_exec();
        setns(&own, CloneFlags::CLONE_NEWPID)?;
        spawned
    }

    fn clone_and_exec(&self) -> io::Result<Spawned> {
        let mut argv: Vec<*const libc::c_char> = self.args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(ptr::null());
        let envp = [ptr::null()];
        let fds: Vec<RawFd> = self.fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let mut pidfd: RawFd = -1;
        let mut args = CloneArgs {
            flags: libc::CLONE_PIDFD as u64,
            pidfd: ptr::from_mut(&mut pidfd) as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        if matches!(self.pid_namespace, PidNamespace::New) {
            args.flags |= libc::CLONE_NEWPID as u64;
        }
        // SAFETY: `args` has the layout and size the kernel is told; without CLONE_VM the child runs on its own copy of
        // this stack, and it only calls `exec`, which never returns.
        let pid = check(unsafe {
            libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), size_of::<CloneArgs>())
        })?;
        if pid == 0 {
            exec(&self.program, &argv, &envp, &fds);
        }
        // SAFETY: the kernel stored a new descriptor here, as CLONE_PIDFD asks, and nobody else knows it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Spawned { pid: Pid::from_raw(pid as i32), pidfd })
    }
}

/// The child's side: places the descriptors, forgets the runtime's signal set-up, and becomes the program.
fn exec(program: &CString, argv: &[*const libc::c_char], envp: &[*const libc::c_char], fds: &[RawFd]) -> ! {
    // SAFETY: only async-signal-safe calls on memory that was prepared before the clone; `argv` and `envp` end with a
    // null pointer, and all descriptors are plain numbers.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &mask, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut copies = [-1; SCRATCH as usize];
        for (copy, fd) in copies.iter_mut().zip(fds) {
            *copy = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, SCRATCH);
        }
        for (place, copy) in copies.iter().take(fds.len()).enumerate() {
            if libc::dup2(*copy, place as RawFd) < 0 {
                libc::_exit(127);
            }
        }
        libc::syscall(libc::SYS_close_range, fds.len(), u32::MAX, 0);
        libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}
