use theca_proto::io::containerd::cgroups::v2::{
    HugeTlbStat, IoEntry, NetworkStat, PsiData, PsiStats, RdmaEntry,
};

use super::lists::{MAX_INTERFACES, MAX_NAME, MAX_PAGE_SIZES};
use super::*;

fn files(files: &[(&str, &str)]) -> CgroupFiles {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// A container's `memory.stat` as Linux 6.12 wrote it; where it had counted nothing, with numbers of our own.
const MEMORY_STAT: &str = "\
anon 122880
file 8515584
kernel 1073152
kernel_stack 16384
pagetables 81920
sec_pagetables 0
percpu 1116
sock 4096
vmalloc 8192
shmem 8192
file_mapped 1523712
file_dirty 8192
file_writeback 16384
swapcached 0
anon_thp 2097152
file_thp 0
shmem_thp 0
inactive_anon 65536
active_anon 8192
inactive_file 7081984
active_file 1433600
unevictable 20480
slab_reclaimable 820872
slab_unreclaimable 115248
slab 936120
workingset_refault_anon 3
workingset_refault_file 40
workingset_activate_anon 5
workingset_activate_file 60
workingset_restore_anon 0
workingset_restore_file 0
workingset_nodereclaim 7
pgdemote_kswapd 0
pgdemote_direct 0
pgdemote_khugepaged 0
pgscan 801
pgsteal 702
pgscan_kswapd 0
pgscan_direct 0
pgscan_khugepaged 0
pgsteal_kswapd 0
pgsteal_direct 0
pgsteal_khugepaged 0
pgfault 1543
pgmajfault 17
pgrefill 90
pgactivate 348
pgdeactivate 11
pglazyfree 12
pglazyfreed 13
swpin_zero 0
swpout_zero 0
thp_fault_alloc 14
thp_collapse_alloc 15
thp_swpout 0
thp_swpout_fallback 0
";

const CPU_STAT: &str = "\
usage_usec 1818846
user_usec 334179
system_usec 1484667
nice_usec 0
nr_periods 41
nr_throttled 34
throttled_usec 1517234
nr_bursts 2
burst_usec 345
";

const CPU_PRESSURE: &str = "\
some avg10=13.57 avg60=2.64 avg300=0.55 total=1669272
full avg10=13.42 avg60=2.60 avg300=0.55 total=1656708
";

const IO_STAT: &str = "\
254:16 rbytes=0 wbytes=6560768 rios=0 wios=15 dbytes=0 dios=0
254:0 rbytes=1945600 wbytes=0 rios=22 wios=0 dbytes=0 dios=0
";

const IO_PRESSURE: &str = "\
some avg10=2.17 avg60=0.39 avg300=0.08 total=246241
full avg10=2.17 avg60=0.39 avg300=0.08 total=246241
";

/// Of a container that was throttled and wrote to its disk.
fn of_a_guest() -> CgroupFiles {
    files(&[
        ("cpu.pressure", CPU_PRESSURE),
        ("cpu.stat", CPU_STAT),
        ("hugetlb.2MB.current", "0\n"),
        ("hugetlb.2MB.events", "max 4\n"),
        ("hugetlb.2MB.events.local", "max 4\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("hugetlb.2MB.rsvd.current", "0\n"),
        ("io.pressure", IO_PRESSURE),
        ("io.stat", IO_STAT),
        ("memory.current", "9908224\n"),
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"),
        ("memory.max", "134217728\n"),
        ("memory.peak", "9961472\n"),
        (
            "memory.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
        ("memory.stat", MEMORY_STAT),
        ("memory.swap.current", "4096\n"),
        ("memory.swap.events", "high 0\nmax 6\nfail 7\n"),
        ("memory.swap.max", "max\n"),
        ("memory.swap.peak", "8192\n"),
        ("pids.current", "2\n"),
        ("pids.max", "100\n"),
    ])
}

#[test]
fn what_a_kernel_of_today_writes_is_counted_in_every_field() {
    let metrics = metrics(&of_a_guest());
    let expected = MemoryStat {
        anon: 122880,
        file: 8515584,
        kernel_stack: 16384,
        slab: 936120,
        sock: 4096,
        shmem: 8192,
        file_mapped: 1523712,
        file_dirty: 8192,
        file_writeback: 16384,
        anon_thp: 2097152,
        inactive_anon: 65536,
        active_anon: 8192,
        inactive_file: 7081984,
        active_file: 1433600,
        unevictable: 20480,
        slab_reclaimable: 820872,
        slab_unreclaimable: 115248,
        pgfault: 1543,
        pgmajfault: 17,
        workingset_refault: 43,
        workingset_activate: 65,
        workingset_nodereclaim: 7,
        pgrefill: 90,
        pgscan: 801,
        pgsteal: 702,
        pgactivate: 348,
        pgdeactivate: 11,
        pglazyfree: 12,
        pglazyfreed: 13,
        thp_fault_alloc: 14,
        thp_collapse_alloc: 15,
        usage: 9908224,
        usage_limit: 134217728,
        swap_usage: 4096,
        swap_limit: u64::MAX,
        max_usage: 9961472,
        swap_max_usage: 8192,
        psi: Some(PsiStats { some: Some(PsiData::default()), full: Some(PsiData::default()) }),
    };
    assert_eq!(metrics.memory.unwrap(), expected);
    let some = PsiData { avg10: 13.57, avg60: 2.64, avg300: 0.55, total: 1669272 };
    let full = PsiData { avg10: 13.42, avg60: 2.60, avg300: 0.55, total: 1656708 };
    let expected = CpuStat {
        usage_usec: 1818846,
        user_usec: 334179,
        system_usec: 1484667,
        nr_periods: 41,
        nr_throttled: 34,
        throttled_usec: 1517234,
        psi: Some(PsiStats { some: Some(some), full: Some(full) }),
        nr_bursts: 2,
        burst_usec: 345,
    };
    assert_eq!(metrics.cpu.unwrap(), expected);
    let io = metrics.io.unwrap();
    let own = IoEntry { major: 254, minor: 16, rbytes: 0, wbytes: 6560768, rios: 0, wios: 15 };
    let image = IoEntry { major: 254, minor: 0, rbytes: 1945600, wbytes: 0, rios: 22, wios: 0 };
    assert_eq!(io.usage, [own, image]);
    let waited = Some(PsiData { avg10: 2.17, avg60: 0.39, avg300: 0.08, total: 246241 });
    assert_eq!(io.psi.unwrap(), PsiStats { some: waited, full: waited });
    assert_eq!(metrics.pids.unwrap(), PidsStat { current: 2, limit: 100 });
    let events = MemoryEvents { low: 0, high: 0, max: 9, oom: 1, oom_kill: 1 };
    assert_eq!(metrics.memory_events.unwrap(), events);
    assert_eq!(metrics.hugetlb, [HugeTlbStat { current: 0, max: u64::MAX, pagesize: "2MB".into() }]);
    assert_eq!((metrics.rdma.unwrap(), metrics.of_2015), (RdmaStat::default(), None));
}

#[test]
fn an_answer_to_stats_has_what_only_2015_has_a_place_for() {
    let wire = wire(&of_a_guest());
    assert_eq!(wire.type_url, "io.containerd.cgroups.v2.Metrics");
    let sent = Metrics::decode(wire.value.as_slice()).unwrap();
    let of_2015 = Of2015 { kernel: 1073152, swap_failcnt: 6, hugetlb_failcnt: vec![4] };
    assert_eq!(sent.of_2015, Some(of_2015));
    assert_eq!(Metrics { of_2015: None, ..sent }, metrics(&of_a_guest()));
}

#[test]
fn rdma_is_counted_by_device() {
    let metrics = metrics(&files(&[
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=0\n"),
        ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n\nx\n"),
    ]));
    let device = |device: &str, hca_handles, hca_objects| RdmaEntry {
        device: device.into(),
        hca_handles,
        hca_objects,
    };
    let expected = RdmaStat {
        current: vec![device("mlx4_0", 2, 2000), device("ocrdma1", 3, 0)],
        limit: vec![device("mlx4_0", 2, u32::MAX)],
    };
    assert_eq!(metrics.rdma.unwrap(), expected);
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
    assert_eq!((memory.usage, memory.usage_limit, memory.anon, memory.file), (4096, u64::MAX, 1024, 2048));
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
        ("rdma.current", "mlx4_0 hca_handle=-1 hca_object=99999999999\n"),
        (
            "cpu.pressure",
            "some avg10=NaN avg60=inf avg300=-1 total=-1\nfull\nsome avg10=1\n full avg10=1\nfull avg10=1e9 avg60=100.00\n",
        ),
    ]));
    let full = PsiData { avg60: 100.0, ..PsiData::default() };
    let psi = Some(PsiStats { some: Some(PsiData::default()), full: Some(full) });
    assert_eq!(metrics.cpu.unwrap(), CpuStat { psi, ..CpuStat::default() });
    assert_eq!(metrics.memory.unwrap().psi, None);
    let device = RdmaEntry { device: "mlx4_0".into(), hca_handles: 0, hca_objects: 0 };
    assert_eq!(metrics.rdma.unwrap().current, [device]);
    assert_eq!(metrics.pids.unwrap().current, 0);
    assert_eq!(metrics.io.unwrap().usage, [IoEntry { major: 254, ..IoEntry::default() }]);
}
