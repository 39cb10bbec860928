//! Starting a keeper: `start` forks it off, prints where it listens and ends.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use prost::Message;
use prost_types::Any;
use theca_controller::node::keeper::{KeeperError, Launch};
use theca_controller::node::values::Mount;
use theca_proto::theca::keeper::v1::{Disk, SandboxOptions};
use theca_proto::type_url;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::convert::options::allowance_wire;

/// The keeper, under the name by which containerd finds it.
const KEEPER: &str = "containerd-shim-theca-v2";
/// How much of what a keeper complains is passed on.
const LONGEST_COMPLAINT: usize = 4096;

/// The keeper's program is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{KEEPER} is neither beside this program nor on the PATH: install it there, or name it in THECA_KEEPER"
)]
pub struct NoKeeperProgram;

/// The keeper's program: `THECA_KEEPER`, else beside this program, else on the PATH.
pub fn program() -> Result<PathBuf, NoKeeperProgram> {
    if let Some(named) = env::var_os("THECA_KEEPER").filter(|path| !path.is_empty()) {
        return Ok(named.into());
    }
    let own = env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = own.into_iter().chain(env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(KEEPER)).filter(|path| path.is_file())).ok_or(NoKeeperProgram)
}

/// Runs `start` and waits for its end; the keeper listens then.
pub async fn start(program: &Path, state: &Path, root: &Path, launch: Launch) -> Result<(), KeeperError> {
    let failed = |what: &str, error: std::io::Error| {
        KeeperError::Spawn(format!("failed to {what} {}: {error}", program.display()))
    };
    let mut child = Command::new(program)
        .args(["-namespace", launch.namespace.as_str(), "-id", launch.sandbox.as_str(), "start"])
        .current_dir(&launch.bundle)
        .env("THECA_STATE", state)
        .env("THECA_ROOT", root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("run", error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it reads says why on its standard error.
        match stdin.write_all(&options(&launch)).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(failed("give options to", error));
            }
            _ => {}
        }
    }
    let output = child.wait_with_output().await.map_err(|error| failed("wait for", error))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.trim().chars().take(LONGEST_COMPLAINT).collect();
    Err(KeeperError::Spawn(match complaint.is_empty() {
        true => format!("{} ended with {}", program.display(), output.status),
        false => complaint,
    }))
}

/// The `Any` that `start` reads.
fn options(launch: &Launch) -> Vec<u8> {
    let disks = launch.one_task.iter().flatten().filter_map(disk).collect();
    let options = SandboxOptions {
        vcpus: launch.vcpus,
        memory_mib: launch.memory_mib,
        allowance: Some(allowance_wire(launch.allowance)),
        kernel_cmdline: launch.kernel_args.join(" "),
        disks,
        one_task: launch.one_task.is_some(),
        hold: launch.one_task.is_none(),
        ..SandboxOptions::default()
    };
    Any { type_url: type_url::SANDBOX_OPTIONS.to_owned(), value: options.encode_to_vec() }.encode_to_vec()
}

/// The disk that a mount of a root is, if it is one.
fn disk(mount: &Mount) -> Option<Disk> {
    let read_only = match mount.kind.as_str() {
        "erofs" => true,
        "ext4" => false,
        _ => return None,
    };
    Some(Disk { path: mount.source.clone(), read_only })
}

#[cfg(test)]
mod tests {
    use theca_controller::node::keeper::Keepers;

    use super::*;
    use crate::keeper_client::HostKeepers;

    fn launch(one_task: Option<Vec<Mount>>) -> Launch {
        Launch {
            namespace: "tests".parse().unwrap(),
            sandbox: "web".parse().unwrap(),
            bundle: "/".into(),
            vcpus: 2,
            memory_mib: 512,
            allowance: Default::default(),
            kernel_args: vec!["a=b".into(), "c".into()],
            one_task,
        }
    }

    fn decoded(launch: &Launch) -> SandboxOptions {
        let any = Any::decode(options(launch).as_slice()).unwrap();
        assert_eq!(any.type_url, type_url::SANDBOX_OPTIONS);
        SandboxOptions::decode(any.value.as_slice()).unwrap()
    }

    #[test]
    fn a_sandbox_for_many_is_held_and_one_for_a_single_task_gets_its_disks() {
        let held = decoded(&launch(None));
        assert!(held.hold && !held.one_task && held.disks.is_empty());
        assert_eq!((held.vcpus, held.memory_mib, held.kernel_cmdline.as_str()), (2, 512, "a=b c"));
        let mount = |kind: &str| Mount { kind: kind.into(), source: format!("/{kind}"), ..Mount::default() };
        let single = decoded(&launch(Some(vec![mount("erofs"), mount("ext4"), mount("bind")])));
        assert!(!single.hold && single.one_task);
        let disks: Vec<_> = single.disks.iter().map(|disk| (disk.path.as_str(), disk.read_only)).collect();
        assert_eq!(disks, [("/erofs", true), ("/ext4", false)]);
    }

    #[tokio::test]
    async fn what_a_keeper_complains_is_the_error() {
        let state = tempfile::tempdir().unwrap();
        let program = state.path().join("keeper");
        std::fs::write(&program, "#!/bin/sh\necho no room in $THECA_ROOT >&2\nexit 1\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let keepers = HostKeepers::new(program, state.path().to_owned(), "/data".into());
        let Err(error) = keepers.spawn(launch(None)).await else { panic!("it ended with 1") };
        assert_eq!(error.to_string(), "failed to start the sandbox's keeper: no room in /data");
    }

    #[tokio::test]
    async fn where_no_keeper_is_there_is_nothing_to_connect_to_or_to_clear() {
        let state = tempfile::tempdir().unwrap();
        let keepers = HostKeepers::new("/none".into(), state.path().to_owned(), "/data".into());
        let (namespace, id) = ("tests".parse().unwrap(), "web".parse().unwrap());
        assert!(keepers.connect(&namespace, &id).await.unwrap().is_none());
        keepers.clear(&namespace, &id).await.unwrap();
        assert_eq!(keepers.last_words(&namespace, &id).await, "");
        assert!(keepers.address(&namespace, &id).ends_with("/tests/web/keeper.sock"));
    }
}
