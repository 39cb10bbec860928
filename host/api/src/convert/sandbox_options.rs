//! How large a sandbox is to be and what its containers may use, from the options that clients give: containerd's
//! `PodSandboxConfig`, or ours.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;
use theca_controller::node::Error;
use theca_controller::node::sandbox::{Resize, Resources, Wish};
use theca_controller::sandbox::allowance::{Allowance, CpuQuota, DEFAULT_PERIOD_US};
use theca_controller::sandbox::options::GUEST_MIB;
use theca_proto::runtime::v1::{LinuxContainerResources, PodSandboxConfig};
use theca_proto::theca::options::v1::SandboxOptions;
use theca_proto::type_url;

use super::named;

const MIB: u64 = 1 << 20;

/// What options say.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    /// Processors that the VM has to have; 0: any number.
    vcpus: u32,
    /// RAM that it has to have; 0: any size.
    memory_mib: u64,
    /// RAM that it gets beside that.
    guest_mib: u64,
    cpu: Wish<CpuQuota>,
    memory: Wish<u64>,
    /// Words for the guest's kernel, where options have a place for them.
    pub kernel_args: Option<Vec<String>>,
    /// Labels.
    pub labels: HashMap<String, String>,
    /// Annotations.
    pub annotations: HashMap<String, String>,
}

impl Options {
    /// For a VM that is still to be booted.
    pub fn fresh(&self) -> Resources {
        let vcpus = self.vcpus.max(1);
        let memory_mib = match self.memory_mib {
            0 => 0,
            wanted => wanted.saturating_add(self.guest_mib),
        };
        let cpu = match self.cpu {
            Wish::AtMost(quota) => quota.within(vcpus),
            Wish::Keep | Wish::All => None,
        };
        let memory_bytes = match self.memory {
            Wish::AtMost(bytes) => Some(bytes).filter(|bytes| *bytes < memory_mib.saturating_mul(MIB)),
            Wish::Keep | Wish::All => None,
        };
        Resources { vcpus: self.vcpus, memory_mib, allowance: Allowance { cpu, memory_bytes } }
    }

    /// For one that may be running.
    pub fn resize(&self) -> Resize {
        Resize {
            fresh: self.fresh(),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            cpu: self.cpu,
            memory: self.memory,
        }
    }
}

/// Whether options of a runtime are a sandbox's.
pub fn is_known(any: &Any) -> bool {
    [type_url::POD_SANDBOX_CONFIG, type_url::CLIENT_SANDBOX_OPTIONS].contains(&named(any))
}

/// What options say to a machine of `cpus` processors.
pub fn read(any: &Any, cpus: u32) -> Result<Options, Error> {
    match named(any) {
        "" if any.value.is_empty() => Ok(Options::default()),
        type_url::POD_SANDBOX_CONFIG => pod(decode(any)?, cpus),
        type_url::CLIENT_SANDBOX_OPTIONS => own(decode(any)?, cpus),
        _ => Err(Error::Invalid(format!(
            "options of type {:?} are not known here: use {} or {}",
            any.type_url,
            type_url::POD_SANDBOX_CONFIG,
            type_url::CLIENT_SANDBOX_OPTIONS
        ))),
    }
}

fn decode<T: Message + Default>(any: &Any) -> Result<T, Error> {
    T::decode(any.value.as_slice())
        .map_err(|error| Error::Invalid(format!("the options {} are malformed: {error}", named(any))))
}

/// Names the VM's size; containers may use all of it.
fn own(options: SandboxOptions, cpus: u32) -> Result<Options, Error> {
    if options.vcpus > cpus {
        return Err(Error::Invalid(format!(
            "{} processors were asked for: a sandbox has at most this machine's {cpus}",
            options.vcpus
        )));
    }
    let memory_mib = options.memory_bytes.div_ceil(MIB);
    Ok(Options {
        vcpus: options.vcpus,
        memory_mib,
        cpu: match options.vcpus {
            0 => Wish::Keep,
            count => Wish::AtMost(CpuQuota::of_processors(count)),
        },
        memory: match memory_mib {
            0 => Wish::Keep,
            size => Wish::AtMost(size.saturating_mul(MIB)),
        },
        kernel_args: Some(options.kernel_args),
        ..Options::default()
    })
}

