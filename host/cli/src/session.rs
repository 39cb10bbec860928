//! A command joined to a running process: bytes, signals and window sizes pass until the process ends or the user leaves.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use nix::libc::{SIGINT, SIGTERM, SIGWINCH};

use crate::error::{of_container, of_signal};
use crate::keeper::{Death, KILLED, Keeper, KeeperError};
use crate::output::{time::now_ms, warn};
use crate::stdio::{
    DetachKeys, Fifos, InputEnd, Pumps, RawTerminal, Signals, stdin_is_terminal, window_size,
};

/// How long the end of a process goes untold because its output is still being passed on. Most readers are quicker.
const PROMPT: Duration = Duration::from_secs(1);
/// How long output may trail behind the end of its process. The keeper tells an end when all output is on its way.
const TRAILING: Duration = Duration::from_secs(10);
/// How long a reader may take for the rest once this command is asked to end.
const PARTING: Duration = Duration::from_millis(500);
/// The request to end that is no longer passed on: the process has not listened to those before.
const PATIENCE: u32 = 3;
/// Requests to end count together while each comes this soon after the one before. One that comes later is a new one: the
/// process has taken those before for something else, as a prompt takes Ctrl-C.
const IN_A_ROW: Duration = Duration::from_secs(10);

/// The process's end, as [`Keeper::wait`] tells it.
pub type Exit<'a> = Pin<Box<dyn Future<Output = Result<(u32, u64), KeeperError>> + 'a>>;

/// What a session is made of.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Whether this side's terminal becomes the process's.
    pub raw: bool,
    /// What leaves a session with a terminal.
    pub detach_keys: Option<DetachKeys>,
    /// Whether signals to this command go to the process. Where they do not, those that ask to end are for this command, and
    /// it leaves, or takes along a container that would not outlive it.
    pub pass_signals: bool,
    /// Whether the process dies of the last request to end. Else it is left, and runs on: it is not this command's alone.
    pub kills_in_the_end: bool,
    /// Whether the end of the input here is the end of the process's.
    pub ends_input: bool,
}

impl Manner {
    /// For a process with or without a terminal, and with or without input from here.
    pub fn of(terminal: bool, stdin: bool, keys: &DetachKeys, sig_proxy: bool) -> Self {
        let raw = terminal && stdin && stdin_is_terminal();
        Self {
            raw,
            detach_keys: raw.then(|| keys.clone()),
            pass_signals: sig_proxy,
            kills_in_the_end: false,
            ends_input: true,
        }
    }
}

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The process ended.
    Exited {
        /// Its status.
        status: u32,
        /// The exit code for it: the status, or the signal for which this command ended the process.
        code: u8,
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// What it wrote and nobody has read yet: to be passed on once its end has been dealt with.
        rest: Rest,
    },
    /// What became of the process is not to be had.
    Lost {
        /// Why.
        error: KeeperError,
        /// What it had written.
        rest: Rest,
    },
    /// The user left; the process runs on.
    Detached,
    /// It did not end when this signal came again and again; it runs on.
    Left(i32),
}

impl Ended {
    /// What is told, and the exit code, when a process that has not ended was left.
    pub fn leave(signal: i32, process: &str) -> u8 {
        warn(&format!("{process} did not end for {PATIENCE} signals, and runs on without this command"));
        of_signal(signal)
    }
}

/// Requests to end, as far as they count together.
#[derive(Debug, Default)]
struct Requests {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Requests {
    /// How many in a row one more makes.
    fn one_more(&mut self, now: Instant) -> u32 {
        let soon = self.last.is_some_and(|last| now.duration_since(last) < IN_A_ROW);
        self.in_a_row = if soon { self.in_a_row + 1 } else { 1 };
        self.last = Some(now);
        self.in_a_row
    }
}

/// Output that has arrived, or is about to, and that its reader is slow to take.
#[derive(Debug)]
pub struct Rest {
    pumps: Pumps,
    /// Whether somebody has lost patience already.
    hurried: bool,
}

impl Rest {
    /// Passes it on, however long its reader takes, until a signal asks this command to end.
    pub async fn pass_on(mut self, signals: &mut Signals) {
        let mut trailing = Box::pin(tokio::time::sleep(TRAILING));
        let mut late = false;
        let seen = loop {
            tokio::select! {
                biased;
                seen = self.pumps.outputs_ended() => break Some(seen),
                () = async { if !self.hurried { signals.next_end().await; } } => {
                    break tokio::time::timeout(PARTING, self.pumps.outputs_ended()).await.ok();
                }
                () = &mut trailing, if !late => {
                    late = true;
                    self.pumps.stop_outputs();
                }
            }
        };
        match seen {
            Some(true) => {}
            Some(false) => warn("some output did not arrive in time and is missing"),
            None => warn("some output was not read in time and is missing"),
        }
    }
}

/// A session that has been joined. What the process wrote before waits in the FIFOs, which are opened before it starts.
pub struct Session<'a> {
    keeper: &'a Keeper,
    exec_id: &'a str,
    manner: Manner,
    pumps: Pumps,
    // After the pumps: they are stopped before the terminal is restored.
    _terminal: Option<RawTerminal>,
}

