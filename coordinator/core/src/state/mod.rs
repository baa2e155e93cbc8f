//! The replicated state: what is true after each entry of the log. `apply` is a match; families are files of `apply/`.

mod accounting;
mod apply;
#[cfg(test)]
mod budget_test;
#[cfg(test)]
mod checkpoint_test;
mod delta;
#[cfg(test)]
mod device_test;
#[cfg(test)]
mod gang_test;
pub mod indices;
pub mod job;
#[cfg(test)]
mod ledger_test;
#[cfg(test)]
mod member_test;
#[cfg(test)]
mod notice_test;
mod restore;
pub mod rows;
#[cfg(test)]
mod state_test;
mod store;
#[cfg(test)]
pub(crate) mod test_state;

pub use apply::{Applied, Entry, command_key};
pub use delta::{Delta, JobDelta, LiveDelta, TaskDelta, WhenDelta};
pub use job::{Job, Phase, TaskRun};
pub use restore::RestoreError;
pub use rows::{Admission, Changes, History, Key, Row};
pub use store::{State, Used};
