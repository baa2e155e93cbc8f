//! Machines that go: what was seen of them, how often to save on them, and spot, on-demand or neither for a task that has a deadline.
//!
//! Left out: notices, evictions and drains, which are the leader's and the agent's.

mod cadence;
mod history;
mod policy;

pub use cadence::{LEAST_EVERY_MS, effective_every, interval_ms};
pub use history::{History, LOOK_MS};
pub use policy::{Choice, RESTART_MS, Runs, Standing, choose};
