//! How many machines each pool is to have, and which of them go: what waits, packed onto what a worker of each pool has.
//!
//! [`decide`] is a pure function of a [`Situation`]; the leader makes the situation of its view, a benchmark makes it of a trace.
//!
//! Architecture invariants: nothing is concluded from what is not known (no data: hold, I13). A gang is bought whole or not at all. A
//! decision never names a worker with something living on it to be ended, only to be drained.

mod decide;
mod situation;

pub use decide::decide;
pub use situation::{
    Decision, GroupSeen, InstanceSeen, Machine, MachineState, PoolDecision, Situation, Unmet, Waiting,
};

/// What a provider said longer ago than this is not known any more, ms: six looks.
pub const GROUP_STALE_MS: u64 = 60_000;
