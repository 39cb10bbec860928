//! Running the programs of a spec's `hooks`.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Result;
use super::job::Hook;
use crate::process::handshake::{Attempt, Failure};

/// How often a hook with a timeout is looked after.
const STEP: Duration = Duration::from_millis(5);

/// Runs hooks one after another. The first that fails ends it.
pub fn run_all(hooks: &[Hook]) -> Result<()> {
    hooks.iter().try_for_each(|hook| run(hook, &hook.state))
}

/// The same for hooks of the process that becomes a container's init: to them it has the pid that it has to itself.
pub fn run_in_container(hooks: &[Hook]) -> Result<()> {
    for hook in hooks {
        let mut state: Value = serde_json::from_str(&hook.state)
            .map_err(|error| Failure::new(action(hook), format!("its state is no JSON: {error}")))?;
        state["pid"] = std::process::id().into();
        run(hook, &state.to_string())?;
    }
    Ok(())
}

fn action(hook: &Hook) -> String {
    format!("run the {} hook {}", hook.point, hook.path.display())
}

fn run(hook: &Hook, state: &str) -> Result<()> {
    let action = || action(hook);
    let (name, args) = hook.args.split_first().ok_or_else(|| Failure::new(action(), "it has no name"))?;
    let env = hook.env.iter().filter_map(|variable| variable.split_once('='));
    let mut child = Command::new(&hook.path)
        .arg0(name)
        .args(args)
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .attempt(action)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(state.as_bytes()) {
            // A hook need not read its state.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).attempt(action),
            _ => {}
        }
    }
    match wait(&mut child, hook.timeout).attempt(action)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Failure::new(action(), status.to_string())),
        None => Err(Failure::new(action(), "it took longer than its timeout")),
    }
}

/// Waits for a child; one that outlives its timeout is killed.
fn wait(child: &mut Child, timeout: Option<u64>) -> std::io::Result<Option<ExitStatus>> {
    let Some(timeout) = timeout else { return child.wait().map(Some) };
    let deadline = Instant::now() + Duration::from_secs(timeout);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(STEP);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
