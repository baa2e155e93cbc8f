//! The worker: an agent that takes instructions, and a shim that parents what it starts.
//!
//! [`run()`] is the daemon. The rules are in `muster_agent`; here are the session, the disk, the store and the processes.

pub mod artifacts;
pub mod blobs;
pub mod cgroup;
pub mod devices;
pub mod executor;
pub mod journal;
pub mod shim;
