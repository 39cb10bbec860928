//! A machine that systemd boots: namespaces with a systemd of their own as process 1, the programs installed in /usr, and
//! `deploy/thecad.service`. What it changes is its own, and goes with it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use theca_tests::wait::ask_until;
use theca_tests::{Invocation, Output, Running, eventually};

const BOOT: &str = include_str!("boot.sh");
const UNIT: &str = include_str!("../../../deploy/thecad.service");
/// A boot may take so long here, and so may an orderly end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What there is of a machine that is off: its folders, and its place among the host's cgroups.
pub struct Machine {
    files: TempDir,
    cgroup: PathBuf,
}

/// A machine that runs. Dropped, all of its processes are killed.
pub struct Booted<'a> {
    machine: &'a Machine,
    host: Running,
    init: String,
}

impl Machine {
    /// One that was never on.
    pub fn new() -> Self {
        let files = tempfile::Builder::new().prefix("tt-").tempdir_in("/var/tmp").unwrap();
        fs::write(files.path().join("boot.sh"), BOOT).unwrap();
        fs::write(files.path().join("thecad.service"), UNIT).unwrap();
        let cgroup = PathBuf::from(format!("/sys/fs/cgroup/theca-test-{}.slice", std::process::id()));
        Self { files, cgroup }
    }

    /// Switches it on; it has booted when this returns.
    pub fn boot(&self) -> Booted<'_> {
        fs::create_dir_all(&self.cgroup).unwrap();
        let [script, kept, unit] =
            ["boot.sh", "kept", "thecad.service"].map(|name| self.files.path().join(name));
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.cgroup.display());
        let programs = programs();
        let mut boot = Command::new("sh");
        boot.args([
            "-c",
            &enter,
            "sh",
            "unshare",
            "--fork",
            "--pid",
            "--mount",
            "--cgroup",
            "--kill-child",
            "sh",
        ]);
        boot.args([&script, &programs, &kept, &unit]);
        let arguments: Vec<_> = boot.get_args().collect();
        let host = Invocation::new("sh", &arguments).start();
        let children = format!("/proc/{0}/task/{0}/children", host.pid());
        let init = ask_until(PATIENCE, || {
            let children = fs::read_to_string(&children).unwrap_or_default();
            children.split_whitespace().next().map(str::to_owned)
        });
        let booted = Booted { machine: self, host, init: init.expect("unshare starts systemd") };
        eventually("systemd to boot", || booted.systemctl(&["is-system-running"]).code == 0);
        booted
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Deepest first. What is not there is gone.
        let listed = Invocation::new(
            "find",
            &[self.cgroup.as_os_str(), "-depth".as_ref(), "-type".as_ref(), "d".as_ref()],
        );
        for folder in listed.run().stdout.lines() {
            let _ = fs::remove_dir(folder);
        }
        assert!(std::thread::panicking() || !self.cgroup.exists(), "a cgroup of a machine that is off stays");
    }
}

impl Booted<'_> {
    /// Runs a command in the machine, as its root.
    pub fn run(&self, command: &[&str]) -> Output {
        let within = ["--target", &self.init, "--mount", "--pid", "--cgroup", "--"];
        Invocation::new("nsenter", &[&within, command].concat()).run()
    }

    /// Runs `systemctl ARGS…`.
    pub fn systemctl(&self, args: &[&str]) -> Output {
        self.run(&[&["systemctl"], args].concat())
    }

    /// Runs `theca sandbox ARGS…`, of the programs that were installed.
    pub fn sandbox(&self, args: &[&str]) -> Output {
        self.run(&[&["/usr/bin/theca", "sandbox"], args].concat())
    }

    /// A property of thecad's unit.
    pub fn unit(&self, property: &str) -> String {
        self.systemctl(&["show", "thecad", "--value", "--property", property]).success().trim().to_owned()
    }

    /// Names of the processes of the unit, its sandboxes' included; KVM's threads of the kernel, which have no program, are left
    /// out.
    pub fn processes(&self) -> Vec<String> {
        let unit = self.machine.cgroup.join("system.slice/thecad.service");
        let list = "find \"$1\" -name cgroup.procs -exec cat {} + | while read pid; do readlink -q /proc/$pid/exe >&2 && cat /proc/$pid/comm; done";
        let mut names: Vec<_> = {
            let listed =
                Invocation::new("sh", &["-c".as_ref(), list.as_ref(), "sh".as_ref(), unit.as_os_str()]).run();
            listed.stdout.lines().map(str::to_owned).collect()
        };
        names.sort();
        names
    }

    /// What thecad has said in the journal.
    pub fn journal(&self) -> String {
        self.run(&["journalctl", "--unit", "thecad", "--output", "cat"]).success().to_owned()
    }

    /// Switches the machine off in an orderly way.
    pub fn power_off(self) {
        self.systemctl(&["poweroff"]).success();
        self.host.wait_within(PATIENCE);
    }
}

/// Where `theca` and its like are.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    folders.find(|folder| folder.join("thecad").is_file()).expect("thecad is not on the PATH")
}
