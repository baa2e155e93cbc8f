//! An artifact: an immutable, content-addressed output of a task.

use super::blob::BlobId;
use serde::{Deserialize, Serialize};

/// One output of one index, as the winning attempt produced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The output's name in the job file.
    pub name: String,
    /// The manifest blob: files with their paths, modes, sizes and chunk ids.
    pub manifest: BlobId,
    /// Bytes of all files.
    pub size: u64,
}
