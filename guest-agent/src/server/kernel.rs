//! What the guest's kernel has to tell, and its clock.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use nix::sys::time::TimeSpec;
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_settime};
use theca_proto::theca::agent::v1::InfoResponse;
use tonic::Status;

/// The agent's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Pieces of the kernel log are about this long.
const PIECE: usize = 64 << 10;
/// The longest record that `/dev/kmsg` gives.
const LONGEST_RECORD: usize = 8 << 10;

/// The running kernel's release.
pub fn release() -> String {
    uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the guest is.
pub fn info() -> Result<InfoResponse, Status> {
    let failed = |error: io::Error| Status::internal(format!("failed to read /proc: {error}"));
    let memory = fs::read_to_string("/proc/meminfo").map_err(failed)?;
    let own = fs::read_to_string("/proc/self/status").map_err(failed)?;
    let cpus = std::thread::available_parallelism().map_err(failed)?;
    Ok(InfoResponse {
        agent_version: VERSION.to_owned(),
        kernel_release: release(),
        cpus: cpus.get() as u32,
        memory_bytes: kibibytes(&memory, "MemTotal:"),
        memory_available_bytes: kibibytes(&memory, "MemAvailable:"),
        agent_resident_bytes: kibibytes(&own, "VmRSS:"),
        clock: Some(SystemTime::now().into()),
    })
}

/// The number after `key`, in bytes; the kernel writes it in KiB.
fn kibibytes(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok();
    text.lines().find_map(number).unwrap_or(0) * 1024
}

/// The kernel log, as `dmesg` would show it, in pieces.
pub fn log() -> Result<Vec<String>, Status> {
    let failed = |error: io::Error| Status::internal(format!("failed to read /dev/kmsg: {error}"));
    let mut kmsg =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").map_err(failed)?;
    let mut pieces = vec![String::new()];
    let mut record = vec![0; LONGEST_RECORD];
    loop {
        match kmsg.read(&mut record) {
            Ok(length) => {
                let line = line(&String::from_utf8_lossy(&record[..length]));
                match pieces.last_mut() {
                    Some(piece) if piece.len() + line.len() <= PIECE => piece.push_str(&line),
                    _ => pieces.push(line),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(pieces),
            // Records were overwritten while they were read: go on with the next.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// `priority,sequence,microseconds,flags;text` as `[seconds] text`.
fn line(record: &str) -> String {
    let (head, text) = record.split_once(';').unwrap_or(("", record));
    let text = text.lines().next().unwrap_or("");
    let at: u64 = head.split(',').nth(2).and_then(|at| at.parse().ok()).unwrap_or(0);
    format!("[{:5}.{:06}] {text}\n", at / 1_000_000, at % 1_000_000)
}

/// Steps the wall clock.
pub fn set_clock(seconds: i64, nanos: i32) -> Result<(), Status> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanos.into()))
        .map_err(|errno| Status::invalid_argument(format!("failed to set the clock: {}", errno.desc())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_dmesg_shows_it() {
        assert_eq!(
            line("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n"),
            "[    5.140900] NET: Registered\n"
        );
    }

    #[test]
    fn this_machine_describes_itself() {
        let info = info().unwrap();
        assert!(info.cpus > 0 && info.memory_bytes > info.agent_resident_bytes);
        assert!(info.agent_resident_bytes > 0);
    }
}
