//! Queues, as documents.

use super::CountsDoc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `muster queue list`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueuesDoc {
    pub queues: Vec<QueueDoc>,
}

/// One queue: every name that a job in memory uses, and `default`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueDoc {
    pub name: String,
    /// Jobs that are not final.
    pub jobs: u64,
    /// Their indices by state.
    pub tasks: CountsDoc,
}
