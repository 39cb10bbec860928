//! Running the programs of a spec's `hooks`.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Result;
use super::job::Hook;
use crate::process::handshake::{Attempt, Failure};

/// How often a hook with a timeout is looked after.
const STEP: Duration = Duration::from_millis(5);

/// Runs hooks one after another. The first that fails ends it.
pub fn run_all(hooks: &[Hook]) -> Result<()> {
    hooks.iter().try_for_each(run)
}

fn run(hook: &Hook) -> Result<()> {
    let action = || format!("run the hook {}", hook.path.display());
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
        match stdin.write_all(hook.state.as_bytes()) {
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
