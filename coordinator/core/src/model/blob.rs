//! Content addresses: a blob is named by the BLAKE3 hash of its bytes, so it is immutable and never sent twice.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The BLAKE3-256 digest of a blob; prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 32]);

impl BlobId {
    /// The id of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Where the blob lies in the store, relative to `store.url`.
    #[must_use]
    pub fn store_key(&self) -> String {
        let hex = self.to_string();
        format!("blobs/{}/{hex}", &hex[..2])
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.to_string()[..12])
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a blob id: expected 64 hexadecimal digits")]
pub struct BadBlobId;

impl FromStr for BlobId {
    type Err = BadBlobId;

    fn from_str(s: &str) -> Result<Self, BadBlobId> {
        if s.len() != 64 || !s.is_ascii() {
            return Err(BadBlobId);
        }
        let mut id = [0; 32];
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| BadBlobId)?;
        }
        Ok(Self(id))
    }
}

/// Where the captured stream of a rank of an attempt lies in the store (`stream` is `stdout` or `stderr`).
#[must_use]
pub fn log_key(job: u64, task: u32, index: u32, attempt: u32, rank: u32, stream: &str) -> String {
    match rank {
        0 => format!("logs/{job}/{task}/{index}/{attempt}.{stream}"),
        _ => format!("logs/{job}/{task}/{index}/{attempt}.rank{rank}.{stream}"),
    }
}
