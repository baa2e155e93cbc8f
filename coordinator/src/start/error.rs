//! Why a member does not start, and what to do about it.

use crate::config::ConfigError;
use crate::raft::{self, MembershipError};
use crate::security::SecretError;
use crate::storage::StorageError;
use crate::store::StoreError;
use muster_proto::channel::ChannelError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} holds no member yet")]
    Fresh(PathBuf),
    #[error("cannot join: {0}")]
    Join(String),
    /// The cluster said no, and what to do about it.
    #[error("cannot join: {reason}")]
    JoinRefused { reason: String, hint: Option<String> },
    #[error("member {member} was removed from cluster {cluster}; {dir} is not used again")]
    Removed { dir: PathBuf, member: u64, cluster: String },
    #[error(transparent)]
    Raft(raft::StartError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error("cannot ask the disk of {dir} for its room: {error}")]
    Room { dir: PathBuf, error: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("storage failed, nothing is acknowledged any more: {0}")]
    StorageFailed(String),
    #[error("the listener failed: {0}")]
    Serve(String),
}

impl StartError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Config(error) => error.hint(),
            Self::Channel(error) => error.hint(),
            Self::Storage(error) | Self::Raft(raft::StartError::Storage(error)) => error.hint(),
            Self::Listen { .. } => "is another coordinator running there? choose another --listen",
            Self::Secret(SecretError::OtherCluster { .. }) => {
                "use an empty data directory to join another cluster"
            }
            Self::Secret(SecretError::NotAJoinToken(_)) => {
                "name the file join-token that the first member wrote"
            }
            Self::Secret(_) => "check that the data directory exists, is writable and belongs to you",
            Self::Store(error) => error.hint(),
            Self::Fresh(_) => {
                "give --bootstrap for the first member of a cluster, --join and --join-token-file for others"
            }
            Self::Join(_) => "is a member running there, and is the join token younger than an hour?",
            Self::JoinRefused { hint: Some(hint), .. } => hint,
            Self::JoinRefused { hint: None, .. } => "`muster cluster status` shows the members",
            Self::Removed { .. } => {
                "to use this machine again join as a new member, with an empty data directory: `muster cluster add ADDRESS` says how"
            }
            Self::StorageFailed(_) => {
                "look at the disk; a start checks what is there: it serves again, or names what is damaged and what to do"
            }
            Self::Room { .. } => "check that the data directory exists and is readable",
            Self::Raft(_) | Self::Membership(_) | Self::Thread(_) | Self::Serve(_) => "see the log above",
        }
    }
}

impl From<raft::StartError> for StartError {
    fn from(error: raft::StartError) -> Self {
        match error {
            raft::StartError::Storage(error) => Self::Storage(error),
            error => Self::Raft(error),
        }
    }
}
