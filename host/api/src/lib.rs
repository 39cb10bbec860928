//! Thin adapters between wires and the domain: ttrpc services in front of the controller, a gRPC client behind it.
//!
//! A handler decodes, calls one domain method and encodes. Wire types stop in [`convert`]; [`status`] is the only table
//! that turns the domain's errors into status codes.
//!
//! The keeper is built with `agent`, `keeper`, `shim` and `task`. With the feature `daemon` there is also what thecad serves,
//! one file per interface in front of `theca_controller::node`: see [`services`].

pub mod accepting;
pub mod agent;
#[cfg(feature = "daemon")]
pub mod api2015;
#[cfg(feature = "daemon")]
mod call;
#[cfg(feature = "daemon")]
pub mod containers;
#[cfg(feature = "daemon")]
pub mod containers_2017;
pub mod convert;
#[cfg(feature = "daemon")]
pub mod execution;
pub mod forward;
pub mod keeper;
#[cfg(feature = "daemon")]
pub mod keeper_client;
#[cfg(feature = "daemon")]
pub mod sandbox_controller;
#[cfg(feature = "daemon")]
pub mod sandbox_controller_2022;
#[cfg(feature = "daemon")]
pub mod sandbox_store;
#[cfg(feature = "daemon")]
pub mod services;
pub mod shim;
pub mod status;
pub mod streaming;
#[cfg(feature = "daemon")]
mod streams2015;
pub mod task;
#[cfg(feature = "daemon")]
pub mod tasks;
mod too_large;
