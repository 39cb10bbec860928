//! Wire types to the domain's and back.

use std::time::SystemTime;

use prost_types::{Any, Timestamp};
use theca_proto::containerd::services::tasks::v1 as tasks;
use theca_proto::containerd::v1::types;
use theca_proto::theca::agent::v1 as agent;
use theca_proto::type_url::OCI_SPEC;
use tonic::Status;

use crate::container::outbox::{Told, What};
use crate::container::{Deleted, Described, Event, Happening, Member, Status as State};
use crate::process::Process;
use crate::process::stdio::Names;
use crate::rootfs::{DiskSpec, Layers, SuppliedFile};

/// See `PrepareRequest.files`.
const MAX_FILES: usize = 16;
const MAX_FILE_BYTES: usize = 256 << 10;

/// A time, as the wire has it.
pub fn timestamp(at: SystemTime) -> Option<Timestamp> {
    Some(at.into())
}

/// Where a root's layers are. INVALID_ARGUMENT where there is none.
pub fn layers(rootfs: Option<agent::Rootfs>) -> Result<Layers, Status> {
    let rootfs = rootfs.ok_or_else(|| Status::invalid_argument("a container needs a root file system"))?;
    let disk = |disk: agent::Disk| DiskSpec {
        slot: disk.slot,
        fs_type: disk.fs_type,
        serial: disk.serial,
        bytes: disk.bytes,
    };
    Ok(Layers {
        lowers: rootfs.lowers.into_iter().map(disk).collect(),
        upper: rootfs.upper.map(disk),
        read_only: rootfs.read_only,
        tmpfs_bytes: rootfs.tmpfs_bytes,
    })
}

/// Bounded, for they take memory of the guest's own.
pub fn files(files: Vec<agent::File>) -> Result<Vec<SuppliedFile>, Status> {
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if files.len() > MAX_FILES || bytes > MAX_FILE_BYTES {
        let words = format!("{} files of {bytes} bytes are too much", files.len());
        return Err(Status::invalid_argument(words));
    }
    let file = |agent::File { source, content, mode }| SuppliedFile { source: source.into(), content, mode };
    Ok(files.into_iter().map(file).collect())
}

/// How what was forgotten had ended.
pub fn deleted(container_id: String, deleted: Deleted) -> tasks::DeleteResponse {
    tasks::DeleteResponse {
        container_id,
        exit_status: deleted.exit.status,
        exited_at: timestamp(deleted.exit.at),
    }
}

/// A task, with the specification as it came.
pub fn task(described: Described) -> types::Task {
    let Names { stdin, stdout, stderr, terminal } = described.init.names.clone();
    types::Task {
        id: described.id.clone(),
        container_id: described.id,
        pid: described.init.pid.as_raw() as u32,
        status: status(described.status).into(),
        spec: Some(Any { type_url: OCI_SPEC.to_owned(), value: described.spec.to_vec() }),
        stdin,
        stdout,
        stderr,
        terminal,
    }
}

/// A process; of one that the container started itself only the pid is known.
pub fn process((member, state): (Member, State)) -> types::Process {
    match member {
        Member::Own(pid) => types::Process { pid, status: status(state).into(), ..Default::default() },
        Member::Known(process) => known_process(&process, state),
    }
}

fn known_process(process: &Process, state: State) -> types::Process {
    let Names { stdin, stdout, stderr, terminal } = process.names.clone();
    let user = &process.spec.user;
    types::Process {
        pid: process.pid.as_raw() as u32,
        args: process.spec.args.clone().unwrap_or_default(),
        env: process.spec.env.clone().unwrap_or_default(),
        user: Some(types::User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
        }),
        cwd: process.spec.cwd.display().to_string(),
        terminal,
        exit_status: process.exit().map_or(0, |exit| exit.status),
        status: status(state).into(),
        runtime_data: None,
        stdin,
        stdout,
        stderr,
    }
}

/// Where a task or process stands.
pub fn status(status: State) -> types::Status {
    match status {
        State::Created => types::Status::Created,
        State::Running => types::Status::Running,
        State::Paused => types::Status::Paused,
        State::Stopped => types::Status::Stopped,
    }
}

/// An event as the Shim of `container` tells it.
pub fn told(container: &str, Told { pid, what }: Told) -> types::Event {
    use types::event::EventType;
    let (kind, exit) = match what {
        What::Created => (EventType::Create, None),
        What::Started => (EventType::Start, None),
        What::ExecAdded => (EventType::ExecAdded, None),
        What::OutOfMemory => (EventType::Oom, None),
        What::Exited(status, at) => (EventType::Exit, Some((status, at))),
    };
    types::Event {
        id: container.to_owned(),
        r#type: kind.into(),
        pid,
        exit_status: exit.map_or(0, |(status, _)| status),
        exited_at: exit.and_then(|(_, at)| timestamp(at)),
    }
}

/// Something that happened to a container.
pub fn event(event: Event) -> agent::Event {
    let happening = match event.happening {
        Happening::OutOfMemory => agent::event::Event::Oom(agent::OutOfMemory {}),
        Happening::Exit { pid, status, at } => {
            agent::event::Event::Exit(agent::Exit { pid, exit_status: status, exited_at: timestamp(at) })
        }
    };
    agent::Event { container_id: event.container, event: Some(happening) }
}