impl<'a> Session<'a> {
    /// Connects the FIFOs with this command's stdio; the terminal is raw from here on if it is to be.
    pub fn open(keeper: &'a Keeper, exec_id: &'a str, fifos: &mut Fifos, manner: Manner) -> io::Result<Self> {
        let terminal = manner.raw.then(RawTerminal::enter).transpose()?;
        let pumps = Pumps::start(fifos, manner.detach_keys.clone())?;
        Ok(Self { keeper, exec_id, manner, pumps, _terminal: terminal })
    }

    /// Passes everything on until the process ends or the user leaves.
    pub async fn follow(mut self, mut exit: Exit<'_>, signals: &mut Signals) -> Ended {
        let mut requests = Requests::default();
        let mut asked = None;
        if self.manner.pass_signals
            && let Err(error) = signals.catch_the_rest()
        {
            warn(&format!("not every signal will reach the container: {error}"));
        }
        self.resize().await;
        // One after the other and beside all else: a guest that is slow to take one must not keep the next from being noticed.
        let mut to_pass = VecDeque::new();
        let mut passing: Option<Pin<Box<dyn Future<Output = ()> + 'a>>> = None;
        let (status, at_ms) = loop {
            if passing.is_none() {
                let next = to_pass.pop_front();
                passing = next.map(|signal| Box::pin(pass(self.keeper, self.exec_id, signal)) as _);
            }
            tokio::select! {
                biased;
                ended = &mut exit => match ended {
                    Ok(end) => break end,
                    Err(error) => return Ended::Lost { error, rest: self.rest(false) },
                },
                () = async { if let Some(passing) = &mut passing { passing.await } }, if passing.is_some() => {
                    passing = None;
                }
                end = self.pumps.input_ended() => match end {
                    InputEnd::Detached => return Ended::Detached,
                    InputEnd::Closed if self.manner.ends_input => self.close_stdin().await,
                    InputEnd::Closed => {}
                },
                signal = signals.next() => match signal {
                    SIGWINCH => self.resize().await,
                    signal if !self.manner.pass_signals => {
                        if Signals::asks_to_end(signal) {
                            if !self.manner.kills_in_the_end {
                                return Ended::Detached;
                            }
                            asked = Some(signal);
                            if let Some(end) = self.end_by_force().await {
                                break end;
                            }
                        }
                    }
                    signal => {
                        let requested = matches!(signal, SIGINT | SIGTERM);
                        if !requested || requests.one_more(Instant::now()) < PATIENCE {
                            to_pass.push_back(signal);
                        } else if !self.manner.kills_in_the_end {
                            return Ended::Left(signal);
                        } else if let Some(end) = self.end_by_force().await {
                            break end;
                        }
                    }
                },
            }
        };
        let _ = tokio::time::timeout(PROMPT, self.pumps.outputs_ended()).await;
        let code = asked.map_or_else(|| of_container(status), of_signal);
        let hurried = asked.is_some() || requests.in_a_row >= PATIENCE;
        Ended::Exited { status, code, at_ms, rest: self.rest(hurried) }
    }

    /// What is left of a session without a process. The terminal is this side's again.
    fn rest(mut self, hurried: bool) -> Rest {
        self.pumps.stop_input();
        Rest { pumps: self.pumps, hurried }
    }

    /// Kills the container. A guest that cannot even do that loses its VM, and what the end was is not to be had from it.
    async fn end_by_force(&self) -> Option<(u32, u64)> {
        match self.keeper.put_to_death(false).await {
            Ok(Death::Vm) => Some((KILLED, now_ms())),
            Ok(Death::Process) => None,
            Err(error) => {
                warn(&format!("the container was not killed: {error}"));
                None
            }
        }
    }

    async fn close_stdin(&self) {
        if let Err(error) = self.keeper.close_stdin(self.exec_id).await
            && !error.is_not_found()
            && !error.is_gone()
        {
            warn(&format!("the end of input was not delivered: {error}"));
        }
    }

    /// A process that ends, or has not opened its terminal yet, has no size to change.
    async fn resize(&self) {
        if self.manner.raw
            && let Some((columns, rows)) = window_size()
        {
            let _ = self.keeper.resize(self.exec_id, columns, rows).await;
        }
    }
}

/// The process may have ended meanwhile, which the session is about to see: a refusal is not worth a word.
async fn pass(keeper: &Keeper, exec_id: &str, signal: i32) {
    if let Err(error) = keeper.kill(exec_id, signal, false).await
        && !error.is_not_found()
        && !error.is_gone()
    {
        warn(&format!("signal {signal} was not delivered: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_end_that_are_far_apart_do_not_add_up() {
        let mut requests = Requests::default();
        let mut now = Instant::now();
        let counts = [0, 9, 9, 10, 1, 3600].map(|seconds| {
            now += Duration::from_secs(seconds);
            requests.one_more(now)
        });
        assert_eq!(counts, [1, 2, 3, 1, 2, 1]);
    }
}
