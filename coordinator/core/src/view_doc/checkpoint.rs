//! Committed checkpoints, as documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `muster checkpoint list ID`: by task and index, the oldest of each first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointsDoc {
    pub checkpoints: Vec<CheckpointDoc>,
    /// Those that exist and are not listed.
    #[serde(default)]
    pub omitted: u64,
}

/// One committed checkpoint that is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointDoc {
    pub job: u64,
    pub task: String,
    /// Of an array only.
    pub index: Option<u32>,
    /// The task's own count of its progress.
    pub step: u64,
    /// Number of the attempt that made it, and its fencing token.
    pub attempt: u32,
    pub token: u64,
    /// Bytes of all files.
    pub size: u64,
    pub files: u64,
    /// Ranks that gave a part of it.
    pub ranks: u64,
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub committed: String,
    /// How long it took to store, the longest of its ranks.
    pub took_seconds: f64,
    /// Number of the last attempt that began from it.
    pub resumed_by: Option<u32>,
}
