//! muster-agent: the rules of the worker's side, pure. `Agent::step(now, Input) -> Vec<Action>`.
//!
//! Architecture invariants: no runtime, process, disk, clock or device is named here; `now` is the worker's boot-time clock in
//! milliseconds; what must survive a restart is an [`Action::Journal`] *before* the action that relies on it.

mod agent;
mod events;
mod evict;
pub mod input;
mod lease;
mod saving;

#[cfg(test)]
mod agent_test;
#[cfg(test)]
mod evict_test;

pub use agent::Agent;
pub use input::{Action, Input, Instruction, Journaled, StartOrder};
