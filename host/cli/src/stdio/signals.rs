//! The signals that reach this command, as a stream.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Caught from the start: what asks this command to end, and what would end it unasked.
const FIRST: [i32; 6] = [
    nix::libc::SIGHUP,
    nix::libc::SIGINT,
    nix::libc::SIGQUIT,
    nix::libc::SIGTERM,
    nix::libc::SIGUSR1,
    nix::libc::SIGUSR2,
];

/// Passed on beside those, as docker does, while there is a process to pass them on to. Before, they do to this command what
/// they do to any. Real-time signals are too.
///
/// Not passed on is what nobody sends on purpose: SIGCHLD, SIGPIPE and SIGURG, as with docker; faults of this command itself
/// (ILL, BUS, FPE, SEGV, SYS), which a handler would only repeat; and what its terminal tells it, which is about that
/// terminal: SIGTTIN and SIGTTOU, and SIGWINCH, for which there are servers that shut down.
const REST: [i32; 12] = [
    nix::libc::SIGTRAP,
    nix::libc::SIGABRT,
    nix::libc::SIGALRM,
    nix::libc::SIGSTKFLT,
    nix::libc::SIGCONT,
    nix::libc::SIGTSTP,
    nix::libc::SIGXCPU,
    nix::libc::SIGXFSZ,
    nix::libc::SIGVTALRM,
    nix::libc::SIGPROF,
    nix::libc::SIGIO,
    nix::libc::SIGPWR,
];

/// Catches signals from its making to the end of the process: tokio never gives a signal back to the system.
#[derive(Debug)]
pub struct Signals {
    caught: Vec<(i32, Signal)>,
}

impl Signals {
    /// Catches what a command that makes something has to know of, and changes of the window's size.
    pub fn catch() -> io::Result<Self> {
        let mut signals = Self { caught: Vec::new() };
        signals.add(FIRST.into_iter().chain([nix::libc::SIGWINCH]))?;
        Ok(signals)
    }

    /// Catches whatever else is passed on to a process.
    pub fn catch_the_rest(&mut self) -> io::Result<()> {
        self.add(REST.into_iter().chain(nix::libc::SIGRTMIN()..=nix::libc::SIGRTMAX()))
    }

    fn add(&mut self, numbers: impl Iterator<Item = i32>) -> io::Result<()> {
        for number in numbers {
            self.caught.push((number, signal(SignalKind::from_raw(number))?));
        }
        Ok(())
    }

    /// Whether it is a signal by which a person or a supervisor asks a command to end.
    pub fn asks_to_end(number: i32) -> bool {
        matches!(number, nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGHUP | nix::libc::SIGQUIT)
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

    /// A signal that has asked this command to end while it was busy.
    pub async fn end_so_far(&mut self) -> Option<i32> {
        tokio::select! {
            biased;
            signal = self.next_end() => Some(signal),
            // Signals are seen between two turns of the runtime.
            () = tokio::task::yield_now() => None,
        }
    }

    /// The next signal that asks this command to end.
    pub async fn next_end(&mut self) -> i32 {
        loop {
            let number = self.next().await;
            if Self::asks_to_end(number) {
                return number;
            }
        }
    }
}
