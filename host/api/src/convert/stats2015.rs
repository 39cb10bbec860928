//! Counters in the shape that they had in 2015, from those of a cgroup v2.
//!
//! What cgroup v2 does not count stays empty: usage by processor; queues, times and merges of block devices; the most
//! huge pages that there were; the most memory that the kernel had taken and how often it got none, for v2 has one limit for
//! all memory.

use std::collections::HashMap;
use std::iter;
use std::time::UNIX_EPOCH;

use prost::Message;
use theca_controller::node::Error;
use theca_controller::node::keeper::Sample;
use theca_proto::io::containerd::cgroups::v2::{
    CpuStat, HugeTlbStat, IoEntry, MemoryEvents, MemoryStat, Metrics, NetworkStat, Of2015,
};
use theca_proto::types::{
    BlkioStats, BlkioStatsEntry, CgroupStats, CpuStats, CpuUsage, HugetlbStats, MemoryData, MemoryStats,
    NetworkStats, Stats, ThrottlingData,
};

/// Bytes of a sector, whatever the disk's own are.
const SECTOR: u64 = 512;

/// A sample.
pub fn stats(sample: &Sample) -> Result<Stats, Error> {
    let metrics = Metrics::decode(sample.metrics.value.as_slice())
        .map_err(|error| Error::Internal(format!("the sandbox's counters are malformed: {error}")))?;
    let (events, own) = (metrics.memory_events.unwrap_or_default(), metrics.of_2015.as_ref());
    Ok(Stats {
        network_stats: metrics.network.into_iter().map(interface).collect(),
        cgroup_stats: Some(CgroupStats {
            cpu_stats: Some(cpu(&metrics.cpu.unwrap_or_default())),
            memory_stats: Some(memory(&metrics.memory.unwrap_or_default(), &events, own)),
            blkio_stats: Some(blkio(&metrics.io.unwrap_or_default().usage)),
            hugetlb_stats: huge_pages(metrics.hugetlb, own),
        }),
        timestamp: sample.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    })
}

fn interface(interface: NetworkStat) -> NetworkStats {
    NetworkStats {
        name: interface.name,
        rx_bytes: interface.rx_bytes,
        rx_packets: interface.rx_packets,
        rx_errors: interface.rx_errors,
        rx_dropped: interface.rx_dropped,
        tx_bytes: interface.tx_bytes,
        tx_packets: interface.tx_packets,
        tx_errors: interface.tx_errors,
        tx_dropped: interface.tx_dropped,
    }
}

/// By size.
fn huge_pages(sizes: Vec<HugeTlbStat>, own: Option<&Of2015>) -> HashMap<String, HugetlbStats> {
    let hits = own.into_iter().flat_map(|own| own.hugetlb_failcnt.iter().copied());
    let counted = sizes.into_iter().zip(hits.chain(iter::repeat(0)));
    let entry = |(pages, failcnt): (HugeTlbStat, u64)| {
        (pages.pagesize, HugetlbStats { usage: pages.current, failcnt, ..HugetlbStats::default() })
    };
    counted.map(entry).collect()
}

fn cpu(cpu: &CpuStat) -> CpuStats {
    let nanoseconds = |microseconds: u64| microseconds.saturating_mul(1000);
    CpuStats {
        cpu_usage: Some(CpuUsage {
            total_usage: nanoseconds(cpu.usage_usec),
            percpu_usage: Vec::new(),
            usage_in_kernelmode: nanoseconds(cpu.system_usec),
            usage_in_usermode: nanoseconds(cpu.user_usec),
        }),
        throttling_data: Some(ThrottlingData {
            periods: cpu.nr_periods,
            throttled_periods: cpu.nr_throttled,
            throttled_time: nanoseconds(cpu.throttled_usec),
        }),
    }
}

