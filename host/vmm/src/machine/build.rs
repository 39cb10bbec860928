//! Building a VM from its configuration, in the order that costs least.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::thread::{self, ScopedJoinHandle};

use kvm_ioctls::{Cap, Kvm};

use super::Machine;
use super::devices::{self, Devices, Loop, Plan};
use super::threads::{self, ThreadError};
use crate::arch::x86_64::cpuid::Template;
use crate::arch::x86_64::regs::Entry;
use crate::arch::x86_64::setup;
use crate::boot::{self, BootError, Image, cmdline};
use crate::control::{MachineConfig, Outbox};
use crate::kvm::{self, KvmError, Vm};
use crate::legacy::Ports;
use crate::memory::{self, GuestMemory, MemoryError, MemorySize};
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
    Threads(#[from] ThreadError),
    /// The thread that creates the VM panicked.
    #[error("the thread that creates the VM failed")]
    Creator,
}

/// What the guest boots from.
struct Files {
    kernel: File,
    initrd: Option<File>,
    cmdline: String,
}

/// What does not need the VM.
struct Prepared {
    devices: Devices,
    loops: Vec<Loop>,
    entry: Entry,
    template: Template,
}

/// Builds the VM of `config`. Its vCPUs wait; its devices' threads run and wait for the guest.
pub fn build(config: MachineConfig, outbox: &Arc<Outbox>) -> Result<Machine, BuildError> {
    let kvm = sys::kvm::from_fd(config.kvm);
    kvm::check(&kvm, config.vcpus)?;
    let memory = memory::allocate(config.memory)?;
    let size = config.memory;
    let console = Arc::new(Mutex::new(config.console));
    let plan = Plan { console: console.clone(), vsock: config.vsock, disks: config.disks, rng: config.rng };
    let files = Files { kernel: config.kernel, initrd: config.initrd, cmdline: config.cmdline };

    // Creating a VM waits for a grace period of the kernel's on most hosts, 5 ms: the rest is done meanwhile.
    let (vm, prepared) = thread::scope(|scope| {
        let creating = threads::named("kvm").spawn_scoped(scope, || kvm.create_vm());
        let prepared = prepare(&kvm, config.vcpus, &memory, size, plan, &files, outbox);
        (creating.map(ScopedJoinHandle::join), prepared)
    });
    let vm = vm.map_err(ThreadError::starting("kvm"))?.map_err(|_| BuildError::Creator)?;
    let vm = vm.map_err(KvmError::doing("create a VM"))?;
    let Prepared { devices, loops, entry, mut template } = prepared?;

    let vm = Vm::new(vm, &memory)?;
    devices.connect(&vm)?;
    let ports = Ports::new(console.clone());
    let shared = Arc::new(vcpu::Machine { memory, ports, mmio: MmioBus::new(devices.on_bus()) });
    let mut vcpus = Vec::with_capacity(config.vcpus.into());
    for id in 0..config.vcpus {
        let fd = vm.create_vcpu(id)?;
        setup::vcpu(&fd, template.for_vcpu(id), (id == 0).then_some(entry))?;
        vcpus.push(fd);
    }
    let vcpus = threads::spawn_vcpus(vcpus, &shared, outbox)?;
    threads::spawn_loops(loops)?;
    Ok(Machine { vm, memory: size, shared, vcpus, devices, console })
}

/// Lays out memory, builds devices and asks what processor KVM offers.
fn prepare(
    kvm: &Kvm,
    vcpus: u8,
    memory: &GuestMemory,
    size: MemorySize,
    plan: Plan,
    files: &Files,
    outbox: &Arc<Outbox>,
) -> Result<Prepared, BuildError> {
    let slots = devices::count(&plan);
    let (devices, loops) = devices::build(plan, memory, outbox)?;
    let cmdline = cmdline::compose(slots, &files.cmdline);
    let image = Image {
        kernel: &files.kernel,
        initrd: files.initrd.as_ref(),
        cmdline: &cmdline,
        vcpus,
        devices: slots,
    };
    let entry = boot::load(memory, size, &image)?;
    let template = template(kvm, vcpus)?;
    Ok(Prepared { devices, loops, entry, template })
}

fn template(kvm: &Kvm, vcpus: u8) -> Result<Template, BuildError> {
    let supported =
        kvm.get_supported_cpuid(CPUID_ENTRIES).map_err(KvmError::doing("tell what processor it offers"))?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    Template::new(&supported, vcpus, deadline).map_err(|_| KvmError::Missing("room for CPUID leaves").into())
}
