//! Why files could not be packed, kept or brought back.

use muster_core::model::blob::BlobId;
use muster_core::model::tree::BadTree;
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
    #[error("{url:?} is no store: write file:///path, s3://bucket/prefix, gs:// or az://")]
    Url { url: String },
    #[error("the store has no {key}")]
    Missing { key: String },
    #[error("blob {id} in the store is damaged")]
    Damaged { id: BlobId },
    #[error("object {key} in the store is damaged")]
    Wrong { key: String },
    #[error("the store refused {key}: {source}")]
    Store { key: String, source: object_store::Error },
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

impl BlobError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Missing { .. } => Trouble::Gone,
            Self::Damaged { .. } | Self::Wrong { .. } | Self::Tree(_) => Trouble::Damaged,
            Self::Store { source, .. } => match source {
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => Trouble::Denied,
                other => match io_kind(other) {
                    Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                        Trouble::Denied
                    }
                    Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Trouble::Full,
                    _ => Trouble::Unreachable,
                },
            },
            _ => Trouble::Local,
        }
    }

    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Absent { path },
            _ => Self::File { what, path, source },
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
            _ => "",
        }
    }
}

/// What the operating system said, where a store is a directory.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}
