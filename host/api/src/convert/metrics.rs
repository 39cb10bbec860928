//! cgroup v2 files and network interfaces of the guest as containerd's metrics. A guest's text: what does not parse counts as 0.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;
use theca_controller::agent::CgroupFiles;
use theca_proto::io::containerd::cgroups::v2::{
    CpuStat, HugeTlbStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, NetworkStat, PidsStat,
};
use theca_proto::type_url;

/// Most devices listed.
const MAX_DEVICES: usize = 64;
/// Most network interfaces listed.
const MAX_INTERFACES: usize = 64;
/// Most sizes of huge pages listed; x86 has two.
const MAX_PAGE_SIZES: usize = 8;
/// Longest name of an interface or of a page size, in characters; Linux has 15.
const MAX_NAME: usize = 15;

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
        hugetlb: huge_pages(&files),
        network: files.text("net/dev").lines().filter_map(interface).take(MAX_INTERFACES).collect(),
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

/// `hugetlb.2MB.current` and `hugetlb.2MB.max`, of each size that there is.
fn huge_pages(files: &Files<'_>) -> Vec<HugeTlbStat> {
    let size = |name: &str| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        // `2MB.rsvd` is what was reserved of it.
        let plain = size.len() <= MAX_NAME && size.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then(|| size.to_owned())
    };
    let mut sizes: Vec<String> = files.0.keys().filter_map(|name| size(name)).collect();
    sizes.sort();
    sizes.truncate(MAX_PAGE_SIZES);
    let counted = sizes.into_iter().map(|pagesize| HugeTlbStat {
        current: files.number(&format!("hugetlb.{pagesize}.current")),
        max: files.limit(&format!("hugetlb.{pagesize}.max"), u64::MAX),
        pagesize,
    });
    counted.collect()
}

/// A line of `net/dev`: the name and eight counters of what was received, then eight of what was sent. The titles have no
/// colon.
fn interface(line: &str) -> Option<NetworkStat> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> =
        counters.split_ascii_whitespace().map_while(|number| number.parse().ok()).take(16).collect();
    let [
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        _,
        _,
        _,
        _,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
        ..,
    ] = counters[..]
    else {
        return None;
    };
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    Some(NetworkStat {
        name,
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
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
            ("hugetlb.2MB.current", "4194304\n"),
            ("hugetlb.2MB.max", "max\n"),
            ("hugetlb.2MB.rsvd.current", "8\n"),
            (
                "net/dev",
                "Inter-|   Receive                                                |  Transmit\n \
                 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                 lo:     104       2    0    0    0     0          0         0      104       2    0    0    0     0       0          0\n  \
                 eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
            ),
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
        let large = HugeTlbStat { current: 4 << 20, max: u64::MAX, pagesize: "2MB".into() };
        assert_eq!(metrics.hugetlb, [large]);
        let loopback = NetworkStat {
            name: "lo".into(),
            rx_bytes: 104,
            rx_packets: 2,
            tx_bytes: 104,
            tx_packets: 2,
            ..Default::default()
        };
        let ethernet = NetworkStat {
            name: "eth0".into(),
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 9,
            tx_packets: 10,
            tx_errors: 11,
            tx_dropped: 12,
        };
        assert_eq!(metrics.network, [loopback, ethernet]);
    }

    #[test]
    fn a_guest_names_no_more_interfaces_and_pages_than_are_believed() {
        let counters = "1 ".repeat(16);
        let mut all: CgroupFiles = (0..100)
            .flat_map(|size| {
                [
                    (format!("hugetlb.{size}GB.current"), "1".into()),
                    (format!("hugetlb.{size}\n.current"), "1".into()),
                ]
            })
            .collect();
        all.push((format!("hugetlb.{}.current", "9".repeat(1000)), "1".into()));
        let nonsense = "x\n:\n::\neth1:\neth2: 1 2 3\neth3: 1 2 3 4 5 6 7 8 9 10 11 -12\n";
        let long = format!("\x1b[2J{}: {counters}\n", "é".repeat(1000));
        let many = format!("eth:{counters}\n").repeat(1000);
        all.push(("net/dev".into(), format!("{nonsense}{long}{many}")));
        let metrics = metrics(&all);
        assert_eq!(metrics.hugetlb.len(), MAX_PAGE_SIZES);
        assert!(metrics.hugetlb.iter().all(|pages| pages.pagesize.ends_with("GB")));
        assert_eq!(metrics.network.len(), MAX_INTERFACES);
        assert_eq!(metrics.network[0].name, format!("[2J{}", "é".repeat(MAX_NAME - 3)));
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
