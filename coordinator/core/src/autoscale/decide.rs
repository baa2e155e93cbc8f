//! The decision: what is wanted of each pool.

use super::situation::{Decision, Situation};

/// What is to be done, pool by pool in the order of their names.
#[must_use]
pub fn decide(_situation: &Situation<'_>) -> Decision {
    Decision::default()
}
