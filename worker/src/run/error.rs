//! Why a worker does not run.

use crate::blobs::BlobError;
use crate::config::ConfigError;
use crate::executor::ShimError;
use crate::join::JoinError;
use crate::journal::JournalError;
use muster_store::StoreError;
use std::io;
use std::path::PathBuf;

/// Each names the file or the peer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot use the data directory {dir}: {source}")]
    DataDir { dir: PathBuf, source: io::Error },
    #[error("cannot read the boot id: {0}")]
    BootId(io::Error),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Shim(#[from] ShimError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot listen for the tasks' commits: {0}")]
    TaskSocket(io::Error),
    #[error("cannot use the cache of files: {0}")]
    Cache(#[from] BlobError),
    #[error("the cluster has no store")]
    NoStore,
    #[error("the thread that reads the devices ended")]
    Devices,
}

impl WorkerError {
    /// The next step, for people; empty when there is none to name.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Config(error) => error.hint(),
            Self::Join(error) => error.hint(),
            Self::DataDir { .. } => "choose another one with --data-dir",
            Self::NoStore => "set `store.url` on the coordinator or here",
            Self::Journal(JournalError::Locked { .. }) => "give every worker a data directory of its own",
            Self::TaskSocket(_) => "choose a shorter path with --data-dir",
            Self::Store(error) => error.hint(),
            Self::Cache(error) => error.hint(),
            Self::BootId(_) | Self::Devices | Self::Journal(_) | Self::Shim(_) => "",
        }
    }
}
