//! What is said to the agent, and what it says: a guest's word, bounded and made printable.

use std::time::{Duration, SystemTime};

use theca_controller::agent::{
    AgentError, Cause, CgroupFiles, Code, Greeting, GuestDisk, GuestInfo, Rootfs, SuppliedFile,
};
use theca_proto::agent_headers::{DAMAGED_IMAGE, EXEC_ERRNO};
use theca_proto::theca::agent::v1;

/// Longest message of an error that is passed on.
const MAX_MESSAGE: usize = 4096;
/// Longest name or version.
const MAX_NAME: usize = 64;
/// Most points of a start.
const MAX_PHASES: usize = 64;

/// A root file system, as the agent is told.
pub fn rootfs(rootfs: Rootfs) -> v1::Rootfs {
    v1::Rootfs {
        lowers: rootfs.lowers.into_iter().map(|lower| disk(lower, "erofs")).collect(),
        upper: rootfs.upper.map(|upper| disk(upper, "ext4")),
        read_only: false,
        tmpfs_bytes: rootfs.tmpfs_bytes,
    }
}

/// A file that goes along with a container.
pub fn file(file: SuppliedFile) -> v1::File {
    v1::File { source: file.source, content: file.content.into(), mode: file.mode }
}

fn disk(disk: GuestDisk, fs_type: &str) -> v1::Disk {
    v1::Disk { slot: disk.slot.into(), fs_type: fs_type.into(), serial: disk.serial, bytes: disk.bytes }
}

/// A failed call. With a cause it failed on the way; without, the agent itself said no.
pub fn error(status: &tonic::Status) -> AgentError {
    if let Some(cause) = std::error::Error::source(status) {
        return AgentError::Unreachable(bounded(&cause.to_string(), MAX_MESSAGE));
    }
    let code = match status.code() {
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unimplemented => Code::Unimplemented,
        _ => Code::Internal,
    };
    AgentError::Refused { code, message: bounded(status.message(), MAX_MESSAGE), cause: cause(status) }
}

fn cause(status: &tonic::Status) -> Option<Cause> {
    let header = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    if let Some(errno) = header(EXEC_ERRNO).and_then(|errno| errno.parse().ok()) {
        return Some(Cause::Program { errno });
    }
    header(DAMAGED_IMAGE).map(|_| Cause::DamagedImage)
}

/// The ready message.
pub fn greeting(ready: v1::Ready) -> Greeting {
    let phase = |phase: v1::Phase| (bounded(&phase.name, MAX_NAME), Duration::from_micros(phase.at_us));
    Greeting {
        agent_version: bounded(&ready.agent_version, MAX_NAME),
        kernel_release: bounded(&ready.kernel_release, MAX_NAME),
        phases: ready.phases.into_iter().take(MAX_PHASES).map(phase).collect(),
    }
}

/// What the guest is.
pub fn info(info: v1::InfoResponse) -> GuestInfo {
    GuestInfo {
        agent_version: bounded(&info.agent_version, MAX_NAME),
        kernel_release: bounded(&info.kernel_release, MAX_NAME),
        memory_bytes: info.memory_bytes,
        used_bytes: info.memory_bytes.saturating_sub(info.memory_available_bytes),
        agent_resident_bytes: info.agent_resident_bytes,
        clock: info.clock.and_then(|at| SystemTime::try_from(at).ok()),
    }
}

/// A container's counters. Their number is bounded by the size of the message.
pub fn stats(stats: v1::StatsResponse) -> CgroupFiles {
    stats.files.into_iter().collect()
}

/// At most `limit` bytes of `text`, without control characters but line ends and tabs.
fn bounded(text: &str, limit: usize) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()) {
        if kept.len() + c.len_utf8() > limit {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_guest_is_bounded_and_steers_no_terminal() {
        let status = tonic::Status::not_found(format!("\x1b[2Jno such file{}", "é".repeat(10_000)));
        let AgentError::Refused { code, message, cause } = error(&status) else { panic!("not a refusal") };
        assert_eq!((code, cause), (Code::NotFound, None));
        assert!(message.starts_with("[2Jno such file") && message.len() <= MAX_MESSAGE);
    }

    #[test]
    fn what_is_to_blame_comes_from_headers_and_never_from_words() {
        let with = |name: &'static str, value: &'static str| {
            let mut status = tonic::Status::not_found("exec: no such file or directory");
            status.metadata_mut().insert(name, value.parse().unwrap());
            let AgentError::Refused { cause, .. } = error(&status) else { panic!("not a refusal") };
            cause
        };
        assert_eq!(with(EXEC_ERRNO, "2"), Some(Cause::Program { errno: 2 }));
        assert_eq!(with(DAMAGED_IMAGE, "0"), Some(Cause::DamagedImage));
        for (name, value) in [(EXEC_ERRNO, "-2"), (EXEC_ERRNO, "two"), ("another", "2")] {
            assert_eq!(with(name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn a_greeting_has_bounded_parts() {
        let phases = vec![v1::Phase { name: "n".repeat(1000), at_us: 5 }; 1000];
        let ready = v1::Ready { agent_version: "1".into(), kernel_release: "6\n".repeat(100), phases };
        let greeting = greeting(ready);
        assert_eq!(greeting.phases.len(), MAX_PHASES);
        assert!(greeting.phases[0].0.len() <= MAX_NAME && greeting.kernel_release.len() <= MAX_NAME);
    }
}
