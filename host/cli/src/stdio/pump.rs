//! Threads that copy bytes from one descriptor to another until the end, or until they are told to stop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use tokio::sync::oneshot;

use super::detach::DetachKeys;
use super::fifo::Fifos;

const CHUNK: usize = 64 << 10;

/// How a pump of input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEnd {
    /// Nothing more will come.
    Closed,
    /// The detach keys were typed.
    Detached,
}

/// The pumps of one process. Dropping this stops and joins them.
#[derive(Debug)]
pub struct Pumps {
    /// Answers when input has ended; never if there is none.
    input: Option<oneshot::Receiver<InputEnd>>,
    outputs: Vec<oneshot::Receiver<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Closing it tells every thread to stop.
    stop: Option<OwnedFd>,
}

impl Pumps {
    /// Connects the FIFOs to this process's stdin, stdout and stderr.
    pub fn start(fifos: &mut Fifos, keys: Option<DetachKeys>) -> io::Result<Self> {
        let (stopped, stop) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut pumps = Self { input: None, outputs: Vec::new(), threads: Vec::new(), stop: Some(stop) };
        if let Some(fifo) = fifos.stdin.take() {
            let (stdin, stopped) = (io::stdin().as_fd().try_clone_to_owned()?, stopped.try_clone()?);
            let (tell, told) = oneshot::channel();
            pumps.input = Some(told);
            pumps.spawn("stdin", move || {
                if let Some(end) = pump_input(stdin.as_fd(), fifo.as_fd(), stopped.as_fd(), keys) {
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
            let stopped = stopped.try_clone()?;
            let (tell, told) = oneshot::channel();
            pumps.outputs.push(told);
            pumps.spawn(name, move || {
                pump_output(fifo.as_fd(), target.as_fd(), stopped.as_fd());
                let _ = tell.send(());
            })?;
        }
        Ok(pumps)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(Builder::new().name(name.to_owned()).stack_size(128 << 10).spawn(run)?);
        Ok(())
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

    /// Waits until all output has been passed on, for at most `patience`. Returns whether it has.
    pub async fn outputs_ended(&mut self, patience: Duration) -> bool {
        let all = async {
            for output in self.outputs.drain(..) {
                // A pump that ended without a word has ended.
                let _ = output.await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            // A panic in a pump has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
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

/// Writes all of `bytes`; `false` if that cannot be done.
fn write_all(fd: BorrowedFd, mut bytes: &[u8], stopped: BorrowedFd) -> bool {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if wait(fd, PollFlags::POLLOUT, stopped) => {}
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
        if !write_all(to, bytes, stopped) {
            return None;
        }
        if detached {
            return Some(InputEnd::Detached);
        }
    }
}

/// Passes output on until its end. If nobody takes it (`| head`), the rest is read and dropped: the process in the
/// sandbox is not ours to stop.
fn pump_output(from: BorrowedFd, to: BorrowedFd, stopped: BorrowedFd) {
    let mut buffer = vec![0; CHUNK];
    let mut wanted = true;
    while let Some(count @ 1..) = read_chunk(from, &mut buffer, stopped) {
        wanted = wanted && write_all(to, &buffer[..count], stopped);
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
