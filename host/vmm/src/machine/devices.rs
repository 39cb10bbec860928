//! The virtio devices of one VM: their MMIO slots, event loops and counters.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use theca_vmm_protocol::{MAX_DISKS, Stats};

use crate::arch::x86_64::layout;
use crate::console_log::ConsoleLog;
use crate::control::{Outbox, VsockConfig};
use crate::event_loop::{self, EventLoop};
use crate::jail::filters::ThreadKind;
use crate::kvm::{KvmError, Vm};
use crate::memory::GuestMemory;
use crate::mmio::MmioDevice;
use crate::virtio::balloon::Balloon;
use crate::virtio::blk::{self, Block};
use crate::virtio::console::Console;
use crate::virtio::rng::Rng;
use crate::virtio::vsock::{self, Vsock};
use crate::virtio::{DeviceState, Helpers, Interrupt, MmioTransport, VirtioDevice};

/// What devices are made of.
pub struct Plan {
    /// What the guest prints.
    pub console: Arc<Mutex<ConsoleLog>>,
    /// The guest's socket device.
    pub vsock: Option<VsockConfig>,
    /// Disks by slot.
    pub disks: Vec<blk::Slot>,
    /// Whether there is a source of entropy.
    pub rng: bool,
}

/// Why the devices cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// Out of descriptors or memory.
    #[error("failed to create the {0} device")]
    Create(&'static str, #[source] io::Error),
    /// KVM does not connect it.
    #[error(transparent)]
    Kvm(#[from] KvmError),
}

/// The devices by MMIO slot, and what stands behind them.
pub struct Devices {
    transports: Vec<(Arc<MmioTransport>, Interrupt)>,
    loops: Vec<event_loop::Handle>,
    disks: Vec<blk::Slot>,
    vsock: Option<Arc<vsock::Counters>>,
}

/// An event loop that still needs its threads.
pub struct Loop {
    /// Name of its thread, of several the beginning of theirs.
    pub name: &'static str,
    /// What they may do.
    pub kind: ThreadKind,
    /// The loop.
    pub events: EventLoop,
}

impl MmioDevice for MmioTransport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        MmioTransport::read(self, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        MmioTransport::write(self, offset, data);
    }
}

/// Console, balloon, rng and vsock.
const NO_DISKS: usize = 4;

const _: () = assert!(NO_DISKS + MAX_DISKS <= layout::LINES, "a disk shares its interrupt line");

/// Threads for disks beyond one for each slot: with them a disk has three requests in flight.
const DISK_HELPERS: usize = 2;

/// How many MMIO slots `plan` takes.
pub fn count(plan: &Plan) -> usize {
    2 + usize::from(plan.vsock.is_some()) + usize::from(plan.rng) + plan.disks.len()
}

/// Builds the devices of `plan`; answers them with the loops to run.
pub fn build(
    plan: Plan,
    memory: &GuestMemory,
    outbox: &Arc<Outbox>,
) -> Result<(Devices, Vec<Loop>), DevicesError> {
    let shared = EventLoop::new().map_err(|error| DevicesError::Create("event loop", error))?;
    let events = shared.handle();
    let mut loops = vec![Loop { name: "devices", kind: ThreadKind::Devices, events: shared }];
    let mut transports = Vec::with_capacity(count(&plan));
    let mut add = |name, device: Box<dyn VirtioDevice>, events: &event_loop::Handle| {
        let create = |error| DevicesError::Create(name, error);
        let interrupt = Interrupt::new().map_err(create)?;
        let transport =
            MmioTransport::new(device, memory.clone(), interrupt.clone(), events).map_err(create)?;
        transports.push((Arc::new(transport), interrupt));
        Ok::<(), DevicesError>(())
    };

    let log = plan.console;
    let print = move |bytes: &[u8]| log.lock().unwrap_or_else(PoisonError::into_inner).write(bytes);
    add("console", Box::new(Console::new(Box::new(print))), &events)?;
    add("balloon", Box::<Balloon>::default(), &events)?;
    if plan.rng {
        add("rng", Box::new(Rng::new()), &events)?;
    }
    let mut vsock_counters = None;
    if let Some(config) = plan.vsock {
        let outbox = outbox.clone();
        let config = vsock::Config {
            guest_cid: config.guest_cid,
            listener: config.listener,
            host_ports: config.host_ports,
            dial: Box::new(move |port, stream| outbox.dial(port, stream)),
        };
        let device = Vsock::new(config).map_err(|error| DevicesError::Create("vsock", error))?;
        vsock_counters = Some(device.counters());
        add("vsock", Box::new(device), &events)?;
    }
    if !plan.disks.is_empty() {
        let events = EventLoop::for_threads(plan.disks.len() + DISK_HELPERS)
            .map_err(|error| DevicesError::Create("disk", error))?;
        let helpers = Helpers::new(DISK_HELPERS);
        for slot in &plan.disks {
            add("disk", Box::new(Block::new(slot.clone(), helpers.clone())), &events.handle())?;
        }
        loops.push(Loop { name: "blk", kind: ThreadKind::Disk, events });
    }
    let handles = loops.iter().map(|one| one.events.handle()).collect();
    Ok((Devices { transports, loops: handles, disks: plan.disks, vsock: vsock_counters }, loops))
}

impl Devices {
    /// Connects interrupts and queues with KVM.
    pub fn connect(&self, vm: &Vm) -> Result<(), DevicesError> {
        for (slot, (transport, interrupt)) in self.transports.iter().enumerate() {
            vm.connect_interrupt(slot, interrupt.event())?;
            let queues = transport.queue_events().map_err(|error| DevicesError::Create("queue", error))?;
            for (queue, event) in &queues {
                vm.connect_queue(slot, u32::from(*queue), event)?;
            }
        }
        Ok(())
    }

    /// For the MMIO bus, by slot.
    pub fn on_bus(&self) -> Vec<Arc<dyn MmioDevice>> {
        self.transports.iter().map(|(transport, _)| transport.clone() as Arc<dyn MmioDevice>).collect()
    }

    /// Parks every loop between two requests.
    pub fn pause(&self) {
        self.loops.iter().for_each(event_loop::Handle::pause);
    }

    /// Continues after [`Devices::pause`].
    pub fn resume(&self) {
        self.loops.iter().for_each(event_loop::Handle::resume);
    }

    /// The devices as plain data, by MMIO slot, while paused.
    pub fn states(&self) -> Vec<DeviceState> {
        self.transports.iter().map(|(transport, _)| transport.state()).collect()
    }

    /// Disk slot `index`.
    pub fn slot(&self, index: usize) -> Option<&blk::Slot> {
        self.disks.get(index)
    }

    /// Bytes moved so far.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for disk in &self.disks {
            stats.disk_read_bytes += disk.counters().read_bytes.load(Ordering::Relaxed);
            stats.disk_written_bytes += disk.counters().written_bytes.load(Ordering::Relaxed);
        }
        if let Some(vsock) = &self.vsock {
            stats.vsock_from_guest_bytes = vsock.from_guest_bytes.load(Ordering::Relaxed);
            stats.vsock_to_guest_bytes = vsock.to_guest_bytes.load(Ordering::Relaxed);
        }
        stats
    }
}
