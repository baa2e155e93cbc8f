//! Why files could not be packed, kept or brought back.

use muster_core::model::tree::BadTree;
use muster_store::StoreError;
use std::io;
use std::path::PathBuf;

/// Each names the file, link or blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("{path} does not exist")]
    Absent { path: PathBuf },
    #[error("{path} is not a directory")]
    NotADirectory { path: PathBuf },
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} changed while it was read")]
    Changed { path: PathBuf },
    #[error("{path:?} has a name that is not UTF-8")]
    Name { path: PathBuf },
    #[error("{path} is neither a file, a directory nor a link")]
    Special { path: PathBuf },
    #[error("link {path} leads out of the directory, to {to}")]
    Link { path: PathBuf, to: PathBuf },
    #[error("bad pattern: {0}")]
    Pattern(#[from] globset::Error),
    #[error(transparent)]
    Tree(#[from] BadTree),
    #[error("the store has no {key}")]
    Missing { key: String },
    #[error(transparent)]
    Store(StoreError),
    #[error("stopped")]
    Stopped,
}

/// What is wrong, for whoever decides what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is not in the store.
    Gone,
    /// It is in the store, and is not what it was.
    Damaged,
    /// The store does not let us.
    Denied,
    /// The store has no room.
    Full,
    /// This machine's own files.
    Local,
    /// Everything else of the store: it may pass.
    Unreachable,
}

impl From<StoreError> for BlobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing { key } => Self::Missing { key },
            error => Self::Store(error),
        }
    }
}

impl BlobError {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Absent { path },
            _ => Self::File { what, path, source },
        }
    }

    /// What kind of trouble it is.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Missing { .. } => Trouble::Gone,
            Self::Tree(_) => Trouble::Damaged,
            Self::Store(error) => match error {
                StoreError::Missing { .. } => Trouble::Gone,
                StoreError::Damaged { .. } => Trouble::Damaged,
                StoreError::Denied { .. } => Trouble::Denied,
                StoreError::Full { .. } => Trouble::Full,
                StoreError::Unreachable { .. } | StoreError::Probe { .. } => Trouble::Unreachable,
                StoreError::Changed { .. }
                | StoreError::Local { .. }
                | StoreError::BadUrl { .. }
                | StoreError::Unusable { .. } => Trouble::Local,
            },
            _ => Trouble::Local,
        }
    }

    /// The next step, for people; empty when there is none to name.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Link { .. } | Self::Special { .. } | Self::Name { .. } | Self::File { .. } => {
                "leave it out with a pattern under `ignore:`"
            }
            Self::Tree(BadTree::TooLarge { .. }) => "leave directories out with patterns under `ignore:`",
            Self::Changed { .. } => "submit again when nothing writes there",
            Self::Store(error) => error.hint(),
            _ => "",
        }
    }
}
