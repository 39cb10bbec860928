//! Which system calls each kind of thread may make, and why. Everything else ends the process.

use libc::{
    SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_close, SYS_epoll_ctl, SYS_epoll_wait, SYS_exit,
    SYS_exit_group, SYS_fallocate, SYS_fdatasync, SYS_ftruncate, SYS_futex, SYS_getpid, SYS_getrandom,
    SYS_ioctl, SYS_lseek, SYS_madvise, SYS_mmap, SYS_mremap, SYS_munmap, SYS_poll, SYS_prctl, SYS_pread64,
    SYS_preadv, SYS_preadv2, SYS_prlimit64, SYS_pwrite64, SYS_pwritev, SYS_read, SYS_readv, SYS_recvfrom,
    SYS_recvmsg, SYS_restart_syscall, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield, SYS_sendmsg,
    SYS_shutdown, SYS_sigaltstack, SYS_socketpair, SYS_tgkill, SYS_timerfd_settime, SYS_write,
};

#[cfg(debug_assertions)]
use libc::SYS_fcntl;

use self::Value::{Is, OwnProcess};
use crate::vcpu::KICK_SIGNAL;

/// Threads of the VMM by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadKind {
    /// The main thread, which serves the control socket.
    Control,
    /// One vCPU.
    Vcpu,
    /// The event loop of vsock, console and rng.
    Devices,
    /// The event loop of the disks: one of its threads.
    Disk,
}

/// One allowed call, optionally only with certain arguments.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Number of the call.
    pub call: libc::c_long,
    /// Index and value of arguments, all of which must match; none for any arguments.
    pub only: &'static [(u8, Value)],
    /// What it is needed for.
    pub reason: &'static str,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// This number.
    Is(u64),
    /// The id of the VMM's own process, which is known when the filter is compiled.
    OwnProcess,
}

impl Value {
    /// The number, in the process with this id.
    pub fn number(self, process: u32) -> u64 {
        match self {
            Self::Is(number) => number,
            Self::OwnProcess => process.into(),
        }
    }
}

const fn call(call: libc::c_long, reason: &'static str) -> Rule {
    Rule { call, only: &[], reason }
}

const fn with(call: libc::c_long, only: &'static [(u8, Value)], reason: &'static str) -> Rule {
    Rule { call, only, reason }
}

/// `_IO(KVMIO, nr)` and friends with their sizes, from linux/kvm.h.
mod kvm_ioctl {
    pub const RUN: u64 = 0xae80;
    pub const GET_REGS: u64 = 0x8090_ae81;
    pub const GET_SREGS: u64 = 0x8138_ae83;
    pub const GET_MSRS: u64 = 0xc008_ae88;
    pub const GET_LAPIC: u64 = 0x8400_ae8e;
    pub const GET_MP_STATE: u64 = 0x8004_ae98;
    pub const GET_VCPU_EVENTS: u64 = 0x8040_ae9f;
    pub const GET_DEBUGREGS: u64 = 0x8080_aea1;
    pub const GET_XSAVE: u64 = 0x9000_aea4;
    pub const GET_XCRS: u64 = 0x8188_aea6;
    pub const GET_IRQCHIP: u64 = 0xc208_ae62;
    pub const GET_CLOCK: u64 = 0x8030_ae7c;
    pub const GET_PIT2: u64 = 0x8070_ae9f;
    pub const KVMCLOCK_CTRL: u64 = 0xaead;
}

/// New memory is anonymous and not executable.
const ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const KICK: u64 = KICK_SIGNAL as u64;

/// What the C library and Rust's runtime need in any thread.
const RUNTIME: &[Rule] = &[
    call(SYS_futex, "locks, channels and joins"),
    call(SYS_sched_yield, "channels: a receiver whose sender was interrupted halfway"),
    call(SYS_brk, "allocator"),
    with(SYS_mmap, &[(2, Is(READ_WRITE)), (3, Is(ANONYMOUS))], "allocator: large blocks"),
    call(SYS_mremap, "allocator: growing a large block"),
    call(SYS_munmap, "allocator; a thread's alternate signal stack"),
    with(SYS_madvise, &[(2, Is(libc::MADV_DONTNEED as u64))], "a thread's stack when it ends; balloon"),
    call(SYS_sigaltstack, "a thread's alternate signal stack when it ends"),
    call(SYS_rt_sigprocmask, "a thread's end"),
    call(SYS_rt_sigreturn, "return from the kick signal's handler"),
    call(SYS_restart_syscall, "a call that was stopped and continued"),
    call(SYS_close, "dropping descriptors"),
    call(SYS_clock_gettime, "time, on hosts whose clock cannot be read without the kernel"),
    call(SYS_write, "eventfds, and a line on stderr when a device fails"),
    call(SYS_exit, "a thread's end"),
    call(SYS_exit_group, "the process' end"),
    #[cfg(debug_assertions)]
    with(
        SYS_fcntl,
        &[(1, Is(libc::F_GETFD as u64))],
        "the standard library's check of descriptors in debug builds",
    ),
];

