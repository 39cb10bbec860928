//! Figures for Prometheus: calls, sandboxes and containers, and thecad itself.
//!
//! ```text
//!  endpoint ─▶ Observed ─▶ Calls ─┐
//!                        Node ────┼─▶ Scrapes: GET /metrics
//! ```

mod body;
mod calls;
mod layer;
mod own;
mod sandboxes;
mod scrapes;
mod text;

pub use calls::Calls;
pub use layer::Observed;
pub use scrapes::Scrapes;
