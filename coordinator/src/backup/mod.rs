//! A backup: all the replicated state as of one log index, in one file, and a new cluster from it.
//!
//! [`format`] how the file lies, every byte under a chain of checksums · `read` checks and unpacks · [`restore`] makes a data directory.
//! Left out, in the file as in the restore: the store (blobs, artifacts, logs), the cluster's secret and with it all tokens.

#[cfg(test)]
mod backup_test;
mod error;
mod format;
mod read;
mod restore;

pub use error::BackupError;
pub use format::{FORMAT, Head, write};
pub use read::{Verified, verify};
pub use restore::{Restore, Restored, check_rows, restore};