/// The console log, written by whoever has output for it.
const CONSOLE_LOG: &[Rule] = &[
    call(SYS_pwrite64, "console log"),
    call(SYS_pread64, "console log: moving its newest half"),
    call(SYS_ftruncate, "console log: dropping its oldest half"),
];

const CONTROL: &[Rule] = &[
    call(SYS_poll, "waiting for requests and for the guest's end"),
    call(SYS_recvmsg, "requests with descriptors"),
    call(SYS_sendmsg, "replies and events with descriptors"),
    call(SYS_read, "eventfds"),
    call(SYS_getpid, "kicking a vCPU: the C library names the process"),
    with(SYS_tgkill, &[(0, OwnProcess), (2, Is(KICK))], "kicking a vCPU, a thread of this process"),
    call(SYS_lseek, "size of a disk"),
    with(
        SYS_prctl,
        &[(0, Is(libc::PR_SET_THP_DISABLE as u64)), (1, Is(0))],
        "large pages once the guest has booted",
    ),
    with(
        SYS_prlimit64,
        &[(0, Is(0)), (1, Is(libc::RLIMIT_FSIZE as u64))],
        "file size limit for a larger disk",
    ),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_IRQCHIP))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_PIT2))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_CLOCK))], "SaveState"),
];

const VCPU: &[Rule] = &[
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::RUN))], "the guest"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::KVMCLOCK_CTRL))], "resume"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_REGS))], "SaveState, and where KVM gave up"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_SREGS))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_MSRS))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_LAPIC))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_MP_STATE))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_VCPU_EVENTS))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_DEBUGREGS))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_XSAVE))], "SaveState"),
    with(SYS_ioctl, &[(1, Is(kvm_ioctl::GET_XCRS))], "SaveState"),
];

const DEVICES: &[Rule] = &[
    call(SYS_epoll_wait, "event loop"),
    call(SYS_epoll_ctl, "event loop"),
    call(SYS_read, "eventfds, timers, vsock's host sockets"),
    call(SYS_readv, "vsock: host socket to guest memory"),
    call(SYS_sendmsg, "vsock: guest memory to host socket"),
    call(SYS_recvfrom, "vsock: has the host side closed"),
    call(SYS_accept4, "vsock: a client of the host"),
    with(SYS_ioctl, &[(1, Is(libc::FIONBIO))], "vsock: a client of the host"),
    with(SYS_socketpair, &[(0, Is(libc::AF_UNIX as u64))], "vsock: a dial of the guest"),
    call(SYS_shutdown, "vsock: half-closed connections"),
    call(SYS_timerfd_settime, "vsock: connections that never finish"),
    call(SYS_getrandom, "rng"),
];

const DISK: &[Rule] = &[
    call(SYS_epoll_wait, "event loop"),
    call(SYS_epoll_ctl, "event loop"),
    call(SYS_read, "eventfds"),
    call(SYS_preadv, "disk reads"),
    with(SYS_preadv2, &[(5, Is(libc::RWF_NOWAIT as u64))], "disk reads of what is in the page cache"),
    call(SYS_pwritev, "disk writes"),
    call(SYS_fdatasync, "disk flush"),
    call(SYS_fallocate, "discard and write zeroes"),
];

/// The filter of `kind`, as groups of rules.
pub fn of(kind: ThreadKind) -> [&'static [Rule]; 3] {
    match kind {
        ThreadKind::Control => [RUNTIME, CONSOLE_LOG, CONTROL],
        ThreadKind::Vcpu => [RUNTIME, CONSOLE_LOG, VCPU],
        ThreadKind::Devices => [RUNTIME, CONSOLE_LOG, DEVICES],
        ThreadKind::Disk => [RUNTIME, &[], DISK],
    }
}
