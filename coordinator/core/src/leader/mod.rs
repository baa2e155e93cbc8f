//! The leader: when to plan, who is alive, what each worker has to be told. It proposes and instructs; it changes nothing itself.
//!
//! Architecture invariant: instructions come from comparing the state with what a worker last said, never from remembered messages.

mod autoscale;
#[cfg(test)]
mod autoscale_test;
#[cfg(test)]
mod checkpoint_test;
mod checkpoints;
mod devices;
#[cfg(test)]
mod devices_test;
mod drive;
mod empties;
#[cfg(test)]
mod empties_test;
mod foreign;
#[cfg(test)]
mod foreign_test;
#[cfg(test)]
mod gang_test;
mod group_size;
pub mod instruction;
mod io;
#[cfg(test)]
mod leader_test;
mod liveness;
#[cfg(test)]
mod notice_test;
mod notices;
mod orders;
mod proposals;
mod providers;
mod reconcile;
mod scaling;
#[cfg(test)]
mod spot_test;
mod step;
#[cfg(test)]
mod timeout_test;

pub use io::{Input, Output, PoolUse, SessionId, Signals};
pub use step::Leader;
