//! What a guest has several of: disks, sizes of huge pages, RDMA devices, network interfaces. It names no more than are believed.

use theca_proto::io::containerd::cgroups::v2::{HugeTlbStat, IoEntry, NetworkStat, RdmaEntry};

use super::files::{Files, assignments};

/// Most devices listed.
const MAX_DEVICES: usize = 64;
/// Most network interfaces listed.
pub const MAX_INTERFACES: usize = 64;
/// Most sizes of huge pages listed; x86 has two.
pub const MAX_PAGE_SIZES: usize = 8;
/// Longest name of an interface or of a page size, in characters; Linux has 15.
pub const MAX_NAME: usize = 15;
/// Longest name of an RDMA device; Linux has 63.
const MAX_RDMA_NAME: usize = 63;

/// `io.stat`.
pub fn disks(text: &str) -> Vec<IoEntry> {
    text.lines().take(MAX_DEVICES).filter_map(disk).collect()
}

/// `254:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn disk(line: &str) -> Option<IoEntry> {
    let (number, counters) = line.split_once(' ').unwrap_or((line, ""));
    let (major, minor) = number.split_once(':')?;
    let counters = assignments(counters);
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

/// `rdma.current` or `rdma.max`.
pub fn rdma(text: &str) -> Vec<RdmaEntry> {
    text.lines().take(MAX_DEVICES).filter_map(rdma_device).collect()
}

/// `mlx4_0 hca_handle=2 hca_object=max`.
fn rdma_device(line: &str) -> Option<RdmaEntry> {
    let (device, counters) = line.split_once(' ')?;
    let counters = assignments(counters);
    let counter = |name| match counters.get(name).copied() {
        Some("max") => u32::MAX,
        number => number.and_then(|number| number.parse().ok()).unwrap_or(0),
    };
    Some(RdmaEntry {
        device: printable(device, MAX_RDMA_NAME),
        hca_handles: counter("hca_handle"),
        hca_objects: counter("hca_object"),
    })
}

/// `hugetlb.2MB.current` and `hugetlb.2MB.max`, of each size that there is, the sizes in the order of their names.
pub fn huge_pages(files: &Files<'_>) -> Vec<HugeTlbStat> {
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

/// `net/dev`, as interfaces rather than lines: its titles are none.
pub fn interfaces(text: &str) -> Vec<NetworkStat> {
    text.lines().filter_map(interface).take(MAX_INTERFACES).collect()
}

/// The name and eight counters of what was received, then eight of what was sent. The titles have no colon.
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
    Some(NetworkStat {
        name: printable(name.trim(), MAX_NAME),
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

/// A guest's name, which may be anything.
fn printable(name: &str, longest: usize) -> String {
    name.chars().filter(|c| !c.is_control()).take(longest).collect()
}
