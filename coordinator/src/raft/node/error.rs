//! Why a member does not start, a proposal is not acknowledged, a read waits, the membership stays.

use openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};

use crate::raft::machine::Answer;
use crate::raft::types::{Tokio, Types};
use crate::storage::StorageError;

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("unusable timing: {0}")]
    Config(#[from] openraft::ConfigError),
    #[error("raft does not start: {reason}")]
    Raft { reason: String },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Another member, as a caller is sent to it: id and address.
pub type Leader = Option<(u64, String)>;

/// Why a proposal was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Nothing happened; try there.
    #[error("this member does not lead")]
    NotLeader { leader: Leader },
    /// The leader changed meanwhile: it may have been committed or not. Repeat it with the same request id.
    #[error("the leader changed; whether the change was made is unknown")]
    Unknown { leader: Leader },
    #[error("an entry of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("a batch does not encode: {0}")]
    Encode(#[source] postcard::Error),
    /// This member has stopped for good (disk failure or shutdown).
    #[error("this member stopped: {reason}")]
    Fatal { reason: String },
}

/// Why a linearizable read is not possible now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error("this member does not lead")]
    NotLeader { leader: Leader },
    #[error("no leader is known")]
    NoLeader,
    #[error("the leader does not answer: {reason}")]
    LeaderUnreachable { reason: String },
    #[error("no majority answers")]
    NoQuorum,
    #[error("this member stopped: {reason}")]
    Fatal { reason: String },
}

/// Why the membership does not change.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("this member does not lead")]
    NotLeader { leader: Leader },
    #[error("the cluster is bootstrapped already")]
    Bootstrapped,
    #[error("member {member} is not in the membership")]
    NotAMember { member: u64 },
    #[error("member {member} is the last one that votes")]
    LastVoter { member: u64 },
    #[error("without member {member}, {voters} would vote, of whom {alive} answer now; {needed} are needed")]
    LosesMajority { member: u64, voters: usize, alive: usize, needed: usize },
    #[error("without member {member}, {voters} would vote and none of them could fail; now {spare} could")]
    NoSpare { member: u64, voters: usize, spare: usize },
    #[error("member {member} leads: another has to lead before it leaves")]
    Leads { member: u64 },
    #[error("member {member} does not vote, so it cannot lead")]
    NoVote { member: u64 },
    #[error("member {member} does not answer")]
    Silent { member: u64 },
    #[error("no other member that votes answers")]
    NobodyElse,
    #[error("member {member} is {entries} entries behind")]
    Behind { member: u64, entries: u64 },
    #[error("nobody else leads after {ms} ms")]
    NotTaken { ms: u128 },
    #[error("refused: {reason}")]
    Refused { reason: String },
    #[error("this member stopped: {reason}")]
    Fatal { reason: String },
}

impl MembershipError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAMember { .. } => Some("`muster cluster status` lists the members"),
            Self::LastVoter { .. } => Some("add another member first: `muster cluster add ADDRESS`"),
            Self::LosesMajority { .. } => Some(
                "start the member that does not answer, or replace it first: `muster cluster add ADDRESS --replace ID`",
            ),
            Self::NoSpare { .. } => Some(
                "add a member first: `muster cluster add ADDRESS`; or say --force if that is what you want",
            ),
            Self::NoVote { .. } | Self::Behind { .. } => {
                Some("wait until `muster cluster status` shows it as follower")
            }
            Self::Silent { .. } | Self::NobodyElse => Some("start it, or name another member"),
            Self::NotTaken { .. } => Some("`muster cluster status` shows who leads; try again"),
            Self::NotLeader { .. }
            | Self::Bootstrapped
            | Self::Leads { .. }
            | Self::Refused { .. }
            | Self::Fatal { .. } => None,
        }
    }
}

pub(super) fn leader<A: Answer>(to: ForwardToLeader<Types<A, Tokio>>) -> Leader {
    Some((to.leader_id?, to.leader_node?.addr))
}

pub(super) fn membership<A: Answer>(
    error: RaftError<Types<A, Tokio>, ClientWriteError<Types<A, Tokio>>>,
) -> MembershipError {
    match error {
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        ) => MembershipError::NotLeader { leader: leader(to) },
        RaftError::APIError(error) => MembershipError::Refused { reason: error.to_string() },
        RaftError::Fatal(error) => MembershipError::Fatal { reason: error.to_string() },
    }
}
