//! What whoever configures the runtime says of sandboxes and tasks.

use std::time::Duration;

use prost_types::Any;
use theca_controller::Error;
use theca_controller::sandbox::allowance::{Allowance, CpuQuota, DEFAULT_PERIOD_US};
use theca_controller::sandbox::options::{
    DEFAULT_BOOT_TIMEOUT, DEFAULT_MEMORY_MIB, DEFAULT_VCPUS, DiskOption, SandboxOptions,
};
use theca_controller::task::stdio::Readers;
use theca_controller::task::stdio::log::{DEFAULT_MAX_BYTES, LogOptions};
use theca_proto::theca::keeper::v1;
use theca_proto::type_url;

/// Options of a sandbox, from what `start` read: an encoded `Any`, or nothing.
pub fn sandbox(input: &[u8]) -> Result<SandboxOptions, Error> {
    let any = <Any as prost::Message>::decode(input)
        .map_err(|error| Error::Invalid(format!("standard input is no google.protobuf.Any: {error}")))?;
    let options: v1::SandboxOptions = super::unpack(Some(&any), type_url::SANDBOX_OPTIONS)?;
    Ok(SandboxOptions {
        vcpus: or(options.vcpus, DEFAULT_VCPUS),
        memory_mib: or(options.memory_mib, DEFAULT_MEMORY_MIB),
        allowance: allowance(options.allowance)?,
        kernel_cmdline: options.kernel_cmdline,
        kernel: Some(options.kernel_path).filter(|path| !path.is_empty()).map(Into::into),
        disks: options.disks.into_iter().map(disk).collect(),
        parent: Some(options.parent_pid).filter(|pid| *pid != 0),
        exit_command: options.exit_command,
        ephemeral: options.ephemeral,
        one_task: options.one_task,
        hold: options.hold,
        boot_timeout: match options.boot_timeout_s {
            0 => DEFAULT_BOOT_TIMEOUT,
            seconds => Duration::from_secs(seconds.into()),
        },
    })
}

/// What containers may use.
pub fn allowance(allowance: Option<v1::Allowance>) -> Result<Allowance, Error> {
    let v1::Allowance { cpu_quota_us, cpu_period_us, memory_bytes } = allowance.unwrap_or_default();
    let cpu = match cpu_quota_us {
        0 => None,
        quota => {
            let quota = CpuQuota::new(quota, or(cpu_period_us, DEFAULT_PERIOD_US));
            Some(quota.map_err(|error| Error::Invalid(error.to_string()))?)
        }
    };
    Ok(Allowance { cpu, memory_bytes: Some(memory_bytes).filter(|bytes| *bytes != 0) })
}

/// The same as it is told.
pub fn allowance_wire(allowance: Allowance) -> v1::Allowance {
    v1::Allowance {
        cpu_quota_us: allowance.cpu.map_or(0, |cpu| cpu.quota_us),
        cpu_period_us: allowance.cpu.map_or(0, |cpu| cpu.period_us),
        memory_bytes: allowance.memory_bytes.unwrap_or(0),
    }
}

/// Options of a task.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// Where its log is.
    pub log: Option<LogOptions>,
    /// Bound of its tmpfs upper.
    pub tmpfs_bytes: u64,
    /// Who reads its output.
    pub readers: Readers,
}

/// Options of a task, of ours or none.
pub fn task(any: Option<&Any>) -> Result<TaskOptions, Error> {
    let options: v1::TaskOptions = super::unpack(any, type_url::TASK_OPTIONS)?;
    let path = Some(options.log_path).filter(|path| !path.is_empty());
    let max_bytes = or(options.log_max_bytes, DEFAULT_MAX_BYTES);
    Ok(TaskOptions {
        log: path.map(|path| LogOptions { path: path.into(), max_bytes }),
        tmpfs_bytes: options.tmpfs_bytes,
        readers: readers(options.output_is_read),
    })
}

/// Who reads a process's output.
pub fn readers(output_is_read: bool) -> Readers {
    if output_is_read { Readers::AreThere } else { Readers::ComeAndGo }
}

fn disk(disk: v1::Disk) -> DiskOption {
    DiskOption { path: disk.path.into(), read_only: disk.read_only }
}

/// `value`, or `default` for the 0 of a field that was left out.
fn or<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn any(url: &str, message: &impl Message) -> Any {
        Any { type_url: url.into(), value: message.encode_to_vec() }
    }

    #[test]
    fn no_options_are_the_defaults() {
        assert_eq!(sandbox(b"").unwrap(), SandboxOptions::default());
        assert_eq!(task(None).unwrap(), TaskOptions::default());
    }

    #[test]
    fn options_are_taken_whatever_comes_before_the_types_slash() {
        let options = v1::SandboxOptions { vcpus: 2, ephemeral: true, ..Default::default() };
        for url in ["theca.keeper.v1.SandboxOptions", "type.googleapis.com/theca.keeper.v1.SandboxOptions"] {
            let taken = sandbox(&any(url, &options).encode_to_vec()).unwrap();
            assert_eq!((taken.vcpus, taken.memory_mib, taken.ephemeral), (2, DEFAULT_MEMORY_MIB, true));
        }
    }

    #[test]
    fn what_containers_may_use_comes_as_it_was_told() {
        let quota = CpuQuota::new(30_000, 20_000).unwrap();
        for wanted in [
            Allowance::default(),
            Allowance { cpu: Some(quota), memory_bytes: None },
            Allowance { cpu: None, memory_bytes: Some(5) },
        ] {
            assert_eq!(allowance(Some(allowance_wire(wanted))).unwrap(), wanted);
        }
        let tiny = v1::Allowance { cpu_quota_us: 1, ..v1::Allowance::default() };
        assert!(allowance(Some(tiny)).is_err());
    }

    #[test]
    fn options_of_another_runtime_are_named() {
        let foreign = any("containerd.runc.v1.Options", &v1::TaskOptions::default());
        let foreign = Any { value: vec![10, 1, b'x'], ..foreign };
        let error = task(Some(&foreign)).unwrap_err().to_string();
        assert!(error.contains("\"containerd.runc.v1.Options\" are not known here"), "{error}");
    }

    #[test]
    fn garbage_on_standard_input_is_an_error() {
        assert!(sandbox(b"\xff\xff\xff").is_err());
    }
}
