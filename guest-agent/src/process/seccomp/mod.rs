//! System call filters: from the spec's `linux.seccomp` to the classic BPF that the kernel runs.
//!
//! [`rules`] sorts the spec's rules by system call, [`abi`] tells what these are called, [`assembler`] writes instructions.
//! The filter is
//!
//! ```text
//!   a 32-bit call, and the spec's architectures have SCMP_ARCH_X86? ── the same for i386
//!   another architecture? ── kill       an x32 call, or one newer than the profile? ── ENOSYS
//!   by system call:  its conditions in order, each with its action, then its plain action
//!   otherwise the default action
//! ```
//!
//! The guest's kernel has no x32 calls, so that a spec which names that architecture too gets what it would get anyway.

mod abi;
mod assembler;
mod rules;
#[cfg(target_arch = "x86_64")]
mod syscalls_i386;
#[cfg(target_arch = "x86_64")]
mod syscalls_x86_64;

use libc::{
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG,
    SECCOMP_RET_TRACE, SECCOMP_RET_TRAP,
};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use self::abi::Abi;
use self::assembler::Program;
use self::rules::{Condition, Rules, SyscallRules};
use crate::oci::SpecError;
use crate::setup::job::SeccompFilter;

/// Numbers from here on are calls of the x32 ABI under the same architecture.
const X32: u32 = 0x4000_0000;

/// What the kernel takes at most.
const MAX_INSTRUCTIONS: usize = 4096;

/// Compiles a seccomp section.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<SeccompFilter, SpecError> {
    if seccomp.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()) {
        return Err(SpecError::unsupported(
            "linux.seccomp.listenerPath",
            "no supervisor can listen in the guest",
        ));
    }
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let mut program = Program::default();
    program.load_architecture();
    if seccomp.architectures().iter().flatten().any(|architecture| *architecture == Arch::ScmpArchX86) {
        program.block_if_equal(abi::I386.architecture, calls(seccomp, default, &abi::I386)?);
    }
    program.return_unless_equal(abi::NATIVE.architecture, SECCOMP_RET_KILL_PROCESS);
    program.append(calls(seccomp, default, &abi::NATIVE)?);
    let program = program.finish();
    if program.len() > MAX_INSTRUCTIONS {
        let reason =
            format!("it compiles to {} instructions, the kernel takes {MAX_INSTRUCTIONS}", program.len());
        return Err(SpecError::invalid("linux.seccomp", reason));
    }
    Ok(SeccompFilter { flags: flags(seccomp)?, program })
}

/// The part of the filter for calls by one ABI: a search among ranges of numbers that have the same fate.
///
/// When a filter is installed the kernel translates it and walks it once for every call there is. Profiles name some four
/// hundred calls, most of them neighbours: as a chain of comparisons they were a third of what starting a process costs.
fn calls(seccomp: &LinuxSeccomp, default: u32, abi: &Abi) -> Result<Program, SpecError> {
    let rules = Rules::sort(seccomp, default, abi)?;
    let unknown = Fate::Plain(SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    let mut ranges = Ranges::default();
    let mut next = 0;
    for (number, syscall) in &rules.by_number {
        if *number > next {
            ranges.begin(next, Fate::Plain(default));
        }
        ranges.begin(*number, Fate::of(syscall, default));
        next = number + 1;
    }
    ranges.begin(next, Fate::Plain(default));
    // A C library that finds a new call missing falls back to older ones; EPERM would make it give up.
    match rules.newest_named.filter(|_| !is_permissive(default)) {
        // No rule is about a call beyond the newest that is named.
        Some(newest) => ranges.begin(newest + 1, unknown),
        None => ranges.begin(X32, unknown),
    }
    let mut program = Program::default();
    program.load_number();
    program.append(Program::search(ranges.into_blocks()));
    Ok(program)
}

/// What happens to a call.
#[derive(Clone, PartialEq)]
enum Fate<'a> {
    /// This, whatever its arguments are.
    Plain(u32),
    /// The first alternative that holds decides, else the action.
    ByArguments(&'a [(Vec<Condition>, u32)], u32),
}

impl<'a> Fate<'a> {
    fn of(syscall: &'a SyscallRules, default: u32) -> Self {
        let otherwise = syscall.plain.unwrap_or(default);
        match &syscall.conditional[..] {
            [] => Self::Plain(otherwise),
            conditional => Self::ByArguments(conditional, otherwise),
        }
    }

    fn into_block(self) -> Program {
        let mut block = Program::default();
        let (conditional, otherwise) = match self {
            Self::Plain(action) => (&[][..], action),
            Self::ByArguments(conditional, otherwise) => (conditional, otherwise),
        };
        for (conditions, action) in conditional {
            block.return_if_all(conditions, *action);
        }
        block.return_always(otherwise);
        block
    }
}

/// Fates of all numbers, by the first number of each range.
#[derive(Default)]
struct Ranges<'a>(Vec<(u32, Fate<'a>)>);

impl<'a> Ranges<'a> {
    /// From `first` on it is `fate`, until the next range begins.
    fn begin(&mut self, first: u32, fate: Fate<'a>) {
        // A range of no numbers.
        if self.0.last().is_some_and(|(last, _)| *last == first) {
            self.0.pop();
        }
        let goes_on = matches!((self.0.last(), &fate), (Some((_, Fate::Plain(before))), Fate::Plain(now)) if before == now);
        if !goes_on {
            self.0.push((first, fate));
        }
    }

    fn into_blocks(self) -> Vec<(u32, Program)> {
        self.0.into_iter().map(|(first, fate)| (first, fate.into_block())).collect()
    }
}

/// Whether the call takes place, or may if a tracer wants it.
fn is_permissive(action: u32) -> bool {
    [SECCOMP_RET_ALLOW, SECCOMP_RET_LOG].contains(&action)
        || action & libc::SECCOMP_RET_ACTION_FULL == SECCOMP_RET_TRACE
}

/// An action as the value that a filter returns.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SpecError> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    if errno > 0xffff {
        return Err(SpecError::invalid("linux.seccomp: errnoRet", format!("{errno} is no error number")));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SECCOMP_RET_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => SECCOMP_RET_ERRNO | errno,
        LinuxSeccompAction::ScmpActTrace => SECCOMP_RET_TRACE | errno,
        LinuxSeccompAction::ScmpActLog => SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(SpecError::unsupported(
                "linux.seccomp: SCMP_ACT_NOTIFY",
                "no supervisor can listen in the guest",
            ));
        }
    })
}

fn flags(seccomp: &LinuxSeccomp) -> Result<u32, SpecError> {
    // Without a word on it, a filter does not cost the process its speculation, as with other runtimes.
    let Some(flags) = seccomp.flags() else { return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32) };
    flags.iter().try_fold(0, |flags, flag| {
        Ok(flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG as u32,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC as u32,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => {
                    libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32
                }
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                    let field = "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
                    return Err(SpecError::unsupported(field, "it is about listeners"));
                }
            })
    })
}

#[cfg(test)]
#[path = "mod_test.rs"]
mod tests;
