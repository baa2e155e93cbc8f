//! `muster shim`: the parent of attempts, and the fencer of their leases.
//!
//! Not the agent: the agent may hang, be stopped or be killed, and its tasks live on until their lease deadline, which this process
//! enforces with its own timers (`plan`, `watchdog`). One shim serves a worker's directory; without cgroups one shim serves one
//! attempt (`single`). It speaks [`protocol`] on `DIR/shim.sock`, keeps exit records in `DIR/exits`, locks `DIR/shim.lock`, and writes its
//! own trouble to `DIR/shim.log`. It ends when it holds nothing and no agent was connected for a while.
//!
//! Architecture invariant: no tokio, no thread but the watchdog, and nothing that waits for the disk between a deadline and its kill.
//!
//! Cost, measured beside a bare two-thread spawn-and-wait loop in the same run (`worker/tests/shim/cost.rs`, 10,000 `/bin/true`, two
//! cores under load, Linux 6.18): the loop 1.04 ms of processor time a task; through a resident shim, client included, 1.17 on cgroup v1
//! with the freezer alone, 1.23 with cpu, memory and pids as well, and 1.15 to 1.21 on v2. The shim's own share is 0.15 to 0.19 ms.

pub mod clock;
mod connection;
pub mod exits;
pub mod logs;
pub mod plan;
pub mod protocol;
mod server;
pub mod socket;
mod spawn;
mod start;
mod watchdog;

pub use start::{LOCK, Options, READY, ShimError, run};

/// This boot of the machine, as the kernel names it.
///
/// # Errors
/// Without `/proc`.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
