//! How a backup file lies: a magic and the format, then records of a kind, a length, the body and a checksum.
//!
//! A record's checksum covers the one before it, so that the last one covers the file: no byte can be changed, and no record left out,
//! exchanged or added, without the chain breaking there. It is the checksum of the whole.

use crate::raft::snapshot::{self, Part};
use crate::storage::Checkpoint;
use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::io;

/// The newest format that this binary reads, and the one it writes.
pub const FORMAT: u32 = 1;

pub(super) const MAGIC: &[u8; 14] = b"MUSTER-BACKUP\n";
pub(super) const PREAMBLE_BYTES: usize = MAGIC.len() + 4;
/// Kind and length.
pub(super) const RECORD_HEAD_BYTES: usize = 5;
pub(super) const HASH_BYTES: usize = 32;
/// A record's body: a part of a file, and its name.
pub(super) const BODY_BYTES_MAX: usize = snapshot::PART_BYTES + 4096;

pub(super) const HEAD: u8 = b'H';
pub(super) const FILE: u8 = b'F';
pub(super) const END: u8 = b'E';

/// What a backup says of itself, as JSON in its first record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    pub cluster_id: String,
    /// The member that wrote it.
    pub member: u64,
    /// The last log entry in it, and that entry's term.
    pub index: u64,
    pub term: u64,
    /// RFC 3339.
    pub created: String,
    /// Of the binary that wrote it.
    pub version: String,
    /// Where the blobs and logs are that the jobs in it name. They are not in the file.
    pub store_url: String,
    pub files: u64,
    /// Bytes of all files.
    pub size: u64,
}

/// The chain of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain(pub blake3::Hash);

impl Chain {
    pub(super) fn start(preamble: &[u8]) -> Self {
        Self(blake3::hash(preamble))
    }

    pub(super) fn next(self, head: &[u8], body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.0.as_bytes()).update(head).update(body);
        Self(hasher.finalize())
    }
}

/// What the file begins with.
pub(super) fn preamble() -> Vec<u8> {
    [MAGIC.as_slice(), &FORMAT.to_be_bytes()].concat()
}

fn record(chain: &mut Chain, kind: u8, body: &[u8]) -> Bytes {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(RECORD_HEAD_BYTES + body.len() + HASH_BYTES);
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    *chain = chain.next(&bytes, body);
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(chain.0.as_bytes());
    bytes.into()
}

/// Reads a copy of the state out as the bytes of a backup, piece by piece, with about the size of all of it, until `each` returns false.
///
/// # Errors
/// The disk's.
pub fn write(files: &Checkpoint, head: Head, mut each: impl FnMut(u64, Bytes) -> bool) -> io::Result<()> {
    let mut head = head;
    (head.files, head.size) = (0, 0);
    for entry in std::fs::read_dir(files.path())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            head.files += 1;
            head.size += entry.metadata()?.len();
        }
    }
    // The records' own bytes are a few a MiB.
    let total = head.size + (head.size >> 20) * 128 + head.files * 256;
    let preamble = preamble();
    let mut chain = Chain::start(&preamble);
    let body = serde_json::to_vec(&head).map_err(io::Error::other)?;
    let first = record(&mut chain, HEAD, &body);
    if !each(total, [&preamble[..], &first[..]].concat().into()) {
        return Ok(());
    }
    snapshot::read(files, |part| {
        let bytes = match part {
            Part::File(file) => record(&mut chain, FILE, &file.encode_to_vec()),
            Part::End(end) => record(&mut chain, END, &end.encode_to_vec()),
        };
        each(total, bytes)
    })
}
