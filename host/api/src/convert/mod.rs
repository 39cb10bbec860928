//! Wire types to the domain's and back. Ids, paths and sizes become checked types here.

pub mod agent;
pub mod envelope;
pub mod history;
pub mod metrics;
pub mod options;
#[cfg(feature = "daemon")]
pub mod payload;
pub mod process;
#[cfg(feature = "daemon")]
pub mod processes;
#[cfg(feature = "daemon")]
pub mod records;
#[cfg(feature = "daemon")]
pub mod sandbox;
#[cfg(feature = "daemon")]
pub mod sandbox_options;
pub mod shim;
#[cfg(feature = "daemon")]
pub mod stats2015;
pub mod task;
pub mod time;

use prost::Message;
use prost_types::Any;
use theca_controller::Error;
use theca_controller::sandbox::{SandboxInfo, SandboxMetrics};
use theca_controller::sys::usage::Usage;
use theca_proto::theca::keeper::v1::{InfoResponse, MetricsResponse, Phase, VmCounters};

/// The message of type `url` in `any`; the default when there is none. Type URLs are compared by what follows the last
/// slash, as protobuf does.
pub fn unpack<T: Message + Default>(any: Option<&Any>, url: &str) -> Result<T, Error> {
    let Some(any) = any else { return Ok(T::default()) };
    if named(any).is_empty() && any.value.is_empty() {
        return Ok(T::default());
    }
    if named(any) != url {
        return Err(Error::Invalid(format!(
            "options of type {:?} are not known here: use {url}",
            any.type_url
        )));
    }
    T::decode(any.value.as_slice())
        .map_err(|error| Error::Invalid(format!("the options are malformed: {error}")))
}

/// The type that `any` says it has.
pub fn named(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// What a sandbox uses, with what the host's kernel counts of its processes.
pub fn sandbox_metrics(metrics: SandboxMetrics, keeper: Usage, vmm: Usage) -> MetricsResponse {
    let guest = metrics.guest.unwrap_or_default();
    MetricsResponse {
        files: metrics.files.into_iter().collect(),
        guest_memory_bytes: guest.memory_bytes,
        guest_used_bytes: guest.used_bytes,
        agent_resident_bytes: guest.agent_resident_bytes,
        keeper_resident_bytes: keeper.resident_bytes,
        vmm_resident_bytes: vmm.resident_bytes,
        vmm_cpu_us: vmm.cpu.as_micros() as u64,
        vm: Some(VmCounters {
            exits: metrics.vm.exits,
            disk_read_bytes: metrics.vm.disk_read_bytes,
            disk_written_bytes: metrics.vm.disk_written_bytes,
            vsock_from_guest_bytes: metrics.vm.vsock_from_guest_bytes,
            vsock_to_guest_bytes: metrics.vm.vsock_to_guest_bytes,
        }),
    }
}

/// The keeper's account of itself.
pub fn sandbox_info(info: SandboxInfo) -> InfoResponse {
    let guest = info.guest.unwrap_or_default();
    let phase = |(name, at): (String, std::time::Duration)| Phase { name, at_us: at.as_micros() as u64 };
    InfoResponse {
        keeper_pid: std::process::id(),
        vmm_pid: info.vmm_pid,
        vcpus: info.vcpus,
        memory_mib: info.memory_mib,
        allowance: Some(options::allowance_wire(info.allowance)),
        kernel_release: guest.kernel_release,
        agent_version: guest.agent_version,
        phases: info.timeline.into_iter().map(phase).collect(),
        guest_used_bytes: guest.used_bytes,
        agent_resident_bytes: guest.agent_resident_bytes,
        paused: info.paused,
        guest_memory_bytes: guest.memory_bytes,
        containers: info.containers.iter().map(ToString::to_string).collect(),
        vm_failure: info.vm_failure.map(|end| end.to_string()).unwrap_or_default(),
    }
}
