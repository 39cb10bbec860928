//! cgroup v2 files and network interfaces of the guest as containerd's metrics. A guest's text: what does not parse counts as 0.

mod files;
mod lists;

use prost::Message;
use prost_types::Any;
use theca_controller::agent::CgroupFiles;
use theca_proto::io::containerd::cgroups::v2::{
    CpuStat, IoStat, MemoryEvents, MemoryStat, Metrics, Of2015, PidsStat, RdmaStat,
};
use theca_proto::type_url;

use self::files::{Files, Table};

/// The metrics, packed as Stats answers them, with what only a Stats of 2015 has a place for.
pub fn wire(files: &CgroupFiles) -> Any {
    let files = by_name(files);
    let metrics = Metrics { of_2015: Some(of_2015(&files)), ..published(&files) };
    Any { type_url: type_url::CGROUP_METRICS.into(), value: metrics.encode_to_vec() }
}

/// The metrics themselves.
pub fn metrics(files: &CgroupFiles) -> Metrics {
    published(&by_name(files))
}

fn by_name(files: &CgroupFiles) -> Files<'_> {
    Files(files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect())
}

fn published(files: &Files<'_>) -> Metrics {
    Metrics {
        pids: Some(PidsStat { current: files.number("pids.current"), limit: files.limit("pids.max", 0) }),
        cpu: Some(cpu(files)),
        memory: Some(memory(files)),
        rdma: Some(RdmaStat {
            current: lists::rdma(files.text("rdma.current")),
            limit: lists::rdma(files.text("rdma.max")),
        }),
        io: Some(IoStat { usage: lists::disks(files.text("io.stat")), psi: files.pressure("io.pressure") }),
        hugetlb: lists::huge_pages(files),
        memory_events: Some(events(&files.table("memory.events"))),
        network: lists::interfaces(files.text("net/dev")),
        of_2015: None,
    }
}

fn of_2015(files: &Files<'_>) -> Of2015 {
    let hits = |size: &str| files.table(&format!("hugetlb.{size}.events")).get("max");
    Of2015 {
        kernel: files.table("memory.stat").get("kernel"),
        swap_failcnt: files.table("memory.swap.events").get("max"),
        hugetlb_failcnt: lists::huge_pages(files).iter().map(|pages| hits(&pages.pagesize)).collect(),
    }
}

fn cpu(files: &Files<'_>) -> CpuStat {
    let table = files.table("cpu.stat");
    CpuStat {
        usage_usec: table.get("usage_usec"),
        user_usec: table.get("user_usec"),
        system_usec: table.get("system_usec"),
        nr_periods: table.get("nr_periods"),
        nr_throttled: table.get("nr_throttled"),
        throttled_usec: table.get("throttled_usec"),
        psi: files.pressure("cpu.pressure"),
        nr_bursts: table.get("nr_bursts"),
        burst_usec: table.get("burst_usec"),
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
        workingset_refault: table.sum(["workingset_refault_anon", "workingset_refault_file"]),
        workingset_activate: table.sum(["workingset_activate_anon", "workingset_activate_file"]),
        workingset_nodereclaim: table.get("workingset_nodereclaim"),
        pgrefill: table.get("pgrefill"),
        pgscan: table.get("pgscan"),
        pgsteal: table.get("pgsteal"),
        pgactivate: table.get("pgactivate"),
        pgdeactivate: table.get("pgdeactivate"),
        pglazyfree: table.get("pglazyfree"),
        pglazyfreed: table.get("pglazyfreed"),
        thp_fault_alloc: table.get("thp_fault_alloc"),
        thp_collapse_alloc: table.get("thp_collapse_alloc"),
        usage: files.number("memory.current"),
        usage_limit: files.limit("memory.max", u64::MAX),
        swap_usage: files.number("memory.swap.current"),
        swap_limit: files.limit("memory.swap.max", u64::MAX),
        max_usage: files.number("memory.peak"),
        swap_max_usage: files.number("memory.swap.peak"),
        psi: files.pressure("memory.pressure"),
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

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
