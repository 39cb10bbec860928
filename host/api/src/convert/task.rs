//! The task API's messages.

use prost_types::Any;
use theca_controller::Error;
use theca_controller::id::ContainerId;
use theca_controller::sandbox::CreateTask;
use theca_controller::task::rootfs::RootfsMount;
use theca_controller::task::state::Phase;
use theca_controller::task::stdio::{IoRequest, Readers, Target};
use theca_controller::task::{AddProcess, AttachPaths, Kept, ProcessReport, Which};
use theca_proto::containerd::task::v3;
use theca_proto::containerd::v1::types::{ProcessInfo, Status};
use theca_proto::theca::keeper::v1::{AttachRequest, ExecOptions};
use theca_proto::type_url;

use super::{options, time};

/// A container's id and which of its processes is meant.
pub fn process(id: &str, exec_id: &str) -> Result<(ContainerId, Which), Error> {
    let which = if exec_id.is_empty() { None } else { Some(exec_id.parse()?) };
    Ok((id.parse()?, which))
}

/// A task to create.
pub fn create(request: v3::CreateTaskRequest) -> Result<CreateTask, Error> {
    if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
        return Err(Error::Unsupported("restoring a container from a checkpoint"));
    }
    let options::TaskOptions { log, tmpfs_bytes, readers } = options::task(request.options.as_ref())?;
    let mount = |mount: theca_proto::containerd::types::Mount| RootfsMount {
        kind: mount.r#type,
        source: mount.source,
        options: mount.options,
    };
    Ok(CreateTask {
        id: request.id.parse()?,
        bundle: request.bundle.into(),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        io: IoRequest { readers, ..io(request.terminal, &request.stdin, &request.stdout, &request.stderr)? },
        log,
        tmpfs_bytes,
    })
}

/// A process to add, and to which container.
pub fn exec(request: v3::ExecProcessRequest) -> Result<(ContainerId, AddProcess), Error> {
    let spec =
        request.spec.ok_or_else(|| Error::Invalid("the process to add has no specification".into()))?;
    let options = exec_options(spec)?;
    let add = AddProcess {
        exec: request.exec_id.parse()?,
        io: IoRequest {
            readers: options::readers(options.output_is_read),
            ..io(request.terminal, &request.stdin, &request.stdout, &request.stderr)?
        },
        spec: options.process.into(),
        kept: if options.forget { Kept::ForAWhile } else { Kept::UntilDelete },
    };
    Ok((request.id.parse()?, add))
}

/// A process to add with options of ours, or as containerd gives it, which is without.
fn exec_options(spec: Any) -> Result<ExecOptions, Error> {
    match super::named(&spec) == type_url::EXEC_OPTIONS {
        true => super::unpack(Some(&spec), type_url::EXEC_OPTIONS),
        false => Ok(ExecOptions { process: spec.value.into(), ..ExecOptions::default() }),
    }
}

/// Limits to set, as JSON.
pub fn resources(resources: Option<Any>) -> Result<Vec<u8>, Error> {
    let json = resources.ok_or_else(|| Error::Invalid("the update names no resources".into()))?.value;
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&json)
        .map_err(|error| Error::Invalid(format!("the resources are no JSON object: {error}")))?;
    Ok(json)
}

/// How a process stands.
pub fn state(request: v3::StateRequest, report: ProcessReport) -> v3::StateResponse {
    v3::StateResponse {
        id: request.id,
        bundle: report.bundle.display().to_string(),
        pid: report.pid,
        status: status(report.phase).into(),
        stdin: target(report.io.stdin.as_ref()),
        stdout: target(report.io.stdout.as_ref()),
        stderr: target(report.io.stderr.as_ref()),
        terminal: report.io.terminal,
        exit_status: report.exit.map_or(0, |exit| exit.status),
        exited_at: report.exit.map(|exit| time::wire(exit.at)),
        exec_id: request.exec_id,
    }
}

/// Where a process stands.
pub fn status(phase: Phase) -> Status {
    match phase {
        Phase::Added | Phase::Starting | Phase::Created => Status::Created,
        Phase::Running => Status::Running,
        Phase::Paused => Status::Paused,
        Phase::Stopped => Status::Stopped,
    }
}

/// Processes as Pids lists them.
pub fn processes(pids: Vec<u32>) -> Vec<ProcessInfo> {
    pids.into_iter().map(|pid| ProcessInfo { pid, info: None }).collect()
}

/// FIFOs of someone who attaches.
pub fn attach_paths(request: &AttachRequest) -> Result<AttachPaths, Error> {
    let fifo = |text: &str| match Target::parse(text)? {
        None => Ok(None),
        Some(Target::Fifo(path)) => Ok(Some(path)),
        Some(Target::File(_)) => Err(Error::Unsupported("attaching a file")),
        Some(Target::Stream { .. }) => Err(Error::Unsupported("attaching a stream")),
    };
    Ok(AttachPaths {
        stdin: fifo(&request.stdin)?,
        stdout: fifo(&request.stdout)?,
        stderr: fifo(&request.stderr)?,
    })
}

/// A process's input and output.
pub fn io(terminal: bool, stdin: &str, stdout: &str, stderr: &str) -> Result<IoRequest, Error> {
    Ok(IoRequest {
        terminal,
        stdin: Target::parse(stdin)?,
        stdout: Target::parse(stdout)?,
        stderr: Target::parse(stderr)?,
        readers: Readers::default(),
    })
}

/// Where a stream goes or comes from, as it was asked for.
pub fn target(target: Option<&Target>) -> String {
    target.map(Target::text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_a_folder_stop_here() {
        assert!(process("../etc", "").is_err());
        assert!(process("web", "a/b").is_err());
        let (id, which) = process("web", "shell").unwrap();
        assert_eq!((id.as_str(), which.unwrap().as_str()), ("web", "shell"));
    }

    #[test]
    fn a_checkpoint_is_refused_by_name() {
        let request =
            v3::CreateTaskRequest { id: "web".into(), checkpoint: "/ckpt".into(), ..Default::default() };
        assert!(create(request).unwrap_err().to_string().contains("checkpoint is not supported"));
    }

    #[test]
    fn a_process_comes_with_options_of_ours_or_as_containerd_gives_it() {
        use prost::Message;
        let request = |type_url: &str, value: Vec<u8>| v3::ExecProcessRequest {
            id: "web".into(),
            exec_id: "sh".into(),
            stdout: "/run/fifo".into(),
            spec: Some(Any { type_url: type_url.into(), value }),
            ..Default::default()
        };
        let (_, theirs) = exec(request(type_url::OCI_PROCESS, b"{}".into())).unwrap();
        let told = |add: AddProcess| (add.spec, add.io.readers, add.kept);
        assert_eq!(told(theirs), (b"{}".into(), Readers::ComeAndGo, Kept::UntilDelete));
        let options = ExecOptions { process: "{}".into(), output_is_read: true, forget: true };
        let (_, ours) = exec(request(type_url::EXEC_OPTIONS, options.encode_to_vec())).unwrap();
        assert_eq!(told(ours), (b"{}".into(), Readers::AreThere, Kept::ForAWhile));
        assert!(exec(request(type_url::EXEC_OPTIONS, b"{}".into())).is_err(), "malformed");
    }

    #[test]
    fn resources_must_be_an_object() {
        let any = |text: &str| Some(Any { type_url: String::new(), value: text.into() });
        assert!(resources(any("{\"pids\":{\"limit\":5}}")).is_ok());
        assert!(resources(any("[]")).is_err());
        assert!(resources(None).is_err());
    }
}
