//! Why a member does not start: each error names the file and the numbers, and [`StorageError::hint`] the next step.

use std::path::PathBuf;

use super::promised::Promise;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot use {path}: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("cannot open the database {path}: {error}")]
    Open { path: PathBuf, error: rocksdb::Error },
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("{path} was written in format {found}; this binary knows formats up to {known}")]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} belongs to cluster {found}, not to cluster {expected}")]
    OtherCluster { path: PathBuf, found: String, expected: String },
    #[error("{path} belongs to member {found}, not to member {expected}")]
    OtherMember { path: PathBuf, found: u64, expected: u64 },
    #[error("{path} is not readable: {reason}")]
    BadFile { path: PathBuf, reason: String },
    #[error("{path} is missing, but {log} holds entries up to {last}")]
    MarkMissing { path: PathBuf, log: PathBuf, last: Promise },
    #[error(
        "{log} ends at {last}, but this member promised {promised} ({mark}): acknowledged entries are lost"
    )]
    LogShorterThanPromised { log: PathBuf, mark: PathBuf, last: Promise, promised: Promise },
    #[error("entry {index} of {path} is damaged: {reason}")]
    DamagedEntry { path: PathBuf, index: u64, reason: &'static str },
}

impl StorageError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check that the directory exists, is writable and has space",
            Self::Locked { .. } => "stop the other coordinator, or give this one another data directory",
            Self::NewerFormat { .. } => "start a binary at least as new as the one that wrote it",
            Self::OtherCluster { .. } | Self::OtherMember { .. } => {
                "check the data directory; to join this cluster start with an empty one"
            }
            Self::Open { .. }
            | Self::BadFile { .. }
            | Self::MarkMissing { .. }
            | Self::LogShorterThanPromised { .. }
            | Self::DamagedEntry { .. } => {
                "this member must not vote again: remove it from the cluster, move the directory away and join as a new member"
            }
        }
    }
}
