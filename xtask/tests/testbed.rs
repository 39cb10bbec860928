//! What `cargo xtask testbed run` promises, of the real thing: each test boots a test host.
//!
//! They want the programs to be built, so it is `cargo xtask test` that runs them.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// `testbed run FLAGS -- sh -c SCRIPT`, with `input` on stdin.
fn run(flags: &[&str], script: &str, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["testbed", "run", "--no-build", "--memory", "1024"]).args(flags);
    command.args(["--", "sh", "-c", script]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("failed to start xtask");
    let mut stdin = child.stdin.take().expect("there is a pipe");
    // One that fails before it reads says why itself.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("failed to wait for xtask")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn streams_are_apart_and_the_exit_code_is_the_commands_own() {
    let output = run(&[], "sort; echo aside >&2; exit 42", "pear\napple\nfig\n");
    assert_eq!(text(&output.stdout), "apple\nfig\npear\n");
    assert_eq!(text(&output.stderr), "aside\n");
    assert_eq!(output.status.code(), Some(42));
}

#[test]
fn a_command_is_root_with_the_programs_on_its_path_and_a_kernel_that_boots() {
    let script = "sh -c 'kill -INT $$'; echo $?; set -e
        id -u; pwd; theca check; command -v thecad; command -v theca-vmm";
    let output = run(&[], script, "");
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.starts_with("130\n0\n/root\n"), "{told}");
    assert!(told.contains("/thecad\n") && told.contains("/theca-vmm\n"), "{told}");
}

#[test]
fn files_go_in_and_results_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let (given, result) = (folder.path().join("given"), folder.path().join("result"));
    fs::create_dir(&given).unwrap();
    fs::write(given.join("word"), "whisper").unwrap();
    let with = format!("{}:/srv/in", given.display());
    let out = format!("/var/tmp/loud:{}", result.display());
    let output = run(&["--with", &with, "--out", &out], "tr a-z A-Z </srv/in/word >/var/tmp/loud", "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(result).unwrap(), "WHISPER");
}

#[test]
fn a_result_that_is_not_there_is_an_error_only_of_a_command_that_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let out = format!("/var/tmp/never:{}", folder.path().join("never").display());
    let output = run(&["--out", &out], "exit $(cat)", "0");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("/var/tmp/never"), "{}", text(&output.stderr));
    assert_eq!(run(&["--out", &out], "exit $(cat)", "3").status.code(), Some(3));
}

#[test]
fn time_that_is_up_ends_the_host_and_is_told() {
    let output = run(&["--timeout", "15"], "echo begun; exec sleep 1000", "");
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(text(&output.stdout), "begun\n");
    assert!(text(&output.stderr).contains("was stopped after 15 s (--timeout)"), "{}", text(&output.stderr));
}

#[test]
fn a_clock_that_counts_instructions_gives_the_same_time_again() {
    let script = "before=$(cut -d' ' -f1 /proc/uptime); i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done
        echo $before $(cut -d' ' -f1 /proc/uptime); grep -c ^processor /proc/cpuinfo; kill -9 $$";
    let took = || {
        let output = run(&["--icount"], script, "");
        assert_eq!(output.status.code(), Some(128 + 9), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        let numbers: Vec<f64> = told.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert_eq!(numbers[2], 1.0, "one processor");
        numbers[1] - numbers[0]
    };
    let (one, other) = (took(), took());
    assert!(one > 0.1 && (one - other).abs() <= 0.03 * one, "{one} s, then {other} s");
}

#[test]
fn what_cannot_be_copied_in_is_said_before_anything_starts() {
    let output = run(&["--with", "no/such/file"], "true", "");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("no/such/file"), "{}", text(&output.stderr));
}
