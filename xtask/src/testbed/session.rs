//! One command's time in a test host: its standard streams are ours, and a control port says how it ended.
//!
//! Lines on the control port, written by `guest/init.sh`:
//!
//! ```text
//! ready UPTIME      the command starts; seconds since the test host's kernel started
//! exit CODE         it ended, its output was read to the end and its results are on the disk
//! failed REASON     the test host could not do its part
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use super::qemu::Host;

/// A control line is short; the test host runs other people's programs.
const LINE_LIMIT: usize = 4096;

/// How a run ended.
pub enum Outcome {
    /// The command ended with this code (128+N for signal N).
    Exited(u8),
    /// The deadline passed first.
    TimedOut {
        /// The end of the console.
        last_words: String,
    },
}

/// Connects our standard streams and waits for the command's end. The host is dead on return.
pub fn serve(host: &mut Host, stdout: impl Write + Send + 'static, deadline: Instant) -> Result<Outcome> {
    // Never joined: a read from a terminal cannot be interrupted, and the process ends soon after.
    pump("stdin", io::stdin(), host.ports.stdin.try_clone()?, Some(host.ports.stdin.try_clone()?))?;
    let outputs = [
        pump("stdout", host.ports.stdout.try_clone()?, stdout, None)?,
        pump("stderr", host.ports.stderr.try_clone()?, io::stderr(), None)?,
    ];
    let ended = follow(&host.ports.control, deadline);
    let last_words = host.last_words();
    host.kill()?;
    // QEMU is gone, so both reach the end of what the command wrote.
    for output in outputs {
        output.join().map_err(|_| anyhow!("an output thread panicked"))?;
    }
    match ended? {
        Control::Exit(code) => Ok(Outcome::Exited(code)),
        Control::Deadline => Ok(Outcome::TimedOut { last_words }),
        Control::Failed(reason) => {
            bail!("the test host failed: {reason}; its console's last lines:\n{last_words}")
        }
    }
}

enum Control {
    Exit(u8),
    Failed(String),
    Deadline,
}

/// Reads control lines until one ends the run.
fn follow(control: &UnixStream, deadline: Instant) -> Result<Control> {
    let mut lines = Lines { stream: control, pending: Vec::new() };
    loop {
        let Some(line) = lines.next(deadline)? else { return Ok(Control::Deadline) };
        match line.split_once(' ') {
            Some(("ready", _)) => {}
            Some(("exit", code)) => {
                let code = code.parse().map_err(|_| anyhow!("the test host gave the exit code {code:?}"))?;
                return Ok(Control::Exit(code));
            }
            Some(("failed", reason)) => return Ok(Control::Failed(reason.to_owned())),
            _ if line.is_empty() => return Ok(Control::Failed("it went away".into())),
            _ => bail!("the test host said {line:?}"),
        }
    }
}

/// Lines of a stream, each awaited until a deadline.
struct Lines<'a> {
    stream: &'a UnixStream,
    pending: Vec<u8>,
}

impl Lines<'_> {
    /// The next line without its end, empty at the end of the stream, or None when the deadline passed.
    fn next(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.drain(..=end).collect::<Vec<_>>();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.pending.len() > LINE_LIMIT {
                bail!("the test host sent an endless control line");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 512];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Some(String::new())),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // QEMU closing with unread bytes on its side shows as a reset.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Some(String::new())),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Copies until either side ends, then tells the far side by closing `close`.
fn pump(
    name: &str,
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    close: Option<UnixStream>,
) -> Result<JoinHandle<()>> {
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    if to.write_all(&chunk[..count]).and_then(|()| to.flush()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if let Some(stream) = close {
            // The far end may be gone already, which says the same.
            let _ = stream.shutdown(Shutdown::Write);
        }
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_run_ends_with_the_commands_code() {
        let (control, mut host) = UnixStream::pair().unwrap();
        host.write_all(b"ready 3.1\nexit 143\n").unwrap();
        assert!(matches!(follow(&control, soon()).unwrap(), Control::Exit(143)));
    }

    #[test]
    fn a_host_that_goes_away_or_hangs_is_told_apart() {
        let (control, host) = UnixStream::pair().unwrap();
        assert!(matches!(follow(&control, Instant::now()).unwrap(), Control::Deadline));
        drop(host);
        assert!(matches!(follow(&control, soon()).unwrap(), Control::Failed(_)));
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }
}
