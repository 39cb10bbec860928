//! Wire types to the domain's and back. Ids, paths and sizes become checked types here.

pub mod agent;
pub mod metrics;
pub mod options;
pub mod process;
pub mod task;
pub mod time;

use prost::Message;
use prost_types::Any;
use theca_controller::Error;
use theca_controller::sandbox::SandboxInfo;
use theca_proto::theca::keeper::v1::{InfoResponse, Phase};

/// The message of type `url` in `any`; the default when there is none. Type URLs are compared by what follows the last
/// slash, as protobuf does.
pub fn unpack<T: Message + Default>(any: Option<&Any>, url: &str) -> Result<T, Error> {
    let Some(any) = any else { return Ok(T::default()) };
    let named = any.type_url.rsplit('/').next().unwrap_or_default();
    if named.is_empty() && any.value.is_empty() {
        return Ok(T::default());
    }
    if named != url {
        return Err(Error::Invalid(format!(
            "options of type {:?} are not known here: use {url}",
            any.type_url
        )));
    }
    T::decode(any.value.as_slice())
        .map_err(|error| Error::Invalid(format!("the options are malformed: {error}")))
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
        kernel_release: guest.kernel_release,
        agent_version: guest.agent_version,
        phases: info.timeline.into_iter().map(phase).collect(),
        guest_used_bytes: guest.used_bytes,
        agent_resident_bytes: guest.agent_resident_bytes,
        vm_failure: info.vm_failure.map(|end| end.to_string()).unwrap_or_default(),
    }
}