/// Names what the pod's containers may use and what the sandbox costs beyond that. A pod may be allowed more processors than there
/// are; more than those it cannot use.
fn pod(config: PodSandboxConfig, cpus: u32) -> Result<Options, Error> {
    let linux = config.linux.unwrap_or_default();
    // Without a port of the host a mapping only tells of one that a container listens on.
    if config.port_mappings.iter().any(|mapping| mapping.host_port != 0) {
        return Err(Error::Unsupported("a port_mapping to a host_port in a PodSandboxConfig"));
    }
    if !linux.sysctls.is_empty() {
        return Err(Error::Unsupported("linux.sysctls in a PodSandboxConfig"));
    }
    let (containers, overhead) = (linux.resources.unwrap_or_default(), linux.overhead.unwrap_or_default());
    let (cpu, memory) = (cpu_wish(&containers)?, memory_wish(&containers));
    let vcpus = match cpu {
        Wish::AtMost(quota) => {
            let beyond = match cpu_wish(&overhead)? {
                Wish::AtMost(quota) => quota.millis(),
                Wish::Keep | Wish::All => 0,
            };
            quota.millis().saturating_add(beyond).div_ceil(1000)
        }
        Wish::Keep | Wish::All => 0,
    };
    let (memory_mib, guest_mib) = match (memory, memory_wish(&overhead)) {
        (Wish::AtMost(limit), Wish::AtMost(overhead)) => (limit.saturating_add(overhead).div_ceil(MIB), 0),
        // Its RuntimeClass names no overhead.
        (Wish::AtMost(limit), _) => (limit.div_ceil(MIB), GUEST_MIB),
        _ => (0, 0),
    };
    Ok(Options {
        vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX).min(cpus),
        memory_mib,
        guest_mib,
        cpu,
        memory,
        kernel_args: None,
        labels: config.labels,
        annotations: config.annotations,
    })
}

/// As Kubernetes has it: 0 says nothing, less than that is no limit.
fn cpu_wish(resources: &LinuxContainerResources) -> Result<Wish<CpuQuota>, Error> {
    let period = u64::try_from(resources.cpu_period).ok().filter(|period| *period != 0);
    match u64::try_from(resources.cpu_quota) {
        Ok(0) => Ok(Wish::Keep),
        Ok(quota) => CpuQuota::new(quota, period.unwrap_or(DEFAULT_PERIOD_US))
            .map(Wish::AtMost)
            .map_err(|error| Error::Invalid(error.to_string())),
        Err(_) => Ok(Wish::All),
    }
}

fn memory_wish(resources: &LinuxContainerResources) -> Wish<u64> {
    match u64::try_from(resources.memory_limit_in_bytes) {
        Ok(0) => Wish::Keep,
        Ok(limit) => Wish::AtMost(limit),
        Err(_) => Wish::All,
    }
}

#[cfg(test)]
mod tests {
    use theca_controller::node::Kind;
    use theca_proto::runtime::v1::{LinuxPodSandboxConfig, PortMapping};

    use super::*;

    fn any(url: &str, message: &impl Message) -> Any {
        Any { type_url: url.into(), value: message.encode_to_vec() }
    }

    fn limits(memory: i64, quota: i64) -> Option<LinuxContainerResources> {
        Some(LinuxContainerResources {
            memory_limit_in_bytes: memory,
            cpu_quota: quota,
            cpu_period: 100_000,
            ..Default::default()
        })
    }

    fn pod_of(
        containers: Option<LinuxContainerResources>,
        overhead: Option<LinuxContainerResources>,
    ) -> Options {
        let linux = LinuxPodSandboxConfig { resources: containers, overhead, ..Default::default() };
        let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        read(&any(type_url::POD_SANDBOX_CONFIG, &config), 8).unwrap()
    }

    fn size(options: &Options) -> (u32, u64) {
        (options.fresh().vcpus, options.fresh().memory_mib)
    }

    #[test]
    fn a_pod_is_as_large_as_its_containers_and_its_overhead() {
        let sized = pod_of(limits(512 << 20, 150_000), limits((64 << 20) + 1, 25_000));
        assert_eq!(size(&sized), (2, 577));
        let sized = pod_of(limits(32 << 20, 50_000), None);
        assert_eq!(size(&sized), (1, 32 + GUEST_MIB));
        assert_eq!(pod_of(None, limits(64 << 20, 25_000)).fresh(), Resources::default());
        assert_eq!(pod_of(limits(-1, -1), None).fresh(), Resources::default());
    }

