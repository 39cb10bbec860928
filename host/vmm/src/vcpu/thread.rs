//! The thread of one vCPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use kvm_ioctls::VcpuFd;
use theca_vmm_protocol::ExitReason;

use super::exit::{Machine, Outcome};
use crate::snapshot::{StateError, VcpuState};
use crate::sys;
use crate::sys::mapping::RunPage;

/// What a vCPU can be told. Each order is carried out before the next is read.
pub enum Order {
    /// Enter the guest.
    Run,
    /// Leave it; the sender learns when that is done.
    Pause(SyncSender<()>),
    /// Report the registers; only while paused.
    Save(SyncSender<Result<VcpuState, StateError>>),
    /// Take over registers; only before the first run.
    Restore(Box<VcpuState>, SyncSender<Result<(), StateError>>),
    /// End the thread.
    End,
}

/// Told once when the guest ended itself or could not go on.
pub type OnExit = Arc<dyn Fn(ExitReason) + Send + Sync>;

/// A vCPU and its thread's side of the conversation.
pub struct Vcpu {
    pub(super) fd: VcpuFd,
    pub(super) page: Arc<RunPage>,
    pub(super) machine: Arc<Machine>,
    pub(super) orders: Receiver<Order>,
    pub(super) exits: Arc<AtomicU64>,
    pub(super) on_exit: OnExit,
}

enum State {
    Created,
    Running,
    Paused,
    Exited,
}

impl Vcpu {
    /// Runs until the guest ends, [`Order::End`] comes or nobody is left to give orders.
    pub fn run(mut self) {
        let mut state = State::Created;
        loop {
            state = match state {
                State::Created => self.created(),
                State::Running => self.running(),
                State::Paused => self.paused(),
                State::Exited => return,
            };
        }
    }

    fn created(&mut self) -> State {
        self.wait(State::Created)
    }

    fn paused(&mut self) -> State {
        self.wait(State::Paused)
    }

    fn running(&mut self) -> State {
        loop {
            let outcome = match self.fd.run() {
                Ok(exit) => self.machine.serve(exit),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    // Cleared before the orders are read: a kick that comes in between is seen by the next entry.
                    self.page.set_immediate_exit(false);
                    match self.next_order() {
                        Some(state) => return state,
                        None => continue,
                    }
                }
                Err(error) => {
                    Outcome::End(ExitReason::Failed(format!("KVM failed to run the guest: {error}")))
                }
            };
            self.exits.fetch_add(1, Ordering::Relaxed);
            match outcome {
                Outcome::Continue => {}
                Outcome::End(reason) => return self.exited(reason),
                Outcome::InternalError => {
                    let reason = self.internal_error();
                    return self.exited(reason);
                }
            }
        }
    }

    /// Blocks for the next order while out of the guest.
    fn wait(&mut self, here: State) -> State {
        match self.orders.recv() {
            Ok(Order::Run) => {
                if matches!(here, State::Paused) {
                    // The guest's watchdogs then know that it was the host who stood still (KVM_KVMCLOCK_CTRL). A guest
                    // without kvm-clock cannot be told.
                    let _ = self.fd.kvmclock_ctrl();
                }
                State::Running
            }
            Ok(Order::Pause(done)) => {
                let _ = done.send(());
                here
            }
            Ok(Order::Save(reply)) => {
                let _ = reply.send(VcpuState::save(&self.fd));
                here
            }
            Ok(Order::Restore(state, reply)) => {
                let _ = reply.send(state.restore(&self.fd));
                here
            }
            Ok(Order::End) | Err(_) => State::Exited,
        }
    }

    /// The state that an order asks of a running vCPU, if there is one.
    fn next_order(&mut self) -> Option<State> {
        match self.orders.try_recv().ok()? {
            Order::Run => None,
            Order::Pause(done) => {
                let _ = done.send(());
                Some(State::Paused)
            }
            Order::Save(reply) => {
                let _ = reply.send(Err(StateError::NotPaused));
                None
            }
            Order::Restore(_, reply) => {
                let _ = reply.send(Err(StateError::NotPaused));
                None
            }
            Order::End => Some(State::Exited),
        }
    }

    fn exited(&self, reason: ExitReason) -> State {
        (self.on_exit)(reason);
        State::Exited
    }

    fn internal_error(&mut self) -> ExitReason {
        let suberror = sys::kvm::internal_suberror(&mut self.fd);
        let rip = self.fd.get_regs().map(|regs| regs.rip).unwrap_or_default();
        ExitReason::Failed(format!(
            "KVM gave up on the guest's instruction at {rip:#x} (internal error {suberror}); a KVM that emulates in \
             software cannot run Linux, use a host with VT-x or AMD-V"
        ))
    }
}
