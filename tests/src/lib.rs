//! What end-to-end tests share. A test takes a [`Theca`] of its own and reads like usage:
//!
//! ```no_run
//! use theca_tests::{IMAGE, Theca};
//!
//! let theca = Theca::new();
//! let output = theca.run(&["--rm", IMAGE, "echo", "hello"]);
//! assert_eq!(output.success(), "hello\n");
//! ```
//!
//! Every `Theca` has state folders of its own, so tests run side by side; when it is dropped it asserts that no process,
//! mount, cgroup, socket, file or folder of its containers is left. Tests run as root where sandboxes run (`cargo xtask test`), with
//! `theca` on the PATH. Everything here panics on failure: it is the test that failed.

pub mod bundle;
pub mod census;
mod cgroups;
pub mod client;
pub mod fixtures;
mod idle;
pub mod invocation;
pub mod layout;
mod leaks;
pub mod machine;
pub mod pty;
pub mod registry;
pub mod small_disk;
mod theca;
pub mod thecad;
pub mod wait;

pub use bundle::Bundle;
pub use census::Census;
pub use client::Client;
pub use invocation::{Invocation, Output, Running};
pub use layout::Layout;
pub use pty::Pty;
pub use registry::Registry;
pub use small_disk::SmallDisk;
pub use theca::{IMAGE, Theca};
pub use thecad::Thecad;
pub use wait::{eventually, wait_for};