/// `own` is missing from a keeper of an older release: then of the kernel's memory the two largest parts are told.
fn memory(memory: &MemoryStat, events: &MemoryEvents, own: Option<&Of2015>) -> MemoryStats {
    let kernel = own.map_or(memory.kernel_stack.saturating_add(memory.slab), |own| own.kernel);
    let stats = [
        ("cache", memory.file),
        ("rss", memory.anon),
        ("rss_huge", memory.anon_thp),
        ("mapped_file", memory.file_mapped),
        ("dirty", memory.file_dirty),
        ("writeback", memory.file_writeback),
        ("shmem", memory.shmem),
        ("swap", memory.swap_usage),
        ("pgfault", memory.pgfault),
        ("pgmajfault", memory.pgmajfault),
        ("inactive_anon", memory.inactive_anon),
        ("active_anon", memory.active_anon),
        ("inactive_file", memory.inactive_file),
        ("active_file", memory.active_file),
        ("unevictable", memory.unevictable),
    ];
    MemoryStats {
        cache: memory.file,
        usage: Some(MemoryData { usage: memory.usage, max_usage: memory.max_usage, failcnt: events.max }),
        swap_usage: Some(MemoryData {
            usage: memory.swap_usage,
            max_usage: memory.swap_max_usage,
            failcnt: own.map_or(0, |own| own.swap_failcnt),
        }),
        kernel_usage: Some(MemoryData { usage: kernel, ..MemoryData::default() }),
        stats: stats.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn blkio(devices: &[IoEntry]) -> BlkioStats {
    let entry = |device: &IoEntry, op: &str, value| BlkioStatsEntry {
        major: device.major,
        minor: device.minor,
        op: op.into(),
        value,
    };
    let both = |read: fn(&IoEntry) -> u64, written: fn(&IoEntry) -> u64| {
        let of = |device| [entry(device, "Read", read(device)), entry(device, "Write", written(device))];
        devices.iter().flat_map(of).collect()
    };
    BlkioStats {
        io_service_bytes_recursive: both(|device| device.rbytes, |device| device.wbytes),
        io_serviced_recursive: both(|device| device.rios, |device| device.wios),
        // In both directions together, without a word for it.
        sectors_recursive: devices.iter().map(|device| entry(device, "", sectors(device))).collect(),
        ..BlkioStats::default()
    }
}

fn sectors(device: &IoEntry) -> u64 {
    device.rbytes.saturating_add(device.wbytes) / SECTOR
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use theca_controller::node::values::Payload;
    use theca_proto::io::containerd::cgroups::v2::IoStat;

    use super::*;

    fn sample(metrics: &Metrics) -> Sample {
        let value = metrics.encode_to_vec();
        let metrics = Payload { type_url: theca_proto::type_url::CGROUP_METRICS.into(), value };
        Sample { at: SystemTime::UNIX_EPOCH + Duration::from_secs(77), metrics }
    }

    #[test]
    fn the_counters_of_a_cgroup_have_the_shape_of_2015() {
        let disk = IoEntry { major: 254, minor: 0, rbytes: 512, wbytes: 4096, rios: 1, wios: 2 };
        let stats = stats(&sample(&Metrics {
            cpu: Some(CpuStat {
                usage_usec: 3,
                user_usec: 2,
                system_usec: 1,
                nr_throttled: 4,
                ..Default::default()
            }),
            memory: Some(MemoryStat {
                usage: 100,
                max_usage: 200,
                file: 30,
                anon: 40,
                anon_thp: 12,
                swap_usage: 50,
                swap_max_usage: 60,
                ..Default::default()
            }),
            memory_events: Some(MemoryEvents { max: 5, ..Default::default() }),
            io: Some(IoStat { usage: vec![disk], psi: None }),
            hugetlb: vec![
                HugeTlbStat { current: 0, max: 9, pagesize: "1GB".into() },
                HugeTlbStat { current: 4096, max: 9, pagesize: "2MB".into() },
            ],
            of_2015: Some(Of2015 { kernel: 70, swap_failcnt: 6, hugetlb_failcnt: vec![0, 8] }),
            network: vec![NetworkStat {
                name: "lo".into(),
                rx_bytes: 1,
                rx_packets: 2,
                rx_errors: 3,
                rx_dropped: 4,
                tx_bytes: 5,
                tx_packets: 6,
                tx_errors: 7,
                tx_dropped: 8,
            }],
            ..Default::default()
        }))
        .unwrap();
        assert_eq!(stats.timestamp, 77);
        let loopback = NetworkStats {
            name: "lo".into(),
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 5,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(stats.network_stats, [loopback]);
        let cgroup = stats.cgroup_stats.unwrap();
        assert_eq!(cgroup.hugetlb_stats["1GB"], HugetlbStats::default());
        assert_eq!(cgroup.hugetlb_stats["2MB"], HugetlbStats { usage: 4096, max_usage: 0, failcnt: 8 });
        let cpu = cgroup.cpu_stats.unwrap();
        let usage = cpu.cpu_usage.unwrap();
        assert_eq!(
            (usage.total_usage, usage.usage_in_usermode, usage.usage_in_kernelmode),
            (3000, 2000, 1000)
        );
        assert_eq!(cpu.throttling_data.unwrap().throttled_periods, 4);
        let memory = cgroup.memory_stats.unwrap();
        assert_eq!(memory.usage.unwrap(), MemoryData { usage: 100, max_usage: 200, failcnt: 5 });
        assert_eq!(memory.swap_usage.unwrap(), MemoryData { usage: 50, max_usage: 60, failcnt: 6 });
        assert_eq!(memory.kernel_usage.unwrap(), MemoryData { usage: 70, ..Default::default() });
        assert_eq!((memory.cache, memory.stats["rss"], memory.stats["rss_huge"]), (30, 40, 12));
        assert_eq!(memory.stats["swap"], 50);
        let blkio = cgroup.blkio_stats.unwrap();
        let told = |entries: &[BlkioStatsEntry]| {
            let entry = |entry: &BlkioStatsEntry| (entry.major, entry.op.clone(), entry.value);
            entries.iter().map(entry).collect::<Vec<_>>()
        };
        let disk = |op: &str, value| (254, op.to_owned(), value);
        assert_eq!(told(&blkio.io_service_bytes_recursive), [disk("Read", 512), disk("Write", 4096)]);
        assert_eq!(told(&blkio.io_serviced_recursive), [disk("Read", 1), disk("Write", 2)]);
        assert_eq!(told(&blkio.sectors_recursive), [disk("", 9)]);
    }

    #[test]
    fn the_counters_of_an_older_keeper_are_taken_as_well() {
        let stats = stats(&sample(&Metrics {
            memory: Some(MemoryStat { kernel_stack: 10, slab: 20, ..Default::default() }),
            hugetlb: vec![HugeTlbStat { current: 4096, max: 9, pagesize: "2MB".into() }],
            ..Default::default()
        }));
        let cgroup = stats.unwrap().cgroup_stats.unwrap();
        assert_eq!(cgroup.memory_stats.unwrap().kernel_usage.unwrap().usage, 30);
        assert_eq!(cgroup.hugetlb_stats["2MB"].usage, 4096);
    }

    #[test]
    fn counters_that_are_none_are_an_error_and_no_zeros() {
        let mut sample = sample(&Metrics::default());
        sample.metrics.value = b"\xff\xff".to_vec();
        assert!(stats(&sample).is_err());
    }
}
