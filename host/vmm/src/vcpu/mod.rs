//! Virtual processors: one thread each, driven by orders.
//!
//! ```text
//!            Run              Pause
//!  Created ───────▶ Running ◀───────▶ Paused
//!     │                │       Run       │
//!     └────────────────┴─────────────────┘
//!           the guest ends, or End ──▶ Exited
//! ```
//!
//! Each state is a function that returns the next state. An order reaches a running vCPU through a kick: a flag in its
//! `kvm_run` page makes `KVM_RUN` return, and a signal makes it look at the flag.

mod exit;
mod handle;
mod thread;

pub use exit::Machine;
pub use handle::{Handle, KICK_SIGNAL, VcpuError, install_kick_signal};
pub use thread::Vcpu;
