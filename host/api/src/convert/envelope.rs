//! Events as containerd publishes them.

use prost::Message;
use prost_types::Any;
use theca_controller::id::Namespace;
use theca_controller::sandbox::history::{Created, Event, Happening, Subject};
use theca_controller::task::Exit;
use theca_proto::containerd::events::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIo, TaskOom, TaskPaused,
    TaskResumed, TaskStart,
};
use theca_proto::containerd::types::{Envelope, Mount};

use super::{task, time};

/// The event, if it is one of a task.
pub fn wire(event: Event, namespace: &Namespace) -> Option<Envelope> {
    let Event { at, subject, happening, .. } = event;
    let (topic, event) = message(subject, happening)?;
    Some(Envelope {
        timestamp: Some(time::wire(at)),
        namespace: namespace.to_string(),
        topic: topic.into(),
        event: Some(event),
    })
}

fn message(subject: Subject, happening: Happening) -> Option<(&'static str, Any)> {
    let Subject { container, exec, pid, .. } = subject;
    let container_id = container?.to_string();
    let exec_id = exec.map(|exec| exec.to_string()).unwrap_or_default();
    Some(match happening {
        Happening::VmReady | Happening::VmEnded { .. } => return None,
        Happening::Created(created) => {
            ("/tasks/create", any("TaskCreate", &create(container_id, pid, &created)))
        }
        Happening::Started => ("/tasks/start", any("TaskStart", &TaskStart { container_id, pid })),
        Happening::ExecAdded => {
            ("/tasks/exec-added", any("TaskExecAdded", &TaskExecAdded { container_id, exec_id }))
        }
        Happening::ExecStarted => {
            ("/tasks/exec-started", any("TaskExecStarted", &TaskExecStarted { container_id, exec_id, pid }))
        }
        Happening::Exited(exit) => {
            // Init goes by the container's name.
            let id = if exec_id.is_empty() { container_id.clone() } else { exec_id };
            ("/tasks/exit", any("TaskExit", &exited(container_id, id, pid, exit)))
        }
        Happening::OutOfMemory => ("/tasks/oom", any("TaskOOM", &TaskOom { container_id })),
        Happening::Paused => ("/tasks/paused", any("TaskPaused", &TaskPaused { container_id })),
        Happening::Resumed => ("/tasks/resumed", any("TaskResumed", &TaskResumed { container_id })),
        // containerd is told of tasks only.
        Happening::Deleted(_) if !exec_id.is_empty() => return None,
        Happening::Deleted(exit) => {
            let TaskExit { container_id, pid, exit_status, exited_at, .. } =
                exited(container_id, String::new(), pid, exit);
            let deleted = TaskDelete { container_id, pid, exit_status, exited_at, id: String::new() };
            ("/tasks/delete", any("TaskDelete", &deleted))
        }
    })
}

fn create(container_id: String, pid: u32, created: &Created) -> TaskCreate {
    let mounts = created.rootfs.iter().map(|mount| Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
        ..Mount::default()
    });
    TaskCreate {
        container_id,
        bundle: created.bundle.display().to_string(),
        rootfs: mounts.collect(),
        io: Some(TaskIo {
            stdin: task::target(created.io.stdin.as_ref()),
            stdout: task::target(created.io.stdout.as_ref()),
            stderr: task::target(created.io.stderr.as_ref()),
            terminal: created.io.terminal,
        }),
        checkpoint: String::new(),
        pid,
    }
}

fn exited(container_id: String, id: String, pid: u32, exit: Exit) -> TaskExit {
    TaskExit { container_id, id, pid, exit_status: exit.status, exited_at: Some(time::wire(exit.at)) }
}

/// containerd names types by their names alone.
fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("containerd.events.{name}"), value: message.encode_to_vec() }
}
