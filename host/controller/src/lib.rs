//! The keeper's domain: one sandbox, its virtual machine and its tasks. No wire type and no transport comes in here; the
//! `api` crate puts ttrpc in front of it and gRPC behind it.
//!
//! ```text
//!   api::task ─▶ sandbox::Sandbox ─▶ task::TaskHandle ─▶ agent::Agent  (the guest)
//!                    │  one actor       one actor each        ▲
//!                    └▶ vmm::Vmm ── control socket ─▶ theca-vmm
//! ```
//!
//! A [`sandbox::Sandbox`] is a handle; the actor behind it owns the VM, the disk slots and the list of tasks. Each task is
//! an actor of its own, so that a slow container never holds up its neighbour.

pub mod agent;
pub mod bundle;
pub mod error;
pub mod id;
pub mod install;
pub mod node;
pub mod run_dir;
pub mod sandbox;
pub mod sys;
pub mod task;
#[cfg(test)]
mod testing;
pub mod vmm;
pub mod vsock;

pub use error::{Error, Result};
