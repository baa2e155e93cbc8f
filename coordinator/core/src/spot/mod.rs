//! Machines that go: what was seen of them, and spot, on-demand or neither for a task that has a deadline.
//!
//! Left out: notices, evictions and drains, which are the leader's and the agent's.

mod history;
mod policy;

pub use history::{History, LOOK_MS};
pub use policy::{Choice, RESTART_MS, Runs, Standing, choose};
