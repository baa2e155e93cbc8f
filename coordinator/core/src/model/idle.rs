//! What is done about attempts that have GPUs and compute nothing on them.

use serde::{Deserialize, Serialize};

/// What happens to one that has computed nothing for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleAction {
    /// Somebody is told, once.
    #[default]
    Warn,
    /// It is evicted, with its grace to save, and queued again; nothing is charged.
    Requeue,
    /// It ends as after a timeout: charged, and tried again only where the task says so of timeouts.
    Kill,
}

/// The rule of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdlePolicy {
    /// On no GPU that it has anything was computed for so long, ms.
    pub after_ms: u64,
    pub action: IdleAction,
}
