//! `muster shim`: the parent of attempts, and the fencer of their leases.
//!
//! Not the agent: the agent may hang, be stopped or be killed, and its tasks live on until their lease deadline, which this process
//! enforces with its own timers ([`plan`], [`watchdog`]). One shim serves a worker's directory; without cgroups one shim serves one
//! attempt (`single`). It speaks [`protocol`] on `DIR/shim.sock`, keeps exit records in `DIR/exits`, locks `DIR/shim.lock`, and writes its
//! own trouble to `DIR/shim.log`. It ends when it holds nothing and no agent was connected for a while.
//!
//! Architecture invariant: no tokio, no thread but the watchdog, and nothing that waits for the disk between a deadline and its kill.
//!
//! Cost of one `/bin/true` through a resident shim beyond fork and exec: see `worker/tests/shim` (`cost`, ignored by default).

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
