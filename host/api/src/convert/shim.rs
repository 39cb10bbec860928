//! The 2017 Shim's messages.

use theca_controller::Error;
use theca_controller::bundle::is_oci;
use theca_controller::id::{ContainerId, ExecId};
use theca_controller::sandbox::CreateTask;
use theca_controller::sandbox::history::{Event, Happening};
use theca_controller::task::rootfs::RootfsMount;
use theca_controller::task::state::Phase;
use theca_controller::task::{AddProcess, Kept, ProcessDetail};
use theca_proto::containerd::v1::services::shim::{CreateRequest, ExecRequest};
use theca_proto::containerd::v1::types;
use types::event::EventType;

use super::{task, time};

/// A task to create at the endpoint of `container`.
pub fn create(request: CreateRequest, container: &ContainerId) -> Result<CreateTask, Error> {
    if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
        return Err(Error::Unsupported("restoring a container from a checkpoint"));
    }
    if !request.id.is_empty() && request.id != container.as_str() {
        let words = format!("this is the endpoint of {container}, not of {:?}", request.id);
        return Err(Error::Invalid(words));
    }
    if request.bundle.is_empty() {
        return Err(Error::Invalid("empty bundle path".into()));
    }
    let mount = |mount: types::Mount| RootfsMount {
        kind: mount.r#type,
        source: mount.source,
        options: mount.options,
    };
    Ok(CreateTask {
        id: container.clone(),
        bundle: request.bundle.into(),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        io: task::io(request.terminal, &request.stdin, &request.stdout, &request.stderr)?,
        log: None,
        tmpfs_bytes: 0,
    })
}

/// A process to add, under the name `exec`.
pub fn exec(request: ExecRequest, exec: ExecId) -> Result<AddProcess, Error> {
    let spec =
        request.spec.ok_or_else(|| Error::Invalid("the process to add has no specification".into()))?;
    if !is_oci(&spec.type_url, "Process") {
        return Err(Error::Invalid(format!(
            "a process specification of type {:?} is not known here: use {}",
            spec.type_url,
            theca_proto::type_url::OCI_PROCESS
        )));
    }
    let io = task::io(request.terminal, &request.stdin, &request.stdout, &request.stderr)?;
    Ok(AddProcess { exec, io, spec: spec.value, kept: Kept::UntilDelete })
}

/// A process, if it has a pid: one that was added by another interface and not started has none yet.
pub fn process(process: ProcessDetail) -> Option<types::Process> {
    if matches!(process.phase, Phase::Added | Phase::Starting) {
        return None;
    }
    let told = super::process::wire(process);
    Some(types::Process {
        pid: told.pid,
        args: told.args,
        env: told.env,
        user: told.user,
        cwd: told.cwd,
        terminal: told.terminal,
        exit_status: told.exit_status,
        status: told.status,
        runtime_data: None,
        stdin: told.stdin,
        stdout: told.stdout,
        stderr: told.stderr,
    })
}

/// An event, if it is one that the Shim tells: Pause, Resume and Delete have none.
pub fn event(event: Event) -> Option<types::Event> {
    let (kind, exit) = match event.happening {
        Happening::Created(_) => (EventType::Create, None),
        Happening::Started => (EventType::Start, None),
        Happening::ExecStarted => (EventType::ExecAdded, None),
        Happening::OutOfMemory => (EventType::Oom, None),
        Happening::Exited(exit) => (EventType::Exit, Some(exit)),
        Happening::VmReady
        | Happening::VmEnded { .. }
        | Happening::ExecAdded
        | Happening::Paused
        | Happening::Resumed
        | Happening::Deleted(_) => return None,
    };
    Some(types::Event {
        id: event.subject.container.map(|id| id.to_string()).unwrap_or_default(),
        r#type: kind.into(),
        pid: event.subject.guest_pid,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| time::wire(exit.at)),
    })
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    #[test]
    fn what_is_no_process_is_refused_with_what_it_should_be() {
        let request = |type_url: &str| {
            let spec = Some(Any { type_url: type_url.into(), value: b"{}".to_vec() });
            exec(ExecRequest { spec, ..ExecRequest::default() }, "shim-1".parse().unwrap())
        };
        assert!(request("").is_ok() && request(theca_proto::type_url::OCI_PROCESS).is_ok());
        let error = request("google.protobuf.Empty").unwrap_err().to_string();
        assert!(error.contains("\"google.protobuf.Empty\" is not known here: use types."), "{error}");
    }
}
