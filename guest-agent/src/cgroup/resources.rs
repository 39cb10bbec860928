//! The spec's `linux.resources` as cgroup v2 files.
//!
//! The spec speaks cgroup v1; what has no meaning in v2 is refused by name. Pure: writing the files is [`super`]'s.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use crate::oci::SpecError;

/// A file of a cgroup and what to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Such as `memory.max`.
    pub file: String,
    /// One line.
    pub value: String,
}

type Settings = Vec<Setting>;

/// Parses the JSON of an update.
pub fn parse(json: &[u8]) -> Result<LinuxResources, SpecError> {
    serde_json::from_slice(json).map_err(|source| SpecError::Parse { what: "resources", source })
}

/// A new limit of memory that is to be set only if what is in use fits below it. Says nothing for a container that is being
/// created: it uses none.
pub fn checked_limit(resources: &LinuxResources) -> Option<u64> {
    let memory = resources.memory().as_ref().filter(|memory| memory.check_before_update() == Some(true))?;
    memory.limit().filter(|limit| *limit > 0).and_then(|limit| u64::try_from(limit).ok())
}

/// Translates everything but devices.
pub fn settings(resources: &LinuxResources) -> Result<Settings, SpecError> {
    let mut settings = Settings::new();
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, &mut settings)?;
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, &mut settings)?;
    }
    if let Some(block_io) = resources.block_io() {
        self::block_io(block_io, &mut settings)?;
    }
    match resources.pids().as_ref().map(|pids| pids.limit()) {
        None | Some(0) => {}
        Some(limit) => set(&mut settings, "pids.max", limit_or_max(limit)),
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        if !size.chars().all(|character| character.is_ascii_alphanumeric()) {
            return Err(SpecError::invalid(
                "linux.resources.hugepageLimits",
                format!("{size} is no page size"),
            ));
        }
        set(&mut settings, &format!("hugetlb.{size}.max"), limit_or_max(limit.limit()));
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let count = |count: Option<u32>| count.map_or("max".to_owned(), |count| count.to_string());
        let (handles, objects) = (count(limit.hca_handles()), count(limit.hca_objects()));
        set(&mut settings, "rdma.max", format!("{device} hca_handle={handles} hca_object={objects}"));
    }
    if let Some(network) = resources.network() {
        let priorities = network.priorities().as_ref().is_some_and(|priorities| !priorities.is_empty());
        if network.class_id().unwrap_or(0) != 0 || priorities {
            return Err(SpecError::unsupported(
                "linux.resources.network",
                "cgroup v2 has no such controller",
            ));
        }
    }
    // Last, because it says what the other fields only paraphrase.
    for (file, value) in resources.unified().iter().flatten() {
        let field = || format!("linux.resources.unified: {file}");
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
            return Err(SpecError::invalid(field(), "it is not the file of a controller"));
        }
        set(&mut settings, file, value.clone());
    }
    Ok(settings)
}

fn cpu(cpu: &LinuxCpu, settings: &mut Settings) -> Result<(), SpecError> {
    if cpu.realtime_runtime().unwrap_or(0) != 0 || cpu.realtime_period().unwrap_or(0) != 0 {
        return Err(SpecError::unsupported(
            "linux.resources.cpu.realtimeRuntime",
            "cgroup v2 has no such limit",
        ));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        set(settings, "cpu.weight", weight_of_shares(shares).to_string());
    }
    if let Some(idle) = cpu.idle() {
        set(settings, "cpu.idle", idle.to_string());
    }
    let period = cpu.period().filter(|period| *period != 0);
    match (cpu.quota().filter(|quota| *quota != 0), period) {
        (None, None) => {}
        (Some(quota), Some(period)) => set(settings, "cpu.max", format!("{} {period}", limit_or_max(quota))),
        (Some(quota), None) => set(settings, "cpu.max", limit_or_max(quota)),
        (None, Some(period)) => set(settings, "cpu.max", format!("max {period}")),
    }
    if let Some(burst) = cpu.burst() {
        set(settings, "cpu.max.burst", burst.to_string());
    }
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            set(settings, file, list.clone());
        }
    }
    Ok(())
}

/// From shares (2 to 262144, usually 1024) to a weight (1 to 10000, usually 100), on a curve through those three points,
/// as runc and crun have it since 2025.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

fn memory(memory: &LinuxMemory, settings: &mut Settings) -> Result<(), SpecError> {
    let positive = |value: Option<i64>| value.is_some_and(|value| value > 0);
    if positive(memory.kernel()) || positive(memory.kernel_tcp()) {
        return Err(SpecError::unsupported("linux.resources.memory.kernel", "cgroup v2 counts it as memory"));
    }
    if memory.swappiness().is_some() {
        return Err(SpecError::unsupported(
            "linux.resources.memory.swappiness",
            "cgroup v2 has no such setting",
        ));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(SpecError::unsupported("linux.resources.memory.disableOOMKiller", "cgroup v2 cannot"));
    }
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        set(settings, "memory.swap.max", swap_limit(swap, limit)?);
    }
    if let Some(limit) = limit {
        set(settings, "memory.max", limit_or_max(limit));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        set(settings, "memory.low", limit_or_max(reservation));
    }
    Ok(())
}

