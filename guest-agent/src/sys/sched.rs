//! Scheduling of processor and disk.

use std::io;

use super::check;

/// What `sched_setattr` is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the ordinary policies.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: u32,
    /// Nanoseconds, for the deadline policy, as the next two.
    pub runtime: u64,
    /// See `runtime`.
    pub deadline: u64,
    /// See `runtime`.
    pub period: u64,
}

/// Sets the scheduling of the calling thread.
pub fn set_scheduler(attributes: Attributes) -> io::Result<()> {
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: attributes.policy,
        sched_flags: attributes.flags,
        sched_nice: attributes.nice,
        sched_priority: attributes.priority,
        sched_runtime: attributes.runtime,
        sched_deadline: attributes.deadline,
        sched_period: attributes.period,
    };
    // SAFETY: `attr` carries its own size and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// Sets the I/O priority of the calling thread: class 1 is real-time, 2 best effort, 3 idle.
pub fn set_io_priority(class: u32, priority: u32) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    // SAFETY: all arguments are numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, (class << CLASS_SHIFT) | priority) })
        .map(drop)
}
