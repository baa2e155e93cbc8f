//! How many machines each pool is to have, and which of them go: what waits, packed onto what a worker of each pool has.
//!
//! [`decide`] is a pure function of a [`Situation`]; the leader makes the situation of its view, a benchmark makes it of a trace.
//!
//! Architecture invariants: nothing is concluded from what is not known (no data: hold, I13). A gang is bought whole or not at all. A
//! decision never names a worker with something living on it to be ended, only to be drained.

mod decide;
#[cfg(test)]
mod decide_test;
mod demand;
mod pools;
mod scale_in;
mod situation;

pub use decide::decide;
pub use situation::{
    Decision, GroupReport, GroupSeen, InstancePhase, InstanceReport, InstanceSeen, Machine, MachineState,
    Order, PoolDecision, Situation, Unmet, Waiting,
};

use crate::model::worker::WorkerSpec;
use crate::scheduler::kind_key;

/// What a provider said longer ago than this is not known any more, ms: six looks.
pub const GROUP_STALE_MS: u64 = 60_000;
/// From the order to the first heartbeat, where nothing was seen yet, ms: what a GPU machine of a large cloud takes.
pub const BOOT_UNKNOWN_MS: u64 = 180_000;
/// A pool whose machines did not come is tried again after this long, ms; twice that after the next time, …
pub const RETRY_FIRST_MS: u64 = 60_000;
/// … and this at most, ms.
pub const RETRY_LAST_MS: u64 = 3_600_000;
/// Tasks that a machine is given in a row at most. What runs for a second need not be counted more exactly.
const ROUNDS_MAX: u64 = 256;
/// Tasks that run on one machine at once at most, as far as this counts.
const TASKS_PER_MACHINE_MAX: u64 = 1_024;

/// A number that workers of one kind share: they are alike in all that a task may ask for, but their names.
#[must_use]
pub fn kind(spec: &WorkerSpec) -> u64 {
    let digest = blake3::hash(kind_key(spec).as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(first)
}
