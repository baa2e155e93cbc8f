//! Why a backup is not used: each error names the file, and the byte where there is one.

use crate::raft::{MembershipError, ProposeError, StartError};
use crate::security::SecretError;
use crate::storage::StorageError;
use std::io;
use std::path::PathBuf;

/// Why a backup cannot be read or restored. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot use {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is not a backup of Muster")]
    NotABackup { path: PathBuf },
    #[error("{path} is a backup of format {found}; this binary knows formats up to {known}")]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} is damaged at byte {at}: {reason}")]
    Damaged { path: PathBuf, at: u64, reason: &'static str },
    #[error("{path} ends at byte {at} without its end: the rest is missing")]
    Cut { path: PathBuf, at: u64 },
    #[error("{path} goes on after its end, at byte {at}")]
    Trailing { path: PathBuf, at: u64 },
    #[error("{path} does not unpack: {reason}")]
    Unpack { path: PathBuf, reason: String },
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    #[error("{0} is a mount point, into which a restore cannot move what it made beside it")]
    MountPoint(PathBuf),
    #[error("{0} exists and is not what a restore that was cut off left")]
    InTheWay(PathBuf),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error("the new cluster takes no entry: {0}")]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl BackupError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check that the file and the directory exist, are yours and have space",
            Self::NotABackup { .. } => "name a file that `muster cluster backup` wrote",
            Self::NewerFormat { .. } => "use a `muster` at least as new as the one that wrote it",
            Self::Damaged { .. } | Self::Cut { .. } | Self::Trailing { .. } | Self::Unpack { .. } => {
                "use another copy of it, or an earlier backup: nothing of this one is restored"
            }
            Self::NotEmpty(_) => "a restore makes a new cluster: give it a directory that does not exist yet",
            Self::MountPoint(_) => "name a directory in it that does not exist yet",
            Self::InTheWay(_) => "move it away, or choose another --data-dir",
            Self::Storage(error) | Self::Start(StartError::Storage(error)) => error.hint(),
            Self::Start(_) | Self::Membership(_) | Self::Propose(_) | Self::Secret(_) => {
                "see the error above"
            }
        }
    }

    pub(super) fn io(path: &std::path::Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), error }
    }
}
