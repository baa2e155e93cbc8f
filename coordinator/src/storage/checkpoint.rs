//! [`Checkpoint`]: a point-in-time copy of a database, in a directory of its own that goes with its last handle.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory with a whole database of its own. The directory goes with the last handle.
#[derive(Debug, Clone)]
pub struct Checkpoint(Arc<Dir>);

impl Checkpoint {
    /// Takes a directory over; it goes with the last handle.
    #[must_use]
    pub fn adopt(path: PathBuf) -> Self {
        Self(Arc::new(Dir(path)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.0
    }
}

#[derive(Debug)]
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a snapshot");
        }
    }
}
