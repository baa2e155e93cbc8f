//! Why a member does not start: each error names the file and the numbers, and [`StorageError::hint`] the next step.

use std::path::PathBuf;

use super::lock::Holder;
use super::promised::{Ballot, Promise};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot use {path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("cannot open the database {path}: {error}")]
    Open { path: PathBuf, error: rocksdb::Error },
    #[error("{path} is in use by {holder}")]
    Locked { path: PathBuf, holder: Holder },
    #[error("{path} was written in format {found}; this binary knows formats up to {known}")]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} belongs to cluster {found}, not to cluster {expected}")]
    OtherCluster { path: PathBuf, found: String, expected: String },
    #[error("{path} belongs to member {found}, not to member {expected}")]
    OtherMember { path: PathBuf, found: u64, expected: u64 },
    #[error("{path} is not readable: {reason}")]
    BadFile { path: PathBuf, reason: String },
    #[error("{path} is missing, though this member has written here before")]
    Missing { path: PathBuf },
    #[error("{path} is damaged at byte {offset}: {reason}")]
    DamagedFile { path: PathBuf, offset: u64, reason: &'static str },
    #[error("{path} is damaged: {reason}")]
    DamagedState { path: PathBuf, reason: String },
    #[error("{log} has forgotten a vote of this member, for {promised} ({mark})")]
    VoteForgotten { log: PathBuf, mark: PathBuf, promised: Ballot },
    #[error("{path} ends at entry {applied}, but {log} begins at {begins}: what lies between is in neither")]
    StateBehind { path: PathBuf, log: PathBuf, applied: u64, begins: u64 },
    #[error(
        "{log} ends at {last}, but this member promised {promised} ({mark}): acknowledged entries are lost"
    )]
    LogShorterThanPromised { log: PathBuf, mark: PathBuf, last: Promise, promised: Promise },
    #[error("entry {index} of {path} is damaged: {reason}")]
    DamagedEntry { path: PathBuf, index: u64, reason: &'static str },
    #[error(
        "entry {index} of {path} was written by a newer version, in format {found}; this binary knows {known}"
    )]
    NewerEntry { path: PathBuf, index: u64, found: u8, known: u8 },
}

impl StorageError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { error, .. } if error.kind() == std::io::ErrorKind::InvalidData => REPLACE,
            Self::Open { .. } if !self.is_damage() => {
                "check that the directory is writable and its disk has space"
            }
            Self::Io { .. } => "check that the directory exists, is writable and has space",
            Self::Locked { .. } => "stop that process, or give this one another data directory",
            Self::NewerFormat { .. } | Self::NewerEntry { .. } => {
                "start a binary at least as new as the one that wrote it"
            }
            Self::OtherCluster { .. } | Self::OtherMember { .. } => {
                "check the data directory; to join this cluster start with an empty one"
            }
            Self::Open { .. }
            | Self::BadFile { .. }
            | Self::Missing { .. }
            | Self::DamagedFile { .. }
            | Self::DamagedState { .. }
            | Self::VoteForgotten { .. }
            | Self::StateBehind { .. }
            | Self::LogShorterThanPromised { .. }
            | Self::DamagedEntry { .. } => REPLACE,
        }
    }

    /// Whether `state/` alone is at fault, which a whole log can make again.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            // A file that its own index names and that is gone is damage too, to RocksDB an error of the disk.
            Self::Open { error, .. } => {
                error.kind() == rocksdb::ErrorKind::Corruption || error.to_string().contains("No such file")
            }
            Self::BadFile { .. }
            | Self::Missing { .. }
            | Self::DamagedFile { .. }
            | Self::DamagedState { .. }
            | Self::StateBehind { .. } => true,
            Self::Io { error, .. } => error.kind() == std::io::ErrorKind::InvalidData,
            Self::Locked { .. }
            | Self::NewerFormat { .. }
            | Self::NewerEntry { .. }
            | Self::OtherCluster { .. }
            | Self::OtherMember { .. }
            | Self::VoteForgotten { .. }
            | Self::LogShorterThanPromised { .. }
            | Self::DamagedEntry { .. } => false,
        }
    }
}

/// What to do about a directory that must not be used again.
const REPLACE: &str = "this member must not vote again: take it out of the cluster (`muster cluster remove ID`), move its data directory away and \
join as a new member; when no majority is left, `muster cluster restore FILE --data-dir DIR` makes a cluster from a backup";
