//! How much this machine has for sandboxes: processors and memory.

use std::fs;

use super::report::{Finding, Verdict, bad, ok};
use super::{DEFAULT_MEMORY, memory, processors};
use crate::spec::limits::MOST_CPUS;

/// What keeper and VMM take beside their guest's memory, generously.
const BESIDE_GUEST: u64 = 8 << 20;

/// Processors, and how many of them a sandbox can have.
pub fn cpus() -> Finding {
    let ours = processors();
    let there = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    ok("processors", count(ours, there.and_then(|there| usize::try_from(there).ok()).unwrap_or(ours)))
}

fn count(ours: usize, there: usize) -> String {
    let most = ours.min(MOST_CPUS as usize);
    let of = if there > ours { format!(" of {there} may be used") } else { String::new() };
    format!("{ours}{of}; a sandbox has 1, and at most {most} with --cpus")
}

/// Memory, and how many sandboxes find room in what is free of it.
pub fn ram() -> Finding {
    let name = "memory";
    let Some(there) = memory() else {
        return bad(name, Verdict::Warning, "it cannot be told", "look at /proc/meminfo");
    };
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let (found, room) = room(there, free.unwrap_or(there));
    if room > 0 {
        return ok(name, found);
    }
    bad(name, Verdict::Warning, found, "end something, or give sandboxes less with --memory (48m at least)")
}

/// The sentence, and how many sandboxes fit even if each uses all of its memory.
fn room(there: u64, free: u64) -> (String, u64) {
    let room = free / (DEFAULT_MEMORY + BESIDE_GUEST);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let (there, free, each) = (mib(there), mib(free), mib(DEFAULT_MEMORY));
    let sandboxes = if room == 1 { "sandbox" } else { "sandboxes" };
    (format!("{there}, {free} of it available: room for {room} {sandboxes} of {each}"), room)
}

/// What programs can have without others giving something back, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_as_what_it_means_for_sandboxes() {
        let (found, room) = room(4096 << 20, 1024 << 20);
        assert_eq!(found, "4096 MiB, 1024 MiB of it available: room for 3 sandboxes of 256 MiB");
        assert_eq!(room, 3);
        assert_eq!(super::room(256 << 20, 200 << 20).1, 0);
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn processors_are_told_as_what_a_sandbox_can_have() {
        assert_eq!(count(4, 4), "4; a sandbox has 1, and at most 4 with --cpus");
        assert_eq!(count(2, 8), "2 of 8 may be used; a sandbox has 1, and at most 2 with --cpus");
        assert_eq!(count(64, 64), "64; a sandbox has 1, and at most 32 with --cpus");
    }
}
