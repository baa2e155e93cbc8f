//! Machines that may go: how often to save on them.

mod cadence;

pub use cadence::{LEAST_EVERY_MS, effective_every, interval_ms};
