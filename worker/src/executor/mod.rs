//! The agent's hands: talks to the shim, prepares what a task finds, reads what it printed.
//!
//! No decision is made here. What to start and stop comes from the pure agent; who is dead comes from the shim.

pub mod client;
pub mod environment;
pub mod launch;
mod link;
pub mod logs;

pub use client::{Held, ShimClient, ShimConfig, ShimError, ShimEvent};
pub use environment::{GangEnv, HostEnv, TaskEnv};
pub use launch::{AttemptDirs, Dirs, Run};

pub use crate::shim::protocol::{Exit, ExitStatus, Launch, LaunchFailure, Running, Token};
