//! The signals that reach this command, as a stream.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Passed on to the container: all that a person or a supervisor sends on purpose.
const PASSED_ON: [i32; 6] = [
    nix::libc::SIGHUP,
    nix::libc::SIGINT,
    nix::libc::SIGQUIT,
    nix::libc::SIGTERM,
    nix::libc::SIGUSR1,
    nix::libc::SIGUSR2,
];

/// Catches signals from its making to the end of the process: tokio never gives a signal back to the system.
#[derive(Debug)]
pub struct Signals {
    caught: Vec<(i32, Signal)>,
}

impl Signals {
    /// Catches what is passed on, and changes of the window's size.
    pub fn catch() -> io::Result<Self> {
        let numbers = PASSED_ON.into_iter().chain([nix::libc::SIGWINCH]);
        let caught = numbers.map(|number| Ok((number, signal(SignalKind::from_raw(number))?)));
        Ok(Self { caught: caught.collect::<io::Result<_>>()? })
    }

    /// The next signal.
    pub async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            let ready = self
                .caught
                .iter_mut()
                .find_map(|(number, signal)| signal.poll_recv(context).is_ready().then_some(*number));
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next signal that asks this command to end.
    pub async fn next_end(&mut self) -> i32 {
        loop {
            let number = self.next().await;
            if matches!(
                number,
                nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGHUP | nix::libc::SIGQUIT
            ) {
                return number;
            }
        }
    }
}
