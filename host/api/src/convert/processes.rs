//! Tasks and processes as the three older interfaces tell them. All of them name a process by its pid in the guest.

use std::path::PathBuf;

use theca_controller::node::Error;
use theca_controller::node::task::{Phase, Process, Task};
use theca_controller::node::values::{Command, Io, Mount, Payload, User};
use theca_proto::containerd::v1 as execution;
use theca_proto::containerd::v1::types as tasks;
use theca_proto::types as api;

use super::payload::any;

/// A bundle's folder that a request names.
pub fn bundle(path: String) -> Result<PathBuf, Error> {
    if path.is_empty() {
        return Err(Error::Invalid("empty bundle path: name a folder with a config.json".into()));
    }
    if !path.starts_with('/') {
        return Err(Error::Invalid(format!("the bundle path {path:?} is not absolute: begin it with a /")));
    }
    Ok(path.into())
}

/// Input and output that a request names.
pub fn io(terminal: bool, stdin: String, stdout: String, stderr: String) -> Io {
    Io { terminal, stdin, stdout, stderr }
}

/// Mounts of a root file system.
pub fn rootfs(mounts: Vec<tasks::Mount>) -> Vec<Mount> {
    let mount = |mount: tasks::Mount| Mount {
        kind: mount.r#type,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    };
    mounts.into_iter().map(mount).collect()
}

/// A task, for Tasks of 2017.
pub fn task(task: Task, spec: Option<Payload>) -> tasks::Task {
    let id = task.container.to_string();
    let Process { pid, phase, io, .. } = task.init;
    tasks::Task {
        id: id.clone(),
        container_id: id,
        pid,
        status: status(phase).into(),
        spec: spec.map(any),
        stdin: io.stdin,
        stdout: io.stdout,
        stderr: io.stderr,
        terminal: io.terminal,
    }
}

/// A process, for Tasks of 2017.
pub fn process(process: Process) -> tasks::Process {
    let Process { pid, phase, exit, io, command, .. } = process;
    let Command { args, env, cwd, user } = command;
    let user = tasks::User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids };
    tasks::Process {
        pid,
        args,
        env,
        user: Some(user),
        cwd,
        terminal: io.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        status: status(phase).into(),
        runtime_data: None,
        stdin: io.stdin,
        stdout: io.stdout,
        stderr: io.stderr,
    }
}

fn status(phase: Phase) -> tasks::Status {
    match phase {
        Phase::Created => tasks::Status::Created,
        Phase::Running => tasks::Status::Running,
        Phase::Paused => tasks::Status::Paused,
        Phase::Stopped => tasks::Status::Stopped,
    }
}

/// A container, for ExecutionService.
pub fn execution_container(task: &Task) -> execution::Container {
    let status = match task.init.phase {
        Phase::Created => execution::Status::Created,
        Phase::Running => execution::Status::Running,
        Phase::Paused => execution::Status::Paused,
        Phase::Stopped => execution::Status::Stopped,
    };
    execution::Container {
        id: task.container.to_string(),
        bundle: task.bundle.display().to_string(),
        status: status.into(),
    }
}

/// A process, for ExecutionService.
pub fn execution_process(process: Process) -> execution::Process {
    let Process { pid, exit, io, command, .. } = process;
    let Command { args, env, cwd, user } = command;
    let user = execution::User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids };
    execution::Process {
        pid,
        args,
        env,
        user: Some(user),
        cwd,
        terminal: io.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
    }
}

/// What ExecutionService's StartProcess asks for. Without a user: root.
pub fn execution_command(process: execution::Process) -> Command {
    let user = process.user.unwrap_or_default();
    Command {
        args: process.args,
        env: process.env,
        cwd: process.cwd,
        user: User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids },
    }
}

/// A container with its processes that live, for `types.API`. It has no word for one that waits for its start: nothing of it
/// runs, so it counts as stopped.
pub fn api_container(task: &Task, processes: Vec<Process>) -> api::Container {
    let status = match task.init.phase {
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Created | Phase::Stopped => "stopped",
    };
    let alive = |process: &Process| matches!(process.phase, Phase::Running | Phase::Paused);
    api::Container {
        id: task.container.to_string(),
        name: String::new(),
        bundle_path: task.bundle.display().to_string(),
        processes: processes.into_iter().filter(alive).map(api_process).collect(),
        status: status.into(),
    }
}

fn api_process(process: Process) -> api::Process {
    let Process { pid, io, command, .. } = process;
    let Command { args, env, cwd, user } = command;
    let user = api::User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids };
    api::Process { pid, terminal: io.terminal, user: Some(user), args, env, cwd }
}

/// What `types.API`'s AddProcess asks for. Without a user: root.
pub fn api_command(args: Vec<String>, env: Vec<String>, cwd: String, user: Option<api::User>) -> Command {
    let user = user.unwrap_or_default();
    let user = User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids };
    Command { args, env, cwd, user }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use theca_controller::node::values::Exit;

    use super::*;

    fn shell(phase: Phase) -> Process {
        let user = User { uid: 5, gid: 6, additional_gids: vec![7] };
        Process {
            exec: None,
            pid: 41,
            phase,
            exit: (phase == Phase::Stopped).then_some(Exit { status: 3, at: SystemTime::now() }),
            io: Io { stdout: "/out".into(), ..Io::default() },
            command: Command { args: vec!["sh".into()], env: vec!["A=1".into()], cwd: "/srv".into(), user },
        }
    }

    fn web(phase: Phase) -> Task {
        Task {
            container: "web".parse().unwrap(),
            sandbox: "pod".parse().unwrap(),
            bundle: "/bundles/web".into(),
            init: shell(phase),
            created_at: SystemTime::now(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn a_bundle_is_an_absolute_path() {
        assert_eq!(bundle("/b".into()).unwrap(), PathBuf::from("/b"));
        assert!(bundle(String::new()).unwrap_err().to_string().starts_with("empty bundle path"));
        assert!(bundle("b".into()).unwrap_err().to_string().contains("not absolute"));
    }

    #[test]
    fn a_phase_has_another_number_in_each_generation() {
        let numbers = |phase| (task(web(phase), None).status, execution_container(&web(phase)).status);
        assert_eq!(numbers(Phase::Created), (1, 0));
        assert_eq!(numbers(Phase::Running), (2, 1));
        assert_eq!(numbers(Phase::Stopped), (3, 2));
        assert_eq!(numbers(Phase::Paused), (4, 3));
    }

    #[test]
    fn a_process_tells_what_it_runs_and_how_it_ended() {
        let ended = process(shell(Phase::Stopped));
        assert_eq!((ended.pid, ended.exit_status, ended.cwd.as_str()), (41, 3, "/srv"));
        assert_eq!(ended.user.unwrap().additional_gids, [7]);
        let ended = execution_process(shell(Phase::Stopped));
        assert_eq!((ended.pid, ended.exit_status, ended.args), (41, 3, vec!["sh".to_owned()]));
    }

    #[test]
    fn the_first_interface_lists_processes_while_they_live() {
        let processes = || vec![shell(Phase::Running), shell(Phase::Stopped), shell(Phase::Created)];
        let container = api_container(&web(Phase::Running), processes());
        assert_eq!((container.status.as_str(), container.processes.len()), ("running", 1));
        assert_eq!(api_container(&web(Phase::Stopped), Vec::new()).status, "stopped");
    }

    #[test]
    fn a_process_without_a_user_is_roots() {
        assert_eq!(api_command(Vec::new(), Vec::new(), String::new(), None).user, User::default());
        assert_eq!(execution_command(execution::Process::default()).user, User::default());
    }
}
