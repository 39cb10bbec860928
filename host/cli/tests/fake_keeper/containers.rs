//! Containers over several commands: detached ones, exec, attach, logs, lists, and tidying up after the dead.

use std::io::{Read, Write};
use std::process::Stdio;

use super::fake::{Done, Fake, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A detached container that runs until it is stopped.
fn sleeping(fake: &Fake, flags: &[&str]) -> String {
    let done = fake.run(&[&["-d"], flags].concat(), &["sh", "-c", "echo begun; exec sleep 60"]);
    assert_eq!(done.code, 0, "{}", done.err);
    done.out.trim().to_owned()
}

#[test]
fn a_detached_container_runs_until_it_is_stopped() {
    let fake = Fake::new();
    let id = sleeping(&fake, &["--name", "web", "--label", "tier=front"]);
    assert_eq!(id.len(), 64);
    let listed = fake.theca(&["ps", "--format", "{{.ID}} {{.Names}} {{.State}}"]).out;
    assert_eq!(listed, format!("{} web running\n", &id[..12]));
    assert_eq!(
        fake.theca(&["ps", "-q", "--no-trunc", "--filter", "label=tier=front"]).out,
        format!("{id}\n")
    );
    assert_eq!(fake.theca(&["stop", "-t", "5", "web"]).out, "web\n");
    assert_eq!(fake.theca(&["ps", "-q"]).out, "");
    let listed = fake.theca(&["ps", "-a"]).out;
    assert!(listed.contains("Exited (143)"), "{listed}");
    assert_eq!(fake.theca(&["rm", "web"]).code, 0);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn a_stop_whose_signal_the_guest_does_not_take_kills() {
    let fake = Fake::new();
    sleeping(&fake, &["--name", "web"]);
    assert_eq!(fake.theca(&["stop", "-s", "PWR", "-t", "3600", "web"]).out, "web\n");
    let listed = fake.theca(&["ps", "-a"]).out;
    assert!(listed.contains("Exited (137)"), "{listed}");
}

#[test]
fn exec_runs_beside_init_with_its_own_exit_code() {
    let fake = Fake::new();
    sleeping(&fake, &["--name", "web", "-e", "A=1"]);
    let done = fake.theca(&["exec", "-e", "B=2", "web", "sh", "-c", "echo $A $B; exit 9"]);
    assert_eq!((done.code, done.out.as_str()), (9, "1 2\n"));
    let mut child = fake
        .command(&["exec", "-i", "web", "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"12345").unwrap();
    assert_eq!(Done::of(child.wait_with_output().unwrap()).out.trim(), "5");
    assert_eq!(fake.theca(&["exec", "web", "no-such-command"]).code, 127);
    assert_eq!(fake.theca(&["exec", "web", "/etc/passwd"]).code, 126);
    assert_eq!(fake.theca(&["exec", "-d", "web", "true"]).code, 0);
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
}

#[test]
fn attach_joins_output_and_ends_with_the_container() {
    let fake = Fake::new();
    let script = "read word; echo got $word; exit 5";
    assert_eq!(fake.run(&["-d", "-i", "--name", "web"], &["sh", "-c", script]).code, 0);
    let mut child =
        fake.command(&["attach", "web"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"it\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "got it\n");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(fake.theca(&["inspect", "-f", "{{.State.ExitCode}}", "web"]).out, "5\n");
}

#[test]
fn logs_tell_what_was_written() {
    let fake = Fake::new();
    assert_eq!(
        fake.run(&["--name", "web"], &["sh", "-c", "echo one; echo two >&2; sleep 0.2; echo three"]).code,
        0
    );
    let done = fake.theca(&["logs", "web"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("one\nthree\n", "two\n"));
    assert_eq!(
        fake.theca(&["logs", "--tail", "1", "-t", "web"]).out,
        "2026-08-01T12:00:00.000000000Z three\n"
    );
    assert_eq!(fake.theca(&["logs", "--since", "2027-01-01", "web"]).out, "");
    assert_eq!(fake.theca(&["console", "web"]).out, "Linux version 6.12\n", "kept when it ended");
    let followed = fake.theca(&["logs", "-f", "web"]);
    assert_eq!((followed.code, followed.out.as_str()), (0, "one\nthree\n"));
}

#[test]
fn following_a_log_ends_with_its_reader() {
    let fake = Fake::new();
    // One goes on to write, the other falls silent.
    for (name, then) in [("loud", "while :; do echo more; sleep 0.05; done"), ("silent", "exec sleep 60")] {
        let script = format!("echo begun; {then}");
        assert_eq!(fake.run(&["-d", "--name", name], &["sh", "-c", &script]).code, 0);
        let mut child = fake.command(&["logs", "-f", name]).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 6]).unwrap();
        drop(stdout);
        eventually("the command ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(fake.theca(&["rm", "-f", name]).code, 0);
    }
}

#[test]
fn wait_tells_exit_statuses_before_and_after_the_end() {
    let fake = Fake::new();
    let done = fake.run(&["-d", "--name", "web"], &["sh", "-c", "sleep 0.2; exit 3"]);
    assert_eq!(done.code, 0, "{}", done.err);
    for _ in 0..2 {
        assert_eq!(fake.theca(&["wait", "web"]).out, "3\n");
    }
}

#[test]
fn pause_and_resume_are_seen() {
    let fake = Fake::new();
    sleeping(&fake, &["--name", "web"]);
    let state = || fake.theca(&["inspect", "-f", "{{.State.Status}}", "web"]).out;
    assert_eq!(fake.theca(&["pause", "web"]).code, 0);
    assert_eq!(state(), "paused\n");
    for (command, says) in [
        (&["exec", "web", "true"][..], "theca resume web"),
        (&["start", "web"], "theca resume web"),
        (&["pause", "web"], "web is paused already"),
    ] {
        let refused = fake.theca(command);
        assert!(refused.code == 125 && refused.err.contains(says), "{}", refused.err);
    }
    assert_eq!(fake.theca(&["unpause", "web"]).code, 0);
    assert_eq!(state(), "running\n");
    assert!(fake.theca(&["resume", "web"]).err.contains("web is not paused"));
    assert_eq!(fake.theca(&["start", "web"]).out, "web\n", "as wanted already");
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
}

#[test]
fn a_created_container_can_be_started_again_and_again() {
    let fake = Fake::new();
    let rootfs = fake.rootfs();
    let created = fake.theca(&[
        "create",
        "--read-only",
        "--rootfs",
        &rootfs,
        "--name",
        "job",
        "sh",
        "-c",
        "echo done; exit 2",
    ]);
    assert_eq!((created.code, created.out.trim().len()), (0, 64), "{}", created.err);
    assert_eq!(fake.theca(&["inspect", "-f", "{{.State.Status}}", "job"]).out, "created\n");
    for _ in 0..2 {
        let done = fake.theca(&["start", "-a", "job"]);
        assert_eq!((done.code, done.out.as_str()), (2, "done\n"), "{}", done.err);
    }
    assert_eq!(fake.theca(&["start", "job"]).out, "job\n");
    assert_eq!(fake.theca(&["wait", "job"]).out, "2\n");
    assert_eq!(fake.theca(&["rm", "job"]).code, 0);
}

#[test]
fn inspect_shows_the_sandbox_of_a_running_container() {
    let fake = Fake::new();
    let id = sleeping(&fake, &["--name", "web"]);
    let all: serde_json::Value = serde_json::from_str(&fake.theca(&["inspect", "web"]).out).unwrap();
    assert_eq!(all[0]["Id"], id.as_str());
    assert_eq!(all[0]["State"]["Running"], true);
    assert_eq!(all[0]["Sandbox"]["vmm_pid"], 12);
    assert_eq!(all[0]["Sandbox"]["phases"][0]["name"], "agent_ready");
    assert_eq!(fake.theca(&["console", "web"]).out, "Linux version 6.12\n");
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
}

#[test]
fn a_running_container_is_only_removed_by_force() {
    let fake = Fake::new();
    sleeping(&fake, &["--name", "web"]);
    let refused = fake.theca(&["rm", "web"]);
    assert!(refused.code == 125 && refused.err.contains("theca rm -f web"), "{}", refused.err);
    assert_eq!(fake.theca(&["rm", "-f", "web", "nobody"]).code, 0);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn the_keeper_s_own_call_tidies_up() {
    let fake = Fake::new();
    let id = fake.run(&["-d", "--rm"], &["sleep", "0.5"]).out.trim().to_owned();
    eventually("it has ended", || fake.ledger(|ledger| ledger.processes[""].ended().is_some()));
    assert_eq!(fake.theca(&["reap", &id]).code, 0);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
    assert_eq!(fake.theca(&["reap", &id]).code, 0, "twice is fine");
}

#[test]
fn a_container_whose_command_is_killed_goes_on_and_can_be_attached_to() {
    let fake = Fake::new();
    let script =
        "echo ready; read word; head -c 1000000 /dev/zero; echo; echo over; read word; echo $word; exit 3";
    let mut child = fake
        .run_command(&["-i", "--name", "web"], &["sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    // Until that is on record, the end of the command undoes it all.
    eventually("it is known to run", || fake.theca(&["inspect", "web"]).out.contains("\"StartedAt\": \"20"));
    child.kill().unwrap();
    child.wait().unwrap();
    let attached = |words: &[u8], stdout: Stdio| {
        let mut child =
            fake.command(&["attach", "web"]).stdin(Stdio::piped()).stdout(stdout).spawn().unwrap();
        child.stdin.take().unwrap().write_all(words).unwrap();
        child
    };
    let mut first = attached(b"go\n", Stdio::null());
    eventually("it writes all of it", || fake.theca(&["logs", "--tail", "1", "web"]).out.contains("over"));
    first.kill().unwrap();
    first.wait().unwrap();
    let done = Done::of(attached(b"bye\n", Stdio::piped()).wait_with_output().unwrap());
    assert_eq!((done.code, done.out.as_str()), (3, "bye\n"));
    assert_eq!(fake.theca(&["rm", "web"]).code, 0);
}

#[test]
fn the_next_command_tidies_up_after_a_killed_run() {
    let fake = Fake::new();
    let mut child = fake
        .run_command(&["--rm"], &["sh", "-c", "echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    // What a keeper does whose starter died: it ends, and its run folder goes.
    fake.ledger(|ledger| ledger.processes[""].kill(9));
    eventually("it has ended", || fake.ledger(|ledger| ledger.processes[""].ended().is_some()));
    assert_eq!(fake.theca(&["ps", "-aq"]).out, "");
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn a_container_whose_keeper_died_is_seen_as_ended() {
    let mut fake = Fake::new();
    sleeping(&fake, &["--name", "web"]);
    fake.kill_keeper();
    let listed = fake.theca(&["ps", "-a", "--format", "{{.State}} {{.ExitCode}}"]);
    assert_eq!(listed.out, "exited 137\n");
    let why = fake.theca(&["inspect", "-f", "{{.State.Error}}", "web"]).out;
    assert!(why.contains("keeper was killed"), "{why}");
    assert_eq!(fake.theca(&["rm", "web"]).code, 0);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

/// An image without layers as an OCI layout.
fn layout(folder: &std::path::Path) -> String {
    let blobs = folder.join("layout/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |json: serde_json::Value| {
        let bytes = json.to_string().into_bytes();
        let digest = theca_image::Digest::of(&bytes);
        std::fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (config, config_size) = put(serde_json::json!({
        "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}
    }));
    let (manifest, manifest_size) = put(serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size}
    }));
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size}
    ]});
    std::fs::write(folder.join("layout/index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    folder.join("layout").display().to_string()
}

#[test]
fn a_container_keeps_its_disk_when_its_image_is_removed_by_force() {
    let fake = Fake::new();
    let done = fake.theca(&["image", "import", "--name", "base", &layout(fake.path())]);
    assert_eq!(done.code, 0, "{}", done.err);
    let created = fake.theca(&["create", "--read-only", "--name", "web", "base", "echo", "on"]);
    assert_eq!(created.code, 0, "{}", created.err);
    assert_eq!(fake.theca(&["image", "rm", "base"]).code, 125, "it is used");
    assert_eq!(fake.theca(&["image", "rm", "-f", "base"]).code, 0);
    let started = fake.theca(&["start", "-a", "web"]);
    assert_eq!((started.code, started.out.as_str()), (0, "on\n"), "{}", started.err);
    let disk = fake.path().join("r/containers").join(created.out.trim()).join("image.erofs");
    assert!(disk.exists());
    let options = String::from_utf8_lossy(&fake.start_options()).into_owned();
    assert!(options.contains(&disk.display().to_string()), "the VM boots from it");

    std::fs::remove_file(&disk).unwrap();
    let lost = fake.theca(&["start", "web"]);
    assert!(lost.code != 0 && lost.err.contains("`theca image pull base`"), "{}", lost.err);
    assert_eq!(fake.theca(&["rm", "web"]).code, 0);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn sizes_and_files_that_cannot_be_are_refused_with_advice() {
    let fake = Fake::new();
    for (flag, value, advice) in [
        ("--storage-size", "99999g", "at most 15t"),
        ("--cidfile", "/nowhere/x", "in a folder that is there"),
    ] {
        let done = fake.run(&[flag, value], &["true"]);
        assert!(done.code == 125 && done.err.contains(advice), "{}", done.err);
    }
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}
