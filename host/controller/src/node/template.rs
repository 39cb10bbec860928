//! What the older interfaces leave to a container's bundle: whether its init has a terminal, and everything about an added
//! process but its command. They name arguments, environment, folder and user; capabilities, limits and the like are its
//! init's.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::task::{Task, unreadable};
use super::values::{Command, Payload};
use super::{Error, Node, Result};
use crate::bundle::Bundle;
use crate::id::{ContainerId, Namespace};

/// The type of the payload that [`Node::task_spec`] answers.
pub const OCI_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

impl Node {
    /// Whether the init that a bundle describes has a terminal.
    pub async fn bundle_terminal(&self, bundle: &Path) -> Result<bool> {
        let init = init_of(bundle.to_owned()).await?;
        Ok(init.get("terminal").and_then(Value::as_bool).unwrap_or(false))
    }

    /// An OCI `Process` as JSON that runs `command` and is as the container's init otherwise. An environment or a folder that
    /// is empty is init's too.
    pub async fn process_like_init(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        command: Command,
        terminal: bool,
    ) -> Result<Vec<u8>> {
        if command.args.first().is_none_or(String::is_empty) {
            return Err(Error::Invalid("the process has no arguments: the first one is its program".into()));
        }
        let task = self.task(namespace, id).await?;
        let init = init_of(task.bundle).await?;
        Ok(like(init, command, terminal).to_string().into_bytes())
    }

    /// The specification that a task was made of, as JSON: its bundle's.
    pub async fn task_spec(&self, task: &Task) -> Result<Payload> {
        let value = read(task.bundle.clone()).await?.into_json();
        Ok(Payload { type_url: OCI_SPEC.into(), value })
    }
}

/// The `process` section of a bundle's `config.json`; empty without one.
async fn init_of(bundle: PathBuf) -> Result<Map<String, Value>> {
    let init = read(bundle).await?.into_process();
    Ok(serde_json::from_slice(&init).unwrap_or_default())
}

/// Reads a bundle on a thread that may block.
async fn read(bundle: PathBuf) -> Result<Bundle> {
    match tokio::task::spawn_blocking(move || Bundle::read(&bundle)).await {
        Ok(read) => read.map_err(unreadable),
        Err(lost) => Err(Error::Internal(format!("reading a bundle failed: {lost}"))),
    }
}

fn like(mut init: Map<String, Value>, command: Command, terminal: bool) -> Value {
    let Command { args, env, cwd, user } = command;
    init.insert("terminal".into(), json!(terminal));
    init.remove("consoleSize");
    init.insert("args".into(), json!(args));
    if !env.is_empty() {
        init.insert("env".into(), json!(env));
    }
    if !cwd.is_empty() {
        init.insert("cwd".into(), json!(cwd));
    }
    init.entry("cwd").or_insert_with(|| json!("/"));
    let user = json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids});
    init.insert("user".into(), user);
    Value::Object(init)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::values::User;

    fn init() -> Map<String, Value> {
        let init = json!({
            "args": ["httpd"], "env": ["A=1"], "cwd": "/srv", "terminal": true, "consoleSize": {"height": 1, "width": 2},
            "user": {"uid": 9, "gid": 9, "umask": 18},
            "capabilities": {"bounding": ["CAP_KILL"]}, "noNewPrivileges": true,
        });
        init.as_object().unwrap().clone()
    }

    #[test]
    fn an_added_process_has_the_limits_of_init_and_a_command_of_its_own() {
        let user = User { uid: 5, gid: 6, additional_gids: vec![7] };
        let command = Command { args: vec!["id".into()], env: vec!["B=2".into()], cwd: "/tmp".into(), user };
        let process = like(init(), command, false);
        assert_eq!(
            process,
            json!({
                "args": ["id"], "env": ["B=2"], "cwd": "/tmp", "terminal": false,
                "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
                "capabilities": {"bounding": ["CAP_KILL"]}, "noNewPrivileges": true,
            })
        );
    }

    #[test]
    fn what_the_command_leaves_out_is_inits() {
        let process = like(init(), Command { args: vec!["id".into()], ..Command::default() }, false);
        assert_eq!((&process["env"], &process["cwd"]), (&json!(["A=1"]), &json!("/srv")));
        assert_eq!(process["user"]["uid"], 0);
        assert_eq!(like(Map::new(), Command::default(), false)["cwd"], "/");
    }
}
