//! The scheduler: a pure function from a view to a plan. Constraints are evaluated here; apply re-checks only capacity, lease and state.

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
mod obstacle;
mod out_of_service;
mod plan;
#[cfg(test)]
mod plan_test;
mod view;

pub use change::nearest;
pub use explain::{Blocker, Explanation, explain};
pub use feasible::{Shortfall, could_ever_fit, fits_empty};
pub use plan::{Plan, Policy, plan};
pub use view::{View, WorkerView};
