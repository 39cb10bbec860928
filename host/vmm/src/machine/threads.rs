//! The threads of a VM. They all start here, before the guest runs, since a thread inherits its parent's filter.

use std::io;
use std::sync::Arc;
use std::thread::Builder;

use kvm_ioctls::VcpuFd;
use theca_vmm_protocol::ExitReason;

use super::devices::Loop;
use crate::control::Outbox;
use crate::jail::filters::ThreadKind;
use crate::jail::seccomp::{self, Filter};
use crate::vcpu::{self, VcpuError};

/// Stack of a thread: nothing here recurses or keeps large buffers, and a large stack may cost a large page.
const STACK: usize = 128 << 10;

/// Why a thread does not run.
#[derive(Debug, thiserror::Error)]
#[error("failed to start thread {name}")]
pub struct ThreadError {
    name: String,
    #[source]
    source: io::Error,
}

impl ThreadError {
    /// For `map_err`: names the thread.
    pub fn starting(name: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let name = name.into();
        move |source| Self { name, source }
    }
}

/// A thread to be started with a small stack.
pub fn named(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK)
}

/// Gives each vCPU its thread, in state Created.
pub fn spawn_vcpus(
    vcpus: Vec<VcpuFd>,
    machine: &Arc<vcpu::Machine>,
    outbox: &Arc<Outbox>,
) -> Result<Vec<vcpu::Handle>, super::BuildError> {
    vcpu::install_kick_signal()?;
    let filter = seccomp::compile(ThreadKind::Vcpu);
    let on_exit: Arc<dyn Fn(ExitReason) + Send + Sync> = {
        let outbox = outbox.clone();
        Arc::new(move |reason| outbox.exit(reason))
    };
    let spawn = |(id, fd)| {
        let filter = filter.clone();
        vcpu::Handle::spawn(id, fd, machine.clone(), on_exit.clone(), move || confine(&filter))
    };
    Ok((0u8..).zip(vcpus).map(spawn).collect::<Result<Vec<_>, VcpuError>>()?)
}

/// Gives each event loop its threads.
pub fn spawn_loops(loops: Vec<Loop>) -> Result<(), ThreadError> {
    let devices = seccomp::compile(ThreadKind::Devices);
    let disks = seccomp::compile(ThreadKind::Disk);
    for Loop { name, kind, events } in loops {
        let events = Arc::new(events);
        for number in 0..events.threads() {
            let name = if events.threads() > 1 { format!("{name}-{number}") } else { name.to_owned() };
            let filter = if kind == ThreadKind::Disk { disks.clone() } else { devices.clone() };
            let events = events.clone();
            let body = move || {
                confine(&filter);
                if let Err(error) = events.run() {
                    eprintln!("theca-vmm: event loop failed: {error}");
                    std::process::abort();
                }
            };
            named(&name).spawn(body).map_err(ThreadError::starting(name))?;
        }
    }
    Ok(())
}

/// A thread without its filter must not touch what the guest made.
fn confine(filter: &Filter) {
    if let Err(error) = seccomp::install(filter) {
        eprintln!("theca-vmm: {error}");
        std::process::abort();
    }
}
