//! Threads that copy bytes from one descriptor to another until the end, or until they are told to stop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use tokio::sync::oneshot;

use super::detach::DetachKeys;
use super::fifo::Fifos;

const CHUNK: usize = 64 << 10;
/// How long those that are left may take to pass on what has arrived.
const PARTING: Duration = Duration::from_millis(500);

/// How a pump of input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// Nothing more will come.
    Closed,
    /// The detach keys were typed.
    Detached,
}

/// The pumps of one process. Dropping this stops them. One whose reader takes nothing cannot be stopped, for it may be in the
/// middle of a write that blocks; it is left, and ends with this command.
#[derive(Debug)]
pub struct Pumps {
    /// Answers when input has ended; never if there is none.
    input: Option<oneshot::Receiver<InputEnd>>,
    /// Each answers when an output has ended: whether its end was seen.
    outputs: Vec<oneshot::Receiver<bool>>,
    /// Whether those that have ended saw the end of their outputs.
    whole: bool,
    /// Closing it tells the pump of input to stop.
    stop_input: Option<OwnedFd>,
    /// Closing it tells the others to stop once they have passed on what has arrived.
    stop_outputs: Option<OwnedFd>,
    /// Breaks when the last thread has ended.
    running: mpsc::Receiver<()>,
}

impl Pumps {
    /// Connects the FIFOs to this process's stdin, stdout and stderr.
    pub fn start(fifos: &mut Fifos, keys: Option<DetachKeys>) -> io::Result<Self> {
        let (input_stopped, stop_input) = pipe2(OFlag::O_CLOEXEC)?;
        let (outputs_stopped, stop_outputs) = pipe2(OFlag::O_CLOEXEC)?;
        let (runs, running) = mpsc::channel();
        let mut pumps = Self {
            input: None,
            outputs: Vec::new(),
            whole: true,
            stop_input: Some(stop_input),
            stop_outputs: Some(stop_outputs),
            running,
        };
        if let Some(fifo) = fifos.stdin.take() {
            let stdin = io::stdin().as_fd().try_clone_to_owned()?;
            let (tell, told) = oneshot::channel();
            pumps.input = Some(told);
            spawn("stdin", &runs, move || {
                if let Some(end) = pump_input(stdin.as_fd(), fifo.as_fd(), input_stopped.as_fd(), keys) {
                    // Closed first: whoever is told then asks the keeper to end the input.
                    drop(fifo);
                    let _ = tell.send(end);
                }
            })?;
        }
        let outputs = [
            ("stdout", fifos.stdout.take(), io::stdout().as_fd().try_clone_to_owned()?),
            ("stderr", fifos.stderr.take(), io::stderr().as_fd().try_clone_to_owned()?),
        ];
        for (name, fifo, target) in outputs {
            let Some(fifo) = fifo else { continue };
            let stopped = outputs_stopped.try_clone()?;
            let (tell, told) = oneshot::channel();
            pumps.outputs.push(told);
            spawn(name, &runs, move || {
                let _ = tell.send(pump_output(fifo.as_fd(), target.as_fd(), stopped.as_fd()));
            })?;
        }
        Ok(pumps)
    }

    /// Waits for the end of input, once; without input, or after it has ended, forever.
    pub async fn input_ended(&mut self) -> InputEnd {
        if let Some(input) = &mut self.input {
            let end = input.await;
            self.input = None;
            if let Ok(end) = end {
                return end;
            }
        }
        std::future::pending().await
    }

    /// Takes no more input from here.
    pub fn stop_input(&mut self) {
        self.stop_input = None;
    }

    /// Tells that no more output will arrive: what has is passed on, and that is the end.
    pub fn stop_outputs(&mut self) {
        self.stop_outputs = None;
    }

    /// Waits until all output has been passed on, or its reader has left. Returns whether its end was seen. Can be given up and
    /// asked again.
    pub async fn outputs_ended(&mut self) -> bool {
        while let Some(output) = self.outputs.last_mut() {
            // A pump that panicked has printed that.
            self.whole &= output.await.unwrap_or(false);
            self.outputs.pop();
        }
        self.whole
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        self.stop_input();
        self.stop_outputs();
        let _ = self.running.recv_timeout(PARTING);
    }
}

/// Runs a pump. `runs` breaks for its receiver when all have ended.
fn spawn(name: &str, runs: &mpsc::Sender<()>, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let runs = runs.clone();
    let pump = move || {
        run();
        drop(runs);
    };
    Builder::new().name(name.to_owned()).stack_size(128 << 10).spawn(pump).map(drop)
}

