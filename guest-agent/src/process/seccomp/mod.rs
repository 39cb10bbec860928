//! System call filters: from the spec's `linux.seccomp` to the classic BPF that the kernel runs.
//!
//! [`rules`] sorts the spec's rules by system call, [`abi`] tells what these are called, [`assembler`] writes instructions.
//! The filter is
//!
//! ```text
//!   a 32-bit call, and the spec's architectures have SCMP_ARCH_X86? ── the same for i386
//!   another architecture? ── kill       an x32 call, or one newer than the profile? ── ENOSYS
//!   per system call:  its conditions in order, each with its action, then its plain action
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
use self::rules::{Rules, SyscallRules};
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

/// The part of the filter for calls by one ABI.
fn calls(seccomp: &LinuxSeccomp, default: u32, abi: &Abi) -> Result<Program, SpecError> {
    let rules = Rules::sort(seccomp, default, abi)?;
    let mut program = Program::default();
    program.load_number();
    let unknown = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    program.return_from(X32, unknown);
    // A C library that finds a new call missing falls back to older ones; EPERM would make it give up.
    if let Some(newest) = rules.newest_named.filter(|_| !is_permissive(default)) {
        program.return_from(newest + 1, unknown);
    }
    for (number, syscall) in &rules.by_number {
        add_syscall(&mut program, *number, syscall, default);
    }
    program.return_always(default);
    Ok(program)
}

fn add_syscall(program: &mut Program, number: u32, syscall: &SyscallRules, default: u32) {
    match &syscall.conditional[..] {
        [] => program.return_if_equal(number, syscall.plain.unwrap_or(default)),
        conditional => {
            let mut body = Program::default();
            for (conditions, action) in conditional {
                body.return_if_all(conditions, *action);
            }
            body.return_always(syscall.plain.unwrap_or(default));
            program.block_if_equal(number, body);
        }
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
