//! The documents that people and programs read, built from the state and the history.

mod checkpoints;
mod cost;
mod jobs;
mod pools;
mod queues;
mod timeline;
mod words;
mod workers;

pub use jobs::JobFilter;
pub(super) use words::{attempt_name, time};
