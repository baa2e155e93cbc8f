//! The members of the Raft group, as a document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `muster cluster status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClusterDoc {
    pub members: Vec<MemberDoc>,
    /// None while there is no leader.
    pub leader: Option<u64>,
    pub term: u64,
    #[serde(default)]
    pub cluster_id: String,
    /// Of the member that answered.
    #[serde(default)]
    pub version: String,
    /// It is there for exercises, says the member that answered.
    #[serde(default)]
    pub staging: bool,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberDoc {
    pub id: u64,
    pub address: String,
    /// `leader follower learner`; `unreachable` when it does not answer the leader.
    pub role: String,
    /// Log index; none when the answering member does not know it.
    pub last_applied: Option<u64>,
}
