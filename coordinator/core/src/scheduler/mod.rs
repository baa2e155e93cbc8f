//! The scheduler: a pure function from a view to a plan. Constraints are evaluated here; apply re-checks only capacity, lease and state.

mod advice;
#[cfg(test)]
mod advice_test;
mod board;
#[cfg(test)]
mod board_test;
mod change;
mod explain;
#[cfg(test)]
mod explain_test;
mod feasible;
mod gang;
#[cfg(test)]
mod gang_test;
mod gangs;
mod links;
mod mix;
mod obstacle;
mod out_of_service;
mod plan;
#[cfg(test)]
mod plan_test;
mod ranking;
mod reserve;
#[cfg(test)]
mod reserve_test;
mod room;
mod scarcity;
mod score;
mod spot;
#[cfg(test)]
mod spot_test;
mod view;
mod waiting;

pub use advice::advice;
pub use board::Board;
pub use change::nearest;
pub use explain::{Blocker, Explanation, explain};
pub use feasible::{Shortfall, could_ever_fit, fits_empty};
pub(crate) use feasible::{fit, has_room};
pub use mix::{Mix, Shape};
pub(crate) use plan::Facts;
pub use plan::{Plan, Policy, plan};
pub use ranking::Ask;
pub(crate) use room::kind_key;
pub use view::{View, WorkerView};
