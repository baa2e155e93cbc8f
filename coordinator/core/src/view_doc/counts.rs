//! How many indices of a job or task are in each state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Indices by state; a task without an array counts as one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CountsDoc {
    pub total: u64,
    pub waiting: u64,
    pub ready: u64,
    pub held: u64,
    pub starting: u64,
    pub running: u64,
    pub stopping: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub skipped: u64,
    pub cancelled: u64,
}

impl CountsDoc {
    /// Indices that will not change any more.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.skipped + self.cancelled
    }

    /// Indices that hold a worker now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.starting + self.running + self.stopping
    }
}
