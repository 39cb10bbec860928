//! How a VM ended, as a sentence with the guest's last words.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use theca_vmm_protocol::ExitReason;

/// Bytes of the console's end that are looked at.
const TAIL_BYTES: u64 = 4096;
/// Lines of it that are told.
const TAIL_LINES: usize = 20;

/// Why a VM is given up whose agent cannot be reached.
pub const AGENT_LOST: &str = "the connection to the guest's agent was lost";

/// The end of a VM.
#[derive(Clone, Debug)]
pub struct VmEnd {
    /// The VMM's own word for it, if it had one, or why it was given up.
    pub reason: Option<ExitReason>,
    status: Option<ExitStatus>,
    console: String,
}

impl VmEnd {
    /// From what the VMM said, how its process ended and what the console shows.
    pub fn new(reason: Option<ExitReason>, status: Option<ExitStatus>, console: String) -> Self {
        Self { reason, status, console }
    }

    /// For a VM whose supervisor is gone.
    pub fn unobserved() -> Self {
        Self::new(None, None, String::new())
    }

    /// Whether it ended as asked or by the guest's own orderly power-off.
    pub fn is_orderly(&self) -> bool {
        matches!(self.reason, Some(ExitReason::Quit | ExitReason::Shutdown))
    }
}

impl fmt::Display for VmEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, self.status) {
            (Some(ExitReason::Shutdown), _) => f.write_str("the guest powered off")?,
            (Some(ExitReason::Reboot), _) => f.write_str("the guest rebooted")?,
            (Some(ExitReason::Panic), _) => f.write_str("the guest's kernel panicked")?,
            (Some(ExitReason::TripleFault), _) => {
                f.write_str("the guest's processor gave up (triple fault)")?
            }
            (Some(ExitReason::Quit), _) => f.write_str("it was stopped")?,
            (Some(ExitReason::Failed(why)), _) => f.write_str(why)?,
            (None, Some(status)) => match (status.signal(), status.code()) {
                // Not by the guest, so its words are beside the point.
                (Some(signal), _) => return write!(f, "the VMM was killed by signal {signal}"),
                (None, Some(code)) => write!(f, "the VMM ended with status {code} and gave no reason")?,
                (None, None) => f.write_str("the VMM ended and gave no reason")?,
            },
            (None, None) => f.write_str("the VMM is gone")?,
        }
        if !self.console.is_empty() && !self.is_orderly() {
            write!(f, "; the guest's last words:\n{}", self.console)?;
        }
        Ok(())
    }
}

impl std::error::Error for VmEnd {}

/// The console's last lines, printable: a guest must not steer a terminal through an error message.
pub fn tail(console: &File) -> String {
    let length = console.metadata().map_or(0, |metadata| metadata.len());
    let from = length.saturating_sub(TAIL_BYTES);
    let mut bytes = vec![0; (length - from) as usize];
    if console.read_exact_at(&mut bytes, from).is_err() {
        // It shrank meanwhile: the VMM drops old lines. Rather nothing than half of it.
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// `text` without control characters, tabs apart.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn console(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_panic_is_told_with_the_console() {
        let console = console("[0.1] Linux\n\nKernel panic - not syncing: no init\r\n");
        let end = VmEnd::new(Some(ExitReason::Panic), None, tail(&console));
        assert_eq!(
            end.to_string(),
            "the guest's kernel panicked; the guest's last words:\n[0.1] Linux\nKernel panic - not syncing: no init"
        );
    }

    #[test]
    fn a_killed_vmm_is_told_by_its_signal() {
        let end = VmEnd::new(None, Some(ExitStatus::from_raw(9)), "[0.1] Linux".into());
        assert_eq!(end.to_string(), "the VMM was killed by signal 9");
    }

    #[test]
    fn only_the_last_lines_are_kept_and_none_steers_a_terminal() {
        let text: String = (0..1000).map(|n| format!("\x1b[31mline {n}\x07\n")).collect();
        let tail = tail(&console(&text));
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("[31mline 999"), "{tail}");
    }
}
