//! A task that needs several workers at once.

use serde::{Deserialize, Serialize};

/// Most workers of one gang.
pub const RANKS_MAX: u32 = 1_024;

/// How many workers, and how close to each other. `min` = `max` unless it is elastic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gang {
    /// Fewest workers, at least 1.
    pub min: u32,
    /// Most workers.
    pub max: u32,
    /// The label whose value all its workers share.
    pub require: Option<String>,
    /// Labels whose value as many as possible share, the closest first.
    pub prefer: Vec<String>,
}

impl Gang {
    /// Whether it may run on so many workers.
    #[must_use]
    pub fn takes(&self, ranks: usize) -> bool {
        u32::try_from(ranks).is_ok_and(|n| (self.min..=self.max).contains(&n))
    }
}
