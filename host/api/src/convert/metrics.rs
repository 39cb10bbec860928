//! cgroup v2 files of the guest as containerd's metrics. A guest's text: what does not parse counts as 0.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;
use theca_controller::agent::CgroupFiles;
use theca_proto::io::containerd::cgroups::v2::{
    CpuStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, PidsStat,
};
use theca_proto::type_url;

/// Most devices listed.
const MAX_DEVICES: usize = 64;

/// The metrics, packed as Stats answers them.
pub fn wire(files: &CgroupFiles) -> Any {
    Any { type_url: type_url::CGROUP_METRICS.into(), value: metrics(files).encode_to_vec() }
}

/// The metrics themselves.
pub fn metrics(files: &CgroupFiles) -> Metrics {
    let files: Files<'_> = Files(files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect());
    Metrics {
        pids: Some(PidsStat { current: files.number("pids.current"), limit: files.limit("pids.max", 0) }),
        cpu: Some(cpu(&files.table("cpu.stat"))),
        memory: Some(memory(&files)),
        memory_events: Some(events(&files.table("memory.events"))),
        io: Some(IoStat {
            usage: files.text("io.stat").lines().take(MAX_DEVICES).filter_map(device).collect(),
        }),
    }
}

/// Files by name.
struct Files<'a>(HashMap<&'a str, &'a str>);

impl<'a> Files<'a> {
    fn text(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    /// A file that holds a number or `max`.
    fn limit(&self, name: &str, unlimited: u64) -> u64 {
        match self.text(name).trim() {
            "max" => unlimited,
            number => number.parse().unwrap_or(unlimited),
        }
    }

    /// A file of lines `name number`.
    fn table(&self, name: &str) -> Table<'a> {
        let row = |line: &'a str| {
            let (name, number) = line.split_once(' ')?;
            Some((name, number.trim().parse().ok()?))
        };
        Table(self.text(name).lines().filter_map(row).collect())
    }
}

struct Table<'a>(HashMap<&'a str, u64>);

impl Table<'_> {
    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

fn cpu(table: &Table<'_>) -> CpuStat {
    CpuStat {
        usage_usec: table.get("usage_usec"),
        user_usec: table.get("user_usec"),
        system_usec: table.get("system_usec"),
        nr_periods: table.get("nr_periods"),
        nr_throttled: table.get("nr_throttled"),
        throttled_usec: table.get("throttled_usec"),
    }
}

fn memory(files: &Files<'_>) -> MemoryStat {
    let table = files.table("memory.stat");
    MemoryStat {
        anon: table.get("anon"),
        file: table.get("file"),
        kernel_stack: table.get("kernel_stack"),
        slab: table.get("slab"),
        sock: table.get("sock"),
        shmem: table.get("shmem"),
        file_mapped: table.get("file_mapped"),
        file_dirty: table.get("file_dirty"),
        file_writeback: table.get("file_writeback"),
        anon_thp: table.get("anon_thp"),
        inactive_anon: table.get("inactive_anon"),
        active_anon: table.get("active_anon"),
        inactive_file: table.get("inactive_file"),
        active_file: table.get("active_file"),
        unevictable: table.get("unevictable"),
        slab_reclaimable: table.get("slab_reclaimable"),
        slab_unreclaimable: table.get("slab_unreclaimable"),
        pgfault: table.get("pgfault"),
        pgmajfault: table.get("pgmajfault"),
        usage: files.number("memory.current"),
        usage_limit: files.limit("memory.max", u64::MAX),
        swap_usage: files.number("memory.swap.current"),
        swap_limit: files.limit("memory.swap.max", u64::MAX),
        max_usage: files.number("memory.peak"),
    }
}

fn events(table: &Table<'_>) -> MemoryEvents {
    MemoryEvents {
        low: table.get("low"),
        high: table.get("high"),
        max: table.get("max"),
        oom: table.get("oom"),
        oom_kill: table.get("oom_kill"),
    }
}

/// A line of `io.stat`: `254:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn device(line: &str) -> Option<IoEntry> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let counters: HashMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
    let counter = |name| counters.get(name).and_then(|number| number.parse().ok()).unwrap_or(0);
    Some(IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: counter("rbytes"),
        wbytes: counter("wbytes"),
        rios: counter("rios"),
        wios: counter("wios"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> CgroupFiles {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn the_files_of_a_container_are_its_metrics() {
        let metrics = metrics(&files(&[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1024\nfile 2048\n"),
            ("memory.events", "low 0\noom_kill 2\n"),
            ("pids.current", "3\n"),
            ("pids.max", "100\n"),
            ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ]));
        assert_eq!(metrics.cpu.unwrap().usage_usec, 1500);
        let memory = metrics.memory.unwrap();
        assert_eq!(
            (memory.usage, memory.usage_limit, memory.anon, memory.file),
            (4096, u64::MAX, 1024, 2048)
        );
        assert_eq!(metrics.memory_events.unwrap().oom_kill, 2);
        assert_eq!(metrics.pids.unwrap(), PidsStat { current: 3, limit: 100 });
        let disk = IoEntry { major: 254, minor: 0, rbytes: 10, wbytes: 20, rios: 1, wios: 2 };
        assert_eq!(metrics.io.unwrap().usage, [disk]);
    }

    #[test]
    fn nonsense_from_the_guest_counts_as_nothing() {
        let metrics = metrics(&files(&[
            ("cpu.stat", "usage_usec minus one\n\n \nuser_usec"),
            ("pids.current", "99999999999999999999999"),
            ("io.stat", "x:y\n:\n\n254:0 rbytes\n"),
        ]));
        assert_eq!(metrics.cpu.unwrap(), CpuStat::default());
        assert_eq!(metrics.pids.unwrap().current, 0);
        assert_eq!(metrics.io.unwrap().usage, [IoEntry { major: 254, ..IoEntry::default() }]);
    }
}
