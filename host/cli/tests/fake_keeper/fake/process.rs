//! One process of the fake keeper, its stdio joined to FIFOs and a log.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where stdio goes, as a request named it.
#[derive(Clone, Default)]
pub struct Stdio3 {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub log: String,
    /// Somebody reads the output already.
    pub read: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Created,
    Running(u32),
    Ended(u32),
}

/// A process that can be created, started and waited for.
pub struct Process {
    args: Vec<String>,
    env: Vec<String>,
    stdio: Stdio3,
    state: Mutex<State>,
    changed: Condvar,
    /// FIFOs and the log that output goes to: stdout's, stderr's.
    sinks: [Arc<Mutex<Vec<File>>>; 2],
    /// The keeper's own writer of the stdin FIFO.
    stdin_held: Mutex<Option<File>>,
}

/// Why a process did not start.
pub enum StartFailure {
    NotFound(String),
    NotExecutable(String),
}

impl Process {
    pub fn new(args: Vec<String>, env: Vec<String>, stdio: Stdio3) -> Self {
        Self {
            args,
            env,
            stdio,
            state: Mutex::default(),
            changed: Condvar::new(),
            sinks: Default::default(),
            stdin_held: Mutex::default(),
        }
    }

    pub fn start(self: &Arc<Self>) -> Result<u32, StartFailure> {
        let mut command = Command::new(&self.args[0]);
        command
            .args(&self.args[1..])
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        command.envs(self.env.iter().filter_map(|variable| variable.split_once('=')));
        if !self.stdio.stdin.is_empty() {
            let both = OpenOptions::new().read(true).write(true).open(&self.stdio.stdin).unwrap();
            command.stdin(File::open(&self.stdio.stdin).unwrap());
            *self.stdin_held.lock().unwrap() = Some(both);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                StartFailure::NotExecutable(format!("exec {:?}: permission denied", self.args[0]))
            }
            _ => {
                StartFailure::NotFound(format!("exec {:?}: executable file not found in $PATH", self.args[0]))
            }
        })?;
        let pid = child.id();
        *self.state.lock().unwrap() = State::Running(pid);
        let pumps = [
            self.pump(0, child.stdout.take().unwrap(), &self.stdio.stdout, "stdout"),
            self.pump(1, child.stderr.take().unwrap(), &self.stdio.stderr, "stderr"),
        ];
        let this = Arc::clone(self);
        thread::spawn(move || this.watch(child, pumps));
        Ok(pid)
    }

    fn pump(
        &self,
        index: usize,
        mut from: impl Read + Send + 'static,
        fifo: &str,
        name: &'static str,
    ) -> JoinHandle<()> {
        let sinks = Arc::clone(&self.sinks[index]);
        if !fifo.is_empty() {
            sinks
                .lock()
                .unwrap()
                .push(OpenOptions::new().read(!self.stdio.read).write(true).open(fifo).unwrap());
        }
        let log = self.stdio.log.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                for sink in sinks.lock().unwrap().iter_mut() {
                    let _ = sink.write_all(&buffer[..count]);
                }
                if !log.is_empty() {
                    // It goes with its container.
                    let Ok(mut log) = OpenOptions::new().create(true).append(true).open(&log) else {
                        continue;
                    };
                    for line in String::from_utf8_lossy(&buffer[..count]).lines() {
                        // In one call: the other stream writes there too.
                        let line = format!("2026-08-01T12:00:00.000000000Z {name} F {line}\n");
                        log.write_all(line.as_bytes()).unwrap();
                    }
                }
            }
            sinks.lock().unwrap().clear();
        })
    }

    fn watch(&self, mut child: Child, pumps: [JoinHandle<()>; 2]) {
        use std::os::unix::process::ExitStatusExt;
        let status = child.wait().unwrap();
        for pump in pumps {
            pump.join().unwrap();
        }
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        *self.state.lock().unwrap() = State::Ended(status.unsigned_abs());
        self.changed.notify_all();
    }

    /// Blocks until it has ended.
    pub fn wait(&self) -> u32 {
        let mut state = self.state.lock().unwrap();
        loop {
            match *state {
                State::Ended(status) => return status,
                _ => state = self.changed.wait(state).unwrap(),
            }
        }
    }

    /// Wakes waiters of a process that was never started.
    pub fn give_up(&self) {
        let mut state = self.state.lock().unwrap();
        if matches!(*state, State::Created) {
            *state = State::Ended(255);
            self.changed.notify_all();
        }
    }

    /// Its VM has gone under it.
    pub fn lose(&self) {
        *self.state.lock().unwrap() = State::Ended(137);
        self.changed.notify_all();
    }

    pub fn ended(&self) -> Option<u32> {
        match *self.state.lock().unwrap() {
            State::Ended(status) => Some(status),
            _ => None,
        }
    }

    pub fn pid(&self) -> Option<u32> {
        match *self.state.lock().unwrap() {
            State::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// `false` if it does not run.
    pub fn kill(&self, signal: i32) -> bool {
        let signal = Signal::try_from(signal).unwrap();
        self.pid().is_some_and(|pid| kill(Pid::from_raw(pid.try_into().unwrap()), signal).is_ok())
    }

    pub fn close_stdin(&self) {
        *self.stdin_held.lock().unwrap() = None;
    }

    /// Output goes there too; input comes from there too.
    pub fn attach(&self, stdio: &Stdio3) {
        for (sinks, fifo) in self.sinks.iter().zip([&stdio.stdout, &stdio.stderr]) {
            if !fifo.is_empty() {
                sinks.lock().unwrap().push(OpenOptions::new().write(true).open(fifo).unwrap());
            }
        }
        if !stdio.stdin.is_empty() {
            let mut from = File::open(&stdio.stdin).unwrap();
            let held = self.stdin_held.lock().unwrap().as_ref().map(|file| file.try_clone().unwrap());
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let (Ok(count @ 1..), Some(mut to)) = (from.read(&mut buffer), held.as_ref()) {
                    let _ = to.write_all(&buffer[..count]);
                }
            });
        }
    }
}
