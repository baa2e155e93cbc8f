//! The worker: an agent that takes instructions, and a shim that parents what it starts.
//!
//! [`run()`] is the daemon. The rules are in `muster_agent`; here are the session, the disk, the store and the processes.

pub mod artifacts;
pub mod blobs;
pub mod cgroup;
pub mod checkpoint;
pub mod config;
pub mod devices;
pub mod executor;
pub mod join;
pub mod journal;
mod logs;
mod logs_upload;
pub mod machine;
pub mod notice;
mod run;
pub mod session;
pub mod shim;
mod telemetry;

pub use config::{ConfigError, WorkerConfig};
pub use run::{Shutdown, WorkerError, run};
