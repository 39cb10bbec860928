//! A spec's `process` as a job: for the container's init and for every exec.

use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    PosixRlimit, PosixRlimitType, Scheduler,
};

use super::{Process, Spec, SpecError, affinity, capabilities, refuse};
use crate::process::seccomp;
use crate::setup::job::{ProcessJob, Rlimit, TerminalSize, User};
use crate::sys::sched;

/// Parses the JSON of an exec's process and refuses what cannot be run.
pub fn parse_process(json: &[u8]) -> Result<Process, SpecError> {
    let process =
        serde_json::from_slice(json).map_err(|source| SpecError::Parse { what: "process", source })?;
    refuse::process(&process)?;
    Ok(process)
}

/// Turns a process into a job. What an exec leaves out comes from its container's spec: capabilities, limits,
/// no_new_privileges; the seccomp filter and personality are always the container's.
pub fn process_job(process: &Process, spec: &Spec, terminal: bool) -> Result<ProcessJob, SpecError> {
    let init = spec.process.as_ref();
    let capabilities =
        process.capabilities.as_ref().or_else(|| init.and_then(|init| init.capabilities.as_ref()));
    let rlimits = process
        .rlimits
        .as_ref()
        .filter(|limits| !limits.is_empty())
        .or_else(|| init.and_then(|init| init.rlimits.as_ref()));
    let linux = spec.linux.as_ref();
    let size = process.console_size.unwrap_or_default();
    let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    Ok(ProcessJob {
        args: process.args.clone().unwrap_or_default(),
        env: process.env.clone().unwrap_or_default(),
        cwd: process.cwd.clone(),
        user: user(process),
        capabilities: capabilities::capabilities(capabilities),
        rlimits: rlimits.into_iter().flatten().map(rlimit).collect(),
        no_new_privileges: process
            .no_new_privileges
            .or_else(|| init.and_then(|init| init.no_new_privileges))
            .unwrap_or(false),
        oom_score_adj: process.oom_score_adj.or_else(|| init.and_then(|init| init.oom_score_adj)),
        terminal: terminal.then(|| TerminalSize { columns: cells(size.width()), rows: cells(size.height()) }),
        seccomp: linux.and_then(|linux| linux.seccomp().as_ref()).map(seccomp::compile).transpose()?,
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        personality: linux.and_then(|linux| linux.personality().as_ref()).map(personality).transpose()?,
        cpu_affinity: cpu_affinity(process)?,
    })
}

fn user(process: &Process) -> User {
    let user = &process.user;
    let additional_gids = user.additional_gids().clone().unwrap_or_default();
    match user.username().as_deref() {
        Some(name) if !name.is_empty() => {
            User::Lookup { name: name.to_owned(), additional_gids, umask: user.umask() }
        }
        _ => User::Ids { uid: user.uid(), gid: user.gid(), additional_gids, umask: user.umask() },
    }
}

fn rlimit(limit: &PosixRlimit) -> Rlimit {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    Rlimit { resource, soft: limit.soft(), hard: limit.hard() }
}

fn scheduler(scheduler: &Scheduler) -> Result<sched::Attributes, SpecError> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(SpecError::unsupported("process.scheduler: SCHED_ISO", "Linux has no such policy"));
        }
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let priority = u32::try_from(scheduler.priority().unwrap_or(0))
        .map_err(|_| SpecError::invalid("process.scheduler.priority", "it is negative"))?;
    Ok(sched::Attributes {
        policy: policy as u32,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

fn io_priority(priority: &oci_spec::runtime::LinuxIOPriority) -> Result<(u32, u32), SpecError> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority.priority()) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => Err(SpecError::invalid("process.ioPriority.priority", "it is not from 0 to 7")),
    }
}

fn personality(personality: &LinuxPersonality) -> Result<u64, SpecError> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(SpecError::unsupported("linux.personality.flags", "the runtime spec defines none"));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn cpu_affinity(process: &Process) -> Result<Option<Vec<usize>>, SpecError> {
    let Some(affinity) = &process.exec_cpu_affinity else { return Ok(None) };
    let list = |name: &str, list: &Option<String>| {
        list.as_deref()
            .map(|list| affinity::processors(&format!("process.execCPUAffinity.{name}"), list))
            .transpose()
    };
    // About the time before the process is in its cgroup; here it is born there.
    list("initial", &affinity.initial)?;
    list("final", &affinity.r#final)
}