/// The spec limits memory and swap together, cgroup v2 swap alone.
fn swap_limit(together: i64, limit: Option<i64>) -> Result<String, SpecError> {
    let invalid = |reason| Err(SpecError::invalid("linux.resources.memory.swap", reason));
    match limit {
        _ if together < 0 => Ok("max".to_owned()),
        Some(limit) if limit > 0 && together >= limit => Ok((together - limit).to_string()),
        Some(limit) if limit > 0 => invalid("it is less than the memory limit that it includes"),
        _ => invalid("it needs a memory limit"),
    }
}

fn block_io(block_io: &LinuxBlockIo, settings: &mut Settings) -> Result<(), SpecError> {
    if block_io.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(SpecError::unsupported(
            "linux.resources.blockIO.leafWeight",
            "cgroup v2 has no such weight",
        ));
    }
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        set(settings, "io.weight", format!("default {}", io_weight(weight)));
    }
    for device in block_io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let (major, minor) = (device.major(), device.minor());
            set(settings, "io.weight", format!("{major}:{minor} {}", io_weight(weight)));
        }
    }
    let throttles = [
        ("rbps", block_io.throttle_read_bps_device()),
        ("wbps", block_io.throttle_write_bps_device()),
        ("riops", block_io.throttle_read_iops_device()),
        ("wiops", block_io.throttle_write_iops_device()),
    ];
    for (name, devices) in throttles {
        for device in devices.iter().flatten() {
            let (major, minor, rate) = (device.major(), device.minor(), device.rate());
            set(settings, "io.max", format!("{major}:{minor} {name}={rate}"));
        }
    }
    Ok(())
}

/// From 10..=1000 to 1..=10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

fn limit_or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

fn set(settings: &mut Settings, file: &str, value: String) {
    settings.push(Setting { file: file.to_owned(), value });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<(String, String)>, SpecError> {
        let settings = settings(&parse(json.as_bytes()).unwrap())?;
        Ok(settings.into_iter().map(|setting| (setting.file, setting.value)).collect())
    }

    fn only(json: &str) -> (String, String) {
        let mut all = of(json).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn shares_map_their_minimum_default_and_maximum_to_those_of_weights() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (1, 1), (512, 59)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares} shares");
        }
    }

    #[test]
    fn quota_and_period_are_one_file() {
        assert_eq!(
            only(r#"{"cpu":{"quota":50000,"period":100000}}"#),
            ("cpu.max".into(), "50000 100000".into())
        );
        assert_eq!(only(r#"{"cpu":{"quota":-1}}"#), ("cpu.max".into(), "max".into()));
        assert_eq!(only(r#"{"cpu":{"period":20000}}"#), ("cpu.max".into(), "max 20000".into()));
    }

    #[test]
    fn swap_is_what_the_sum_leaves_beside_memory() {
        let settings = of(r#"{"memory":{"limit":100,"swap":150}}"#).unwrap();
        assert_eq!(settings[0], ("memory.swap.max".into(), "50".into()));
        assert_eq!(settings[1], ("memory.max".into(), "100".into()));
        assert!(of(r#"{"memory":{"limit":100,"swap":50}}"#).is_err());
        assert!(of(r#"{"memory":{"swap":50}}"#).is_err());
    }

    #[test]
    fn a_limit_is_checked_only_when_that_is_asked_for() {
        for (memory, checked) in [
            (r#"{"limit":100,"checkBeforeUpdate":true}"#, Some(100)),
            (r#"{"limit":-1,"checkBeforeUpdate":true}"#, None),
            (r#"{"limit":100,"checkBeforeUpdate":false}"#, None),
            (r#"{"limit":100}"#, None),
        ] {
            let resources = parse(format!(r#"{{"memory":{memory}}}"#).as_bytes()).unwrap();
            assert_eq!(checked_limit(&resources), checked, "{memory}");
        }
    }

    #[test]
    fn what_cgroup_v2_lacks_is_refused_by_name() {
        for (json, name) in [
            (r#"{"memory":{"swappiness":10}}"#, "swappiness"),
            (r#"{"memory":{"kernel":1000}}"#, "memory.kernel"),
            (r#"{"cpu":{"realtimeRuntime":1000}}"#, "realtimeRuntime"),
            (r#"{"network":{"classID":1}}"#, "network"),
        ] {
            let error = of(json).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("not supported"), "{error}");
        }
    }

    #[test]
    fn disks_and_huge_pages_have_limits() {
        let of_disks = r#"{"blockIO":{"weight":500,"weightDevice":[{"major":254,"minor":0,"weight":10}],
            "throttleReadBpsDevice":[{"major":254,"minor":0,"rate":1024}],
            "throttleWriteIOPSDevice":[{"major":254,"minor":0,"rate":7}]}}"#;
        let files = [
            ("io.weight", "default 4950"),
            ("io.weight", "254:0 1"),
            ("io.max", "254:0 rbps=1024"),
            ("io.max", "254:0 wiops=7"),
        ];
        assert_eq!(of(of_disks).unwrap(), files.map(|(file, value)| (file.to_owned(), value.to_owned())));
        let of_pages = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
        assert_eq!(only(of_pages), ("hugetlb.2MB.max".into(), "4194304".into()));
        assert!(of(r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#).is_err());
    }

    #[test]
    fn unified_files_stay_inside_the_cgroup() {
        assert_eq!(only(r#"{"unified":{"memory.high":"1"}}"#), ("memory.high".into(), "1".into()));
        for name in ["../memory.max", "cgroup.procs", "nodots"] {
            assert!(of(&format!(r#"{{"unified":{{"{name}":"1"}}}}"#)).is_err(), "{name}");
        }
    }
}
