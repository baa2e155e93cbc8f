//! Why something waits, as a document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `muster explain ID`. What stands at the top is of the first task that waits; `tasks` has each of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ExplainDoc {
    /// As it was asked for: `42`, `42.train`, `42.train[7]`.
    pub id: String,
    /// Of the job.
    pub state: String,
    pub blockers: Vec<BlockerDoc>,
    /// Its place among the ready tasks, from 1; none while it is not ready.
    #[serde(default)]
    pub position: Option<u64>,
    /// RFC 3339, UTC. Always none: how long work takes is not known yet.
    #[schemars(extend("format" = "date-time"))]
    pub estimated_start: Option<String>,
    /// What one person could do so that it starts now.
    pub smallest_change: Option<String>,
    #[serde(default)]
    pub tasks: Vec<TaskExplainDoc>,
}

/// One task that waits, or of whose saves there is something to say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TaskExplainDoc {
    pub task: String,
    /// `waiting ready held`.
    pub state: String,
    pub blockers: Vec<BlockerDoc>,
    #[serde(default)]
    pub position: Option<u64>,
    /// Workers that would take an index of it now, and all there are.
    #[serde(default)]
    pub fitting_workers: u64,
    #[serde(default)]
    pub workers: u64,
    pub smallest_change: Option<String>,
    /// What was measured of its saves and should be known, also while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BlockerDoc {
    pub reason: String,
    /// Workers, parents or indices that it is true of.
    pub count: u64,
    /// Ids of jobs that have what is missing.
    pub holders: Vec<u64>,
}
