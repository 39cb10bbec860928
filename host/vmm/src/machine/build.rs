//! Building a VM from its configuration, in the order that costs least.

use std::sync::{Arc, Mutex};

use kvm_ioctls::{Cap, Kvm};

use super::devices::{self, Plan};
use super::{Machine, threads};
use crate::arch::x86_64::cpuid::Template;
use crate::arch::x86_64::setup;
use crate::boot::{self, BootError, Image, cmdline};
use crate::control::{MachineConfig, Outbox};
use crate::jail::JailError;
use crate::kvm::{self, KvmError, Vm};
use crate::legacy::Ports;
use crate::memory::{self, MemoryError};
use crate::mmio::MmioBus;
use crate::sys;
use crate::vcpu::{self, VcpuError};

/// Room for the leaves of any processor.
const CPUID_ENTRIES: usize = kvm_bindings::KVM_MAX_CPUID_ENTRIES;

/// Why there is no VM.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Kernel or initrd.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// Devices.
    #[error(transparent)]
    Devices(#[from] devices::DevicesError),
    /// A vCPU's registers.
    #[error(transparent)]
    Setup(#[from] setup::SetupError),
    /// A vCPU's thread.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// A device's thread.
    #[error(transparent)]
    Threads(#[from] threads::ThreadError),
    /// Limits.
    #[error(transparent)]
    Jail(#[from] JailError),
}

/// Builds the VM of `config`. Its vCPUs wait; its devices' threads run and wait for the guest.
pub fn build(config: MachineConfig, outbox: &Arc<Outbox>) -> Result<Machine, BuildError> {
    let kvm = sys::kvm::from_fd(config.kvm);
    kvm::check(&kvm, config.vcpus)?;
    let memory = memory::allocate(config.memory)?;
    let vm = Vm::create(&kvm, &memory)?;

    let console = Arc::new(Mutex::new(config.console));
    let plan = Plan { console: console.clone(), vsock: config.vsock, disks: config.disks, rng: config.rng };
    let slots = devices::count(&plan);
    let cmdline = cmdline::compose(slots, &config.cmdline);
    let (devices, loops) = devices::build(plan, &memory, outbox)?;
    devices.connect(&vm)?;

    let image = Image {
        kernel: &config.kernel,
        initrd: config.initrd.as_ref(),
        cmdline: &cmdline,
        vcpus: config.vcpus,
        devices: slots,
    };
    let entry = boot::load(&memory, config.memory, &image)?;

    let ports = Ports::new(console.clone());
    let shared = Arc::new(vcpu::Machine { memory, ports, mmio: MmioBus::new(devices.on_bus()) });
    let mut template = template(&kvm, config.vcpus)?;
    let mut vcpus = Vec::with_capacity(config.vcpus.into());
    for id in 0..config.vcpus {
        let fd = vm.create_vcpu(id)?;
        setup::vcpu(&fd, template.for_vcpu(id), (id == 0).then_some(entry))?;
        vcpus.push(fd);
    }
    let vcpus = threads::spawn_vcpus(vcpus, &shared, outbox)?;
    threads::spawn_loops(loops)?;
    Ok(Machine { vm, memory: config.memory, shared, vcpus, devices, console })
}

fn template(kvm: &Kvm, vcpus: u8) -> Result<Template, BuildError> {
    let supported =
        kvm.get_supported_cpuid(CPUID_ENTRIES).map_err(KvmError::doing("tell what processor it offers"))?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    Template::new(&supported, vcpus, deadline).map_err(|_| KvmError::Missing("room for CPUID leaves").into())
}
