//! A keeper with no sandbox: it serves the task API and runs the container's command as an ordinary process.
//!
//! The `theca` under test starts a script in its place, which links the socket to where a keeper of that id would listen.

mod process;
mod service;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use theca_proto::containerd::task::v3::task_ttrpc;
use theca_proto::theca::keeper::v1::keeper_ttrpc;
use tokio::runtime::Runtime;
use ttrpc::r#async::Server;

pub use process::Process;
use service::Service;

/// A pair of roots with a fake keeper; all of it goes with this value.
pub struct Fake {
    folder: tempfile::TempDir,
    service: Arc<Service>,
    server: Option<Server>,
    runtime: Runtime,
}

/// What the fake keeper was asked and what it runs.
#[derive(Default)]
pub struct Ledger {
    /// Processes by exec id; the container's init has the empty one.
    pub processes: HashMap<String, Arc<Process>>,
    /// The calls, in order.
    pub calls: Vec<String>,
    /// What was given to `resize`.
    pub sizes: Vec<(u32, u32)>,
}

impl Fake {
    /// Starts serving.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("t").tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let socket = folder.path().join("k");
        let state = folder.path().join("s");
        fs::create_dir(folder.path().join("rootfs")).unwrap();
        let script = format!(
            "#!/bin/sh\ncat > {dir}/options\necho $THECA_ROOT > {dir}/data\n[ -e {dir}/broken ] && {{ cat {dir}/broken >&2; exit 1; }}\n\
             mkdir -p {state}/default/$4\nln -s {socket} {state}/default/$4/keeper.sock\n\
             echo '{{\"version\":3,\"address\":\"unix://{state}/default/'$4'/keeper.sock\",\"protocol\":\"ttrpc\"}}'\n",
            dir = folder.path().display(),
            state = state.display(),
            socket = socket.display(),
        );
        fs::write(folder.path().join("keeper"), script).unwrap();
        fs::set_permissions(folder.path().join("keeper"), fs::Permissions::from_mode(0o755)).unwrap();

        let service = Arc::new(Service::new(state));
        let server = runtime.block_on(async {
            let mut server = Server::new()
                .bind(&format!("unix://{}", socket.display()))
                .unwrap()
                .register_service(task_ttrpc::serve(service.clone()).into_services())
                .register_service(keeper_ttrpc::serve(service.clone()).into_services());
            server.start().await.unwrap();
            server
        });
        Self { folder, service, server: Some(server), runtime }
    }

    /// A folder that can be a container's root: the fake does not look into it.
    pub fn rootfs(&self) -> String {
        self.path().join("rootfs").display().to_string()
    }

    /// The folder that everything is in.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The `theca` under test, with this keeper.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_theca"));
        command
            .args(args)
            .env("THECA_ROOT", self.path().join("r"))
            .env("THECA_STATE", self.path().join("s"))
            .env("THECA_KEEPER", self.path().join("keeper"))
            .env("THECA_SKIP_CHECKS", "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    /// Runs `theca run --read-only --rootfs … ` with flags and a command.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Done {
        Done::of(self.run_command(flags, command).output().unwrap())
    }

    /// The same, not started.
    pub fn run_command(&self, flags: &[&str], command: &[&str]) -> Command {
        let rootfs = self.rootfs();
        let all = [&["run", "--read-only", "--rootfs", &rootfs], flags, command].concat();
        self.command(&all)
    }

    /// Runs any command.
    pub fn theca(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// What was asked so far.
    pub fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.service.ledger.lock().unwrap())
    }

    /// Makes the keeper's `start` fail with a message.
    pub fn break_start(&self, message: &str) {
        fs::write(self.path().join("broken"), message).unwrap();
    }

    /// Ends the keeper as `kill -9` would: nobody listens any more, what was connected breaks.
    pub fn kill_keeper(&mut self) {
        let mut server = self.server.take().unwrap();
        self.runtime.block_on(async { server.shutdown().await.unwrap() });
        fs::remove_file(self.path().join("k")).unwrap();
        self.service.end();
    }

    /// The bytes given to the keeper's `start`.
    pub fn start_options(&self) -> Vec<u8> {
        fs::read(self.path().join("options")).unwrap()
    }

    /// What is left of containers and sandboxes: all files below the roots but templates, locks and empty folders.
    pub fn residue(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        let mut folders = vec![
            self.path().join("r/containers"),
            self.path().join("r/names"),
            self.path().join("s/default"),
        ];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != ".lock" {
                    left.push(entry.path());
                }
            }
        }
        left
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.service.end();
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    /// Exit code, or 128+N for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Done {
    /// Reads what a command left.
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let status = output.status;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Waits for something that is about to happen.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !happened() {
        assert!(begun.elapsed().as_secs() < 20, "it did not happen: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Shared by the service's methods.
type Shared = Mutex<Ledger>;
