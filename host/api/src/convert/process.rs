//! A process with what it was made of: the keeper's own form.

use serde::Deserialize;
use theca_controller::task::ProcessDetail;
use theca_proto::containerd::v1::types::User;
use theca_proto::theca::keeper::v1::Process;

use super::task::{status, target};
use super::time;

/// What is told of an OCI `Process`; nothing of one that is not as it should be.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Description {
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    user: DescribedUser,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DescribedUser {
    uid: u32,
    gid: u32,
    additional_gids: Vec<u32>,
}

/// As the keeper answers it.
pub fn wire(process: ProcessDetail) -> Process {
    let ProcessDetail { exec, guest_pid, phase, exit, io, spec } = process;
    let Description { args, env, cwd, user } = serde_json::from_slice(&spec).unwrap_or_default();
    Process {
        exec_id: exec.map(|exec| exec.to_string()).unwrap_or_default(),
        pid: guest_pid,
        status: status(phase).into(),
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.map(|exit| time::wire(exit.at)),
        terminal: io.terminal,
        stdin: target(io.stdin.as_ref()),
        stdout: target(io.stdout.as_ref()),
        stderr: target(io.stderr.as_ref()),
        args,
        env,
        cwd,
        user: Some(User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids }),
    }
}

#[cfg(test)]
mod tests {
    use theca_controller::task::state::Phase;
    use theca_controller::task::stdio::IoRequest;
    use theca_proto::containerd::v1::types::Status;

    use super::*;

    fn detail(spec: &str) -> ProcessDetail {
        ProcessDetail {
            exec: Some("shell".parse().unwrap()),
            guest_pid: 41,
            phase: Phase::Running,
            exit: None,
            io: IoRequest { terminal: true, ..IoRequest::default() },
            spec: spec.into(),
        }
    }

    #[test]
    fn a_process_tells_what_it_was_made_of() {
        let spec = r#"{"args":["sh","-c","id"],"env":["A=1"],"cwd":"/srv","terminal":true,
                       "user":{"uid":5,"gid":6,"additionalGids":[7,8]},"x-unknown":1}"#;
        let process = wire(detail(spec));
        assert_eq!((process.exec_id.as_str(), process.pid, process.terminal), ("shell", 41, true));
        assert_eq!(process.status(), Status::Running);
        assert_eq!(
            (process.args, process.env),
            (vec!["sh".into(), "-c".into(), "id".into()], vec!["A=1".into()])
        );
        assert_eq!(process.cwd, "/srv");
        assert_eq!(process.user.unwrap(), User { uid: 5, gid: 6, additional_gids: vec![7, 8] });
    }

    #[test]
    fn a_process_of_which_nothing_is_known_is_told_all_the_same() {
        for spec in ["", "{", "[]", r#"{"args":"sh"}"#] {
            let process = wire(detail(spec));
            assert_eq!((process.pid, process.args.len()), (41, 0), "{spec:?}");
        }
    }
}
