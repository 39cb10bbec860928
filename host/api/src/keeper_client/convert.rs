//! A keeper's messages as the node's values. What a keeper says that makes no sense is left out: it may be of another
//! version.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::convert::options::allowance;
use prost::Message;
use prost_types::{Any, Timestamp};
use theca_controller::node::keeper::{Happened, Happening, Info, NewTask, Page, Phase, ProcessReport, Usage};
use theca_controller::node::values::{Command, Exit, Io, Mount, Payload, User};
use theca_proto::containerd::task::v3 as task;
use theca_proto::containerd::types;
use theca_proto::containerd::v1::types::Status;
use theca_proto::theca::keeper::v1 as wire;
use theca_proto::theca::keeper::v1::event::What;
use theca_proto::type_url;

/// A moment; 1970 when there is none.
pub fn time(at: Option<Timestamp>) -> SystemTime {
    let at = at.unwrap_or_default();
    let seconds = Duration::from_secs(u64::try_from(at.seconds).unwrap_or(0));
    let nanos = Duration::from_nanos(u64::try_from(at.nanos).unwrap_or(0));
    UNIX_EPOCH.checked_add(seconds + nanos).unwrap_or(UNIX_EPOCH)
}

/// A value of a type that is named.
pub fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.to_owned(), value }
}

/// The node's form of it.
pub fn payload(any: Any) -> Payload {
    Payload { type_url: any.type_url, value: any.value }
}

/// A task to create.
pub fn create(new: NewTask) -> task::CreateTaskRequest {
    task::CreateTaskRequest {
        id: new.container.to_string(),
        bundle: new.bundle.display().to_string(),
        rootfs: new.rootfs.into_iter().map(mount).collect(),
        terminal: new.io.terminal,
        stdin: new.io.stdin,
        stdout: new.io.stdout,
        stderr: new.io.stderr,
        options: new.options.map(|options| any(&options.type_url, options.value)),
        ..Default::default()
    }
}

fn mount(mount: Mount) -> types::Mount {
    types::Mount { r#type: mount.kind, source: mount.source, target: mount.target, options: mount.options }
}

/// The specification of a process to add, with what the keeper is to know beside it.
pub fn process_to_add(spec: Vec<u8>, forget: bool) -> Any {
    if !forget {
        return any(type_url::OCI_PROCESS, spec);
    }
    let options = wire::ExecOptions { process: spec.into(), forget, ..Default::default() };
    any(type_url::EXEC_OPTIONS, options.encode_to_vec())
}

/// A process, unless it has no name that is one.
pub fn process(process: wire::Process) -> Option<ProcessReport> {
    let exec = match process.exec_id.as_str() {
        "" => None,
        name => Some(name.parse().ok()?),
    };
    let phase = match process.status() {
        Status::Created => Phase::Created,
        Status::Running => Phase::Running,
        Status::Paused | Status::Pausing => Phase::Paused,
        Status::Stopped => Phase::Stopped,
        Status::Unknown => return None,
    };
    let user = process.user.unwrap_or_default();
    Some(ProcessReport {
        exec,
        pid: process.pid,
        phase,
        exit: (phase == Phase::Stopped)
            .then(|| Exit { status: process.exit_status, at: time(process.exited_at) }),
        io: Io {
            terminal: process.terminal,
            stdin: process.stdin,
            stdout: process.stdout,
            stderr: process.stderr,
        },
        command: Command {
            args: process.args,
            env: process.env,
            cwd: process.cwd,
            user: User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids },
        },
    })
}

/// The sandbox as it stands.
pub fn info(info: wire::InfoResponse) -> Info {
    Info {
        keeper_pid: info.keeper_pid,
        vmm_pid: info.vmm_pid,
        vcpus: info.vcpus,
        memory_mib: info.memory_mib,
        allowance: allowance(info.allowance).unwrap_or_default(),
        kernel_release: info.kernel_release,
        agent_version: info.agent_version,
        guest_used_bytes: info.guest_used_bytes,
        vm_failure: info.vm_failure,
        paused: info.paused,
        containers: info.containers.iter().filter_map(|id| id.parse().ok()).collect(),
        phases: info.phases.into_iter().map(|phase| (phase.name, phase.at_us)).collect(),
    }
}

/// What the sandbox uses.
pub fn usage(metrics: wire::MetricsResponse) -> Usage {
    Usage {
        files: metrics.files.into_iter().collect(),
        guest_used_bytes: metrics.guest_used_bytes,
        agent_resident_bytes: metrics.agent_resident_bytes,
        keeper_resident_bytes: metrics.keeper_resident_bytes,
        vmm_resident_bytes: metrics.vmm_resident_bytes,
        vmm_cpu_usec: metrics.vmm_cpu_us,
    }
}

/// Some events.
pub fn page(page: wire::EventsResponse) -> Page {
    Page { events: page.events.into_iter().filter_map(event).collect(), next: page.next, lost: page.lost }
}

fn event(event: wire::Event) -> Option<Happening> {
    let container = match event.container_id.as_str() {
        "" => None,
        name => Some(name.parse().ok()?),
    };
    let exec = match event.exec_id.as_str() {
        "" => None,
        name => Some(name.parse().ok()?),
    };
    let what = match event.what? {
        What::VmReady(_) => Happened::VmReady,
        What::VmEnded(end) => Happened::VmEnded { reason: end.reason, orderly: end.orderly },
        What::Created(created) => Happened::Created { bundle: created.bundle.into() },
        What::Started(_) => Happened::Started,
        What::ExecAdded(_) => Happened::ExecAdded,
        What::ExecStarted(_) => Happened::ExecStarted,
        What::Exited(exit) => Happened::Exited(ended(exit)),
        What::Oom(_) => Happened::OutOfMemory,
        What::Paused(_) => Happened::Paused,
        What::Resumed(_) => Happened::Resumed,
        What::Deleted(exit) => Happened::Deleted(ended(exit)),
    };
    Some(Happening { number: event.sequence, container, exec, pid: event.pid, what })
}

fn ended(exit: wire::Exited) -> Exit {
    Exit { status: exit.status, at: time(exit.at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_a_name_that_is_none_is_left_out_and_its_number_goes_with_it() {
        let event = |sequence, id: &str| wire::Event {
            sequence,
            container_id: id.into(),
            what: Some(What::Started(wire::Started {})),
            ..Default::default()
        };
        let answer =
            wire::EventsResponse { events: vec![event(1, "../x"), event(2, "web")], next: 3, lost: 0 };
        let taken = page(answer);
        assert_eq!((taken.events.len(), taken.events[0].number, taken.next), (1, 2, 3));
    }

    #[test]
    fn only_a_stopped_process_has_an_exit() {
        let running = wire::Process { status: Status::Running.into(), exit_status: 3, ..Default::default() };
        assert_eq!(process(running.clone()).unwrap().exit, None);
        let stopped = wire::Process { status: Status::Stopped.into(), ..running };
        assert_eq!(process(stopped).unwrap().exit.unwrap().status, 3);
    }

    #[test]
    fn no_time_is_worth_a_panic() {
        for (seconds, nanos) in [(i64::MIN, i32::MIN), (i64::MAX, i32::MAX), (0, 0)] {
            time(Some(Timestamp { seconds, nanos }));
        }
    }
}
