//! What a keeper and its VMM say to each other.
//!
//! The two share one `SOCK_SEQPACKET` socket pair. A packet is one JSON document; file descriptors ride along as
//! `SCM_RIGHTS` and the document names them by [`FdIndex`]. The keeper opens, the VMM uses: every kernel, disk,
//! listener and log reaches the VMM this way, so the VMM never needs a path.
//!
//! ```text
//!  keeper                         VMM
//!    │ Request::Configure + fds ──▶ │  build the VM
//!    │ ◀── Reply::Done              │
//!    │ Request::Start ────────────▶ │  vCPUs run
//!    │ ◀── Reply::Done              │
//!    │ ◀── Event::Connect + fd      │  the guest dialled a host port
//!    │ ◀── Event::Exited            │  and the process ends
//! ```
//!
//! Requests are answered in order, one at a time; events may come between. When the socket closes the VMM exits:
//! a keeper that dies takes its VM with it.

pub mod channel;
pub mod message;
mod sys;

pub use channel::{Channel, ChannelError, MAX_FDS, MAX_PACKET};
pub use message::{
    Console, Disk, DiskSlot, Event, ExitReason, FdIndex, FromVmm, MAX_DISKS, Reply, Request, Stats, VmConfig,
    Vsock,
};
