//! Checkpoints on the worker's side: commits over the tasks' socket, watched directories, uploads, the way back, garbage.
//!
//! ```text
//! task ── socket ──► savers ──► saver ──► listing ──► upload (files, then manifest) ──► agent ──► log
//!                                 ▲ watch                                                          │
//!                                 └──────────── collect ◄──────────── verdict ◄────────────────────┘
//! next attempt: fetch (manifest by the log's digest, files by the manifest's) ──► $MUSTER_RESUME_FROM
//! ```
//!
//! Left out: which checkpoints count, and which are kept (`core`, by the log); when a task is asked to save or stopped (`muster_agent`).

mod collect;
pub mod deadline;
mod error;
mod fetch;
mod known;
mod listing;
mod manifest;
pub mod protocol;
mod saver;
mod savers;
mod sent;
pub mod socket;
mod upload;
mod watch;

#[cfg(test)]
mod checkpoint_test;

pub use error::CommitError;
pub use saver::{Saver, Tell, Whose};
pub use savers::Savers;
