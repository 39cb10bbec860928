//! The other side of a vCPU's thread: giving orders and making sure they are heard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{Killable, register_signal_handler};

use super::exit::Machine;
use super::thread::{OnExit, Order, Vcpu};
use crate::snapshot::{StateError, VcpuState};
use crate::sys::mapping::RunPage;

/// What makes `KVM_RUN` return: the first real-time signal that the C library leaves to programs.
pub const KICK_SIGNAL: c_int = 34;

/// Stack of a vCPU thread: exits are served without recursion or large buffers.
const STACK: usize = 128 << 10;

/// Why a vCPU thread cannot be had or spoken to.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// No memory or no thread for it.
    #[error("failed to start the thread of vCPU {id}")]
    Spawn {
        /// Which vCPU.
        id: u8,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kick signal cannot be handled.
    #[error("failed to install the handler of the kick signal")]
    Signal(#[source] vmm_sys_util::errno::Error),
    /// The guest has ended meanwhile.
    #[error("the guest has ended")]
    Gone,
    /// Registers cannot be saved or restored.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Gives orders to one vCPU.
#[derive(Debug)]
pub struct Handle {
    orders: Sender<Order>,
    page: Arc<RunPage>,
    thread: JoinHandle<()>,
    exits: Arc<AtomicU64>,
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Installs the empty handler that makes a kick interrupt `KVM_RUN`. Once per process, before the first vCPU.
pub fn install_kick_signal() -> Result<(), VcpuError> {
    register_signal_handler(KICK_SIGNAL, on_kick).map_err(VcpuError::Signal)
}

impl Handle {
    /// Starts the thread of vCPU `id` in state Created. `enter` runs first on the new thread: the jail's last step.
    pub fn spawn(
        id: u8,
        fd: VcpuFd,
        machine: Arc<Machine>,
        on_exit: OnExit,
        enter: impl FnOnce() + Send + 'static,
    ) -> Result<Self, VcpuError> {
        let spawn = |source| VcpuError::Spawn { id, source };
        let page = Arc::new(RunPage::map(&fd).map_err(spawn)?);
        let (orders, receiver) = mpsc::channel();
        let exits = Arc::new(AtomicU64::new(0));
        let vcpu = Vcpu { fd, page: page.clone(), machine, orders: receiver, exits: exits.clone(), on_exit };
        let body = move || {
            enter();
            vcpu.run();
        };
        let thread = std::thread::Builder::new()
            .name(format!("vcpu-{id}"))
            .stack_size(STACK)
            .spawn(body)
            .map_err(spawn)?;
        Ok(Self { orders, page, thread, exits })
    }

    /// Enters the guest, for the first time or again.
    pub fn run(&self) -> Result<(), VcpuError> {
        self.order(Order::Run)
    }

    /// Starts to leave the guest; the returned receiver hears when that is done, so that many vCPUs leave at once.
    pub fn pause(&self) -> Result<mpsc::Receiver<()>, VcpuError> {
        let (done, paused) = mpsc::sync_channel(1);
        self.order(Order::Pause(done))?;
        self.kick();
        Ok(paused)
    }

    /// Registers of a vCPU that is not running.
    pub fn save(&self) -> Result<VcpuState, VcpuError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.order(Order::Save(reply))?;
        Ok(answer.recv().map_err(|_| VcpuError::Gone)??)
    }

    /// Gives a vCPU that has not run yet its registers.
    pub fn restore(&self, state: VcpuState) -> Result<(), VcpuError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.order(Order::Restore(Box::new(state), reply))?;
        Ok(answer.recv().map_err(|_| VcpuError::Gone)??)
    }

    /// Ends the thread and waits for it.
    pub fn end(self) {
        // A thread that has ended already cannot take the order, and needs none.
        let _ = self.order(Order::End);
        self.kick();
        let _ = self.thread.join();
    }

    /// Exits to user space so far.
    pub fn exits(&self) -> u64 {
        self.exits.load(Ordering::Relaxed)
    }

    fn order(&self, order: Order) -> Result<(), VcpuError> {
        self.orders.send(order).map_err(|_| VcpuError::Gone)
    }

    /// Makes a running vCPU look at its orders. Flag first: a vCPU between two entries sees it on the next one.
    fn kick(&self) {
        self.page.set_immediate_exit(true);
        // Fails only for a thread that has ended.
        let _ = self.thread.kill(KICK_SIGNAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kick_signal_is_free() {
        assert_eq!(KICK_SIGNAL, vmm_sys_util::signal::SIGRTMIN());
    }
}
