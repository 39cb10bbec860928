//! What a process uses, as the host's kernel counts it.

use std::fs;
use std::time::Duration;

/// Of the kernel's accounts for user space, a second: USER_HZ, the same on all machines that Theca runs on.
const TICKS: u64 = 100;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is its own or mapped from files, in bytes.
    pub resident_bytes: u64,
    /// Time that it had on processors, in user space and in the kernel.
    pub cpu: Duration,
}

impl Usage {
    /// Of the process `pid`; nothing of one that is gone.
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Self { resident_bytes: resident(&read("status")), cpu: processor_time(&read("stat")) }
    }
}

fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Fields 14 and 15 of proc_pid_stat(5), in ticks. The name before them can have any character but is in parentheses.
fn processor_time(stat: &str) -> Duration {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_micros(ticks * 1_000_000 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_name_that_misleads_is_read() {
        let stat = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5";
        assert_eq!(processor_time(stat), Duration::from_secs(2));
    }

    #[test]
    fn this_process_uses_something_and_one_that_is_gone_nothing() {
        assert!(Usage::of(std::process::id()).resident_bytes > 100_000);
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }
}
