//! The init of a Theca guest: prepares the guest, runs containers in it, and answers the host.
//!
//! A request's way: [`server`] decodes it and calls one verb of [`container`]; [`oci`] turns specs into jobs; [`process`]
//! launches a set-up process ([`setup`]), the same program started afresh, which becomes the container's program;
//! [`reaper`] collects it when it ends. [`rootfs`] and [`cgroup`] are what containers stand on. [`init`] is the
//! guest's start and end.
//!
//! The host is trusted; containers are not. Whatever a container can write (its files, its cgroup, its end of a
//! handshake) is read with bounds and never believed.

pub mod cgroup;
pub mod config;
pub mod container;
pub mod init;
mod log;
pub mod oci;
pub mod process;
pub mod reaper;
pub mod rootfs;
pub mod server;
pub mod setup;
pub mod sys;