    #[test]
    fn a_pods_limits_hold_from_its_start_where_the_vm_has_more() {
        let allowance = pod_of(limits(512 << 20, 150_000), None).fresh().allowance;
        let quota = CpuQuota::new(150_000, 100_000).unwrap();
        assert_eq!(allowance, Allowance { cpu: Some(quota), memory_bytes: Some(512 << 20) });
        assert_eq!(pod_of(limits(0, 200_000), None).fresh().allowance, Allowance::default());
        assert_eq!(pod_of(limits(0, 6_400_000), None).fresh().allowance.cpu, None, "there are 8");
        let own = SandboxOptions { vcpus: 2, memory_bytes: 1 << 30, ..Default::default() };
        let own = read(&any(type_url::CLIENT_SANDBOX_OPTIONS, &own), 8).unwrap();
        assert!(own.fresh().allowance.is_all());
    }

    #[test]
    fn a_limit_that_is_not_named_is_not_one_that_is_lifted() {
        let resize = pod_of(limits(0, -1), None).resize();
        assert_eq!((resize.cpu, resize.memory), (Wish::All, Wish::Keep));
        let resize = pod_of(limits(100 << 20, 120_000), None).resize();
        assert_eq!((resize.vcpus, resize.memory_mib), (2, 100), "a VM that runs has room for its guest");
    }

    #[test]
    fn a_quota_that_no_kernel_takes_is_refused() {
        let linux = LinuxPodSandboxConfig { resources: limits(0, 10), ..Default::default() };
        let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        let error = read(&any(type_url::POD_SANDBOX_CONFIG, &config), 8).unwrap_err().to_string();
        assert!(error.contains("a quota of 10 µs"), "{error}");
    }

    #[test]
    fn what_a_pod_would_miss_is_refused_by_name() {
        let read = |config: &PodSandboxConfig| read(&any(type_url::POD_SANDBOX_CONFIG, config), 8);
        let mapped = |host_port| PodSandboxConfig {
            port_mappings: vec![PortMapping { container_port: 80, host_port, ..Default::default() }],
            ..Default::default()
        };
        let sysctls = HashMap::from([("net.core.somaxconn".to_owned(), "1".to_owned())]);
        let linux = LinuxPodSandboxConfig { sysctls, ..Default::default() };
        let tuned = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        for (config, name) in [(mapped(8080), "port_mapping"), (tuned, "linux.sysctls")] {
            let error = read(&config).unwrap_err();
            assert_eq!(error.kind(), Kind::Unimplemented);
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(read(&mapped(0)).is_ok(), "every port that a container declares is such a mapping");
    }

    #[test]
    fn theca_has_options_of_its_own() {
        let own = SandboxOptions { vcpus: 3, memory_bytes: (1 << 30) + 1, kernel_args: vec!["quiet".into()] };
        let read = read(&any("type.googleapis.com/theca.options.v1.SandboxOptions", &own), 8).unwrap();
        assert_eq!(size(&read), (3, 1025));
        assert_eq!(read.kernel_args.unwrap(), ["quiet"]);
    }

    #[test]
    fn processors_that_the_machine_lacks_are_refused_to_who_names_them_and_left_out_of_a_pods_limit() {
        let own = SandboxOptions { vcpus: 9, ..Default::default() };
        let error = read(&any(type_url::CLIENT_SANDBOX_OPTIONS, &own), 8).unwrap_err().to_string();
        assert!(error.starts_with("9 processors were asked for"), "{error}");
        assert_eq!(pod_of(limits(1 << 30, 6_400_000), None).fresh().vcpus, 8);
    }

    #[test]
    fn options_that_are_not_known_are_refused_with_those_that_are() {
        let error = read(&any("example.Options", &SandboxOptions::default()), 8).unwrap_err().to_string();
        assert!(
            error.contains("\"example.Options\"") && error.contains("runtime.v1.PodSandboxConfig"),
            "{error}"
        );
        let malformed = Any { type_url: type_url::POD_SANDBOX_CONFIG.into(), value: b"\xff".to_vec() };
        assert!(read(&malformed, 8).unwrap_err().to_string().contains("malformed"));
    }
}
