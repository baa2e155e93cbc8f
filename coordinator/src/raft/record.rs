//! How an entry lies on disk: version, hash of the entry before, the entry, its own hash (BLAKE3 over index and all of it).
//!
//! The chain shows an entry that was exchanged or lost between its neighbours; the hash itself is the checksum. Members chain
//! their own logs: after a snapshot a log starts with [`NO_HASH`].

use std::path::Path;

use super::types::Entry;
use crate::storage::StorageError;

/// The record format.
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;
const HEAD_BYTES: usize = 1 + HASH_BYTES;

/// The hash of an entry.
pub type Hash = [u8; HASH_BYTES];

/// What the first entry of a log has before it.
pub const NO_HASH: Hash = [0; HASH_BYTES];

/// The key of an entry: its index, so that keys sort as indices do.
#[must_use]
pub fn key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// The index in a key.
#[must_use]
pub fn index_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// The record of an entry, and its hash.
///
/// # Errors
/// Those of postcard.
pub fn encode(entry: &Entry, before: &Hash) -> Result<(Vec<u8>, Hash), postcard::Error> {
    let mut record = Vec::with_capacity(HEAD_BYTES + HASH_BYTES + 128);
    record.push(VERSION);
    record.extend_from_slice(before);
    let mut record = postcard::to_extend(entry, record)?;
    let hash = hash(entry.log_id.index, &record);
    record.extend_from_slice(&hash);
    Ok((record, hash))
}

/// A record, read back and checked.
#[derive(Debug)]
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// The hash of the entry before it.
    pub before: Hash,
    /// Its own hash.
    pub hash: Hash,
}

/// Why a record is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It is whole, and of a version that this binary does not know.
    #[error(
        "it was written by a newer version, in format {0}; this binary knows {VERSION}: start that version"
    )]
    Newer(u8),
}

impl Unread {
    /// As what a log with this record at `index` is refused.
    #[must_use]
    pub fn at(self, path: &Path, index: u64) -> StorageError {
        let path = path.to_owned();
        match self {
            Self::Damaged(reason) => StorageError::DamagedEntry { path, index, reason },
            Self::Newer(found) => StorageError::NewerEntry { path, index, found, known: VERSION },
        }
    }
}

/// Reads a record. In every version the first byte is the version and the last 32 are the checksum of all before them, so that a flipped
/// bit is not taken for a newer version.
///
/// # Errors
/// What is wrong with it.
pub fn decode(index: u64, record: &[u8]) -> Result<Record, Unread> {
    let damaged = |reason| Err(Unread::Damaged(reason));
    if record.len() < HEAD_BYTES + HASH_BYTES {
        return damaged("it is too short");
    }
    let (body, stored) = record.split_at(record.len() - HASH_BYTES);
    let hash = hash(index, body);
    if stored != hash {
        return damaged("its checksum does not match");
    }
    if body[0] > VERSION {
        return Err(Unread::Newer(body[0]));
    }
    if body[0] != VERSION {
        return damaged("its version is unknown");
    }
    let Ok(before) = body[1..HEAD_BYTES].try_into() else { return damaged("it is too short") };
    let Ok(entry) = postcard::from_bytes::<Entry>(&body[HEAD_BYTES..]) else {
        return damaged("it does not decode");
    };
    if entry.log_id.index != index {
        return damaged("it lies at another index");
    }
    Ok(Record { entry, before, hash })
}

fn hash(index: u64, body: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index.to_be_bytes());
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

/// A record as a newer version would write it.
#[cfg(test)]
pub fn of_newer(index: u64, record: &[u8]) -> Vec<u8> {
    let mut body = record[..record.len() - HASH_BYTES].to_vec();
    body[0] = VERSION + 1;
    [&body[..], &hash(index, &body)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Blob, LogId};
    use openraft::entry::RaftEntry;

    fn entry(index: u64) -> Entry {
        let leader = openraft::impls::leader_id_std::LeaderId { term: 3, voted_for: 1 };
        let id = LogId::new(openraft::vote::RaftLeaderId::to_committed(&leader), index);
        Entry::new_normal(id, Blob(bytes::Bytes::from_static(b"some command")))
    }

    #[test]
    fn a_record_reads_back() {
        let (record, hash) = encode(&entry(7), &[9; 32]).expect("encode");
        let read = decode(7, &record).expect("decode");
        assert_eq!((read.entry, read.before, read.hash), (entry(7), [9; 32], hash));
    }

    #[test]
    fn any_flipped_bit_any_cut_and_any_other_place_is_found() {
        let (record, _) = encode(&entry(7), &NO_HASH).expect("encode");
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(7, &bad).is_err(), "bit {bit}");
        }
        for cut in 0..record.len() {
            assert!(decode(7, &record[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode(8, &record).is_err());
    }

    #[test]
    fn a_whole_record_of_a_newer_version_is_no_damage() {
        let (record, _) = encode(&entry(7), &NO_HASH).expect("encode");
        let unread = decode(7, &of_newer(7, &record)).expect_err("newer");
        assert_eq!(unread, Unread::Newer(VERSION + 1));
        let error = unread.at(Path::new("d/log"), 7);
        assert!(error.to_string().contains("entry 7 of d/log was written by a newer version"), "{error}");
        assert!(error.hint().contains("binary at least as new"));
        let mut flipped = record;
        flipped[0] = VERSION + 1;
        assert!(matches!(decode(7, &flipped), Err(Unread::Damaged(_))), "a flipped bit is");
    }
}
