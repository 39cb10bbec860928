//! One call of a program: what goes in, what comes out, and never forever.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::wait::{PATIENCE, ask_until, eventually};

/// A call under construction.
pub struct Invocation {
    command: Command,
    input: Vec<u8>,
}

impl Invocation {
    /// A call of `program` with nothing on its stdin.
    pub fn new(program: impl AsRef<OsStr>, args: &[impl AsRef<OsStr>]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: Vec::new() }
    }

    /// Adds arguments.
    pub fn args(mut self, args: &[impl AsRef<OsStr>]) -> Self {
        self.command.args(args);
        self
    }

    /// Gives it this on its stdin, through a pipe that is closed behind.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self.command.stdin(Stdio::piped());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts it and leaves it running.
    pub fn start(mut self) -> Running {
        let shown = format!("{:?}", self.command);
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("failed to start {shown}: {error}"));
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input;
            // A program may well end without reading all of it.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = child.stdout.take().map(Stream::collect);
        let stderr = child.stderr.take().map(Stream::collect);
        Running { shown, child, stdout, stderr }
    }

    /// The bare command, with stdin null and outputs piped, for what this type does not offer.
    pub fn into_command(self) -> Command {
        self.command
    }
}

/// One of its outputs, read as it comes.
struct Stream {
    read: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let read = Arc::clone(&read);
            move || {
                let mut chunk = [0; 4096];
                loop {
                    match stream.read(&mut chunk).expect("failed to read a program's output") {
                        0 => return,
                        count => {
                            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                            read.extend_from_slice(&chunk[..count]);
                        }
                    }
                }
            }
        });
        Self { read, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn whole(self) -> String {
        let Self { read, reader } = self;
        reader.join().expect("a reader panicked");
        String::from_utf8_lossy(&read.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// A call that is under way. Dropped, it is killed.
pub struct Running {
    shown: String,
    child: Child,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("process ids are positive"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal)
            .unwrap_or_else(|error| panic!("failed to send {signal} to {}: {error}", self.shown));
    }

    /// Waits until its stdout contains this.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let said = || self.stdout.as_ref().is_some_and(|stdout| stdout.so_far().contains(text));
        eventually(&format!("{text:?} from {}", self.shown), said);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("failed to wait for a child").is_some()
    }

    /// Waits for its end, with patience but not forever.
    pub fn wait(self) -> Output {
        self.wait_within(PATIENCE)
    }

    /// Waits for its end, so long at most.
    pub fn wait_within(mut self, patience: Duration) -> Output {
        let status = ask_until(patience, || self.child.try_wait().expect("failed to wait for a child"));
        if status.is_none() {
            self.child.kill().expect("failed to kill a child");
            self.child.wait().expect("failed to wait for a child");
        }
        // What is left running in the background may hold the outputs; then the test waits here and says nothing,
        // which the runner's own limit ends.
        let stdout = self.stdout.take().map(Stream::whole).unwrap_or_default();
        let stderr = self.stderr.take().map(Stream::whole).unwrap_or_default();
        let Some(status) = status else {
            panic!("{} did not end in {patience:?}\nstdout: {stdout}\nstderr: {stderr}", self.shown);
        };
        Output { shown: std::mem::take(&mut self.shown), code: code(status), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code as a shell tells it: 128+N for signal N.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// How a call ended and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    shown: String,
    /// Exit code, 128+N for signal N.
    pub code: i32,
    /// Everything on its stdout.
    pub stdout: String,
    /// Everything on its stderr.
    pub stderr: String,
}

impl Output {
    /// Asserts exit code 0 and gives stdout.
    #[track_caller]
    pub fn success(&self) -> &str {
        self.exits(0).stdout.as_str()
    }

    /// Asserts this exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "the exit code (left) is not as expected (right)\n{self}");
        self
    }

    /// Asserts that stderr contains this.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "stderr does not say {text:?}\n{self}");
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.success())
            .unwrap_or_else(|error| panic!("stdout is no JSON: {error}\n{self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended with {}\nstdout: {}\nstderr: {}", self.shown, self.code, self.stdout, self.stderr)
    }
}