/// Waits until `fd` is ready in the way wanted. `false` when it is time to stop.
fn wait(fd: BorrowedFd, wanted: PollFlags, stopped: BorrowedFd) -> bool {
    loop {
        let mut fds = [PollFd::new(fd, wanted), PollFd::new(stopped, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return false,
            Ok(_) => {}
        }
        let [fd, stopped] = fds.map(|fd| fd.any().unwrap_or(true));
        // What is ready goes before the stop, so that nothing that has arrived is lost.
        if fd || stopped {
            return fd;
        }
    }
}

fn read_chunk(fd: BorrowedFd, buffer: &mut [u8], stopped: BorrowedFd) -> Option<usize> {
    loop {
        if !wait(fd, PollFlags::POLLIN, stopped) {
            return None;
        }
        match read(fd, buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // A terminal that hung up, a FIFO that broke: the end of input.
            Err(_) => return Some(0),
            Ok(count) => return Some(count),
        }
    }
}

/// Writes all of `bytes`; `false` if that cannot be done. `wait` is for a descriptor that does not block.
fn write_all(fd: BorrowedFd, mut bytes: &[u8], wait: impl Fn() -> bool) -> bool {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if wait() => {}
            Err(_) => return false,
        }
    }
    true
}

/// `None` when told to stop.
fn pump_input(
    from: BorrowedFd,
    to: BorrowedFd,
    stopped: BorrowedFd,
    mut keys: Option<DetachKeys>,
) -> Option<InputEnd> {
    let mut buffer = vec![0; CHUNK];
    let mut passed = Vec::new();
    loop {
        let count = read_chunk(from, &mut buffer, stopped)?;
        if count == 0 {
            return Some(InputEnd::Closed);
        }
        let typed = &buffer[..count];
        let (bytes, detached) = match &mut keys {
            Some(keys) => {
                passed.clear();
                let detached = keys.filter(typed, &mut passed);
                (passed.as_slice(), detached)
            }
            None => (typed, false),
        };
        if !write_all(to, bytes, || wait(to, PollFlags::POLLOUT, stopped)) {
            return None;
        }
        if detached {
            return Some(InputEnd::Detached);
        }
    }
}

/// Passes output on until its end, and returns whether that was seen. A reader that is slow is waited for even when told to
/// stop: what has arrived is not dropped. If nobody takes it (`| head`), the rest is read and dropped: the process in the
/// sandbox is not ours to stop.
fn pump_output(from: BorrowedFd, to: BorrowedFd, stopped: BorrowedFd) -> bool {
    let for_reader = || {
        let waited = poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::NONE);
        waited.is_ok() || waited == Err(Errno::EINTR)
    };
    let mut buffer = vec![0; CHUNK];
    let mut wanted = true;
    loop {
        match read_chunk(from, &mut buffer, stopped) {
            Some(0) => return true,
            Some(count) => wanted = wanted && write_all(to, &buffer[..count], for_reader),
            // Nobody misses what nobody takes.
            None => return !wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::thread;

    use super::*;

    fn a_pipe() -> (File, File) {
        let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        (read.into(), write.into())
    }

    #[test]
    fn input_is_passed_on_until_its_end() {
        let (from, mut source) = a_pipe();
        let (mut target, to) = a_pipe();
        let (stopped, _stop) = a_pipe();
        source.write_all(b"abc").unwrap();
        drop(source);
        assert_eq!(pump_input(from.as_fd(), to.as_fd(), stopped.as_fd(), None), Some(InputEnd::Closed));
        drop(to);
        let mut text = String::new();
        target.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }

    #[test]
    fn the_detach_keys_end_input_and_are_not_passed_on() {
        let (from, mut source) = a_pipe();
        let (mut target, to) = a_pipe();
        let (stopped, _stop) = a_pipe();
        source.write_all(b"abc\x10\x11").unwrap();
        let end = pump_input(from.as_fd(), to.as_fd(), stopped.as_fd(), Some(DetachKeys::default()));
        assert_eq!(end, Some(InputEnd::Detached));
        drop(to);
        let mut text = String::new();
        target.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }

    #[test]
    fn a_pump_that_waits_can_be_stopped() {
        let (from, _source) = a_pipe();
        let (_target, to) = a_pipe();
        let (stopped, stop) = a_pipe();
        let pump = thread::spawn(move || pump_input(from.as_fd(), to.as_fd(), stopped.as_fd(), None));
        drop(stop);
        assert_eq!(pump.join().unwrap(), None);
    }

    #[test]
    fn output_that_nobody_takes_is_still_read_to_its_end() {
        let (from, mut source) = a_pipe();
        let (target, to) = a_pipe();
        let (stopped, _stop) = a_pipe();
        drop(target);
        let pump = thread::spawn(move || pump_output(from.as_fd(), to.as_fd(), stopped.as_fd()));
        source.write_all(&vec![b'x'; 1 << 20]).unwrap();
        drop(source);
        pump.join().unwrap();
    }
}
