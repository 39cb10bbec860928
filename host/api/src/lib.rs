//! Thin adapters between wires and the domain: ttrpc services in front of the controller, a gRPC client behind it.
//!
//! A handler decodes, calls one domain method and encodes. Wire types stop in [`convert`]; [`status`] is the only table
//! that turns the domain's errors into status codes.

pub mod agent;
pub mod convert;
pub mod keeper;
pub mod shim;
pub mod status;
pub mod task;
