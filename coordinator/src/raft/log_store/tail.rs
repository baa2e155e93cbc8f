//! The end of the log in memory: what is known of it without reading, and the entries that were written last.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use openraft::EntryPayload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::raft::record::{self, Hash, NO_HASH, Unread};
use crate::raft::types::{Entry, LogId, Vote};
use crate::storage::{Change, Disk, StorageError, Table};

pub(super) const VOTE: &[u8] = b"vote";
pub(super) const COMMITTED: &[u8] = b"committed";
pub(super) const PURGED: &[u8] = b"purged";

/// Entries kept in memory, at most.
const RECENT_ENTRIES: usize = 8192;
/// Bytes of entries kept in memory, at most.
const RECENT_BYTES: usize = 8 << 20;

/// What is known of the log without reading it.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub purged: Option<LogId>,
    /// The first index that is in the log, or that comes next in one without entries.
    pub begins: u64,
    pub last: Option<LogId>,
    pub hash: Hash,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub committed_stored: Option<LogId>,
    pub recent: VecDeque<Entry>,
    pub recent_bytes: usize,
}

pub(super) fn weight(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(blob) => blob.0.len(),
        EntryPayload::Blank => 0,
        EntryPayload::Membership(_) => 256,
    };
    payload + size_of::<Entry>()
}

pub(super) fn read_meta<T: DeserializeOwned>(disk: &impl Disk, key: &[u8]) -> io::Result<Option<T>> {
    match disk.get(Table::Meta, key)? {
        Some(bytes) => postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other),
        None => Ok(None),
    }
}

pub(super) fn put_meta<T: Serialize>(key: &[u8], value: &T) -> io::Result<Change> {
    let value = postcard::to_stdvec(value).map_err(io::Error::other)?;
    Ok(Change::Put(Table::Meta, key.to_vec(), value))
}

pub(super) fn read_tail(disk: &impl Disk, path: &Path) -> Result<Tail, StorageError> {
    let io = |error| StorageError::Io { path: path.to_owned(), error };
    let purged: Option<(LogId, Hash)> = read_meta(disk, PURGED).map_err(io)?;
    let committed = read_meta(disk, COMMITTED).map_err(io)?;
    let mut tail = Tail {
        purged: purged.as_ref().map(|(id, _)| *id),
        begins: purged.as_ref().map_or(0, |(id, _)| id.index + 1),
        last: purged.as_ref().map(|(id, _)| *id),
        hash: purged.as_ref().map_or(NO_HASH, |(_, hash)| *hash),
        vote: read_meta(disk, VOTE).map_err(io)?,
        committed,
        committed_stored: committed,
        ..Tail::default()
    };
    let mut damage = None;
    let mut first = true;
    disk.scan(Table::Data, &[], None, &mut |key, value| {
        let index = record::index_of(key).unwrap_or_default();
        let checked = record::decode(index, value).and_then(|read| {
            let expected = tail.last.as_ref().map_or(0, |last| last.index + 1);
            // The first entry of a log that never was purged may stand anywhere: a log that begins with a snapshot's successor.
            if index != expected && !(first && tail.purged.is_none()) {
                return Err(Unread::Damaged("the one before it is missing"));
            }
            if read.before != tail.hash {
                return Err(Unread::Damaged("it does not follow the one before it"));
            }
            Ok(read)
        });
        if first && tail.purged.is_none() {
            tail.begins = index;
        }
        first = false;
        match checked {
            Ok(read) => {
                tail.last = Some(read.entry.log_id);
                tail.hash = read.hash;
                true
            }
            Err(reason) => {
                damage = Some(reason.at(path, index));
                false
            }
        }
    })
    .map_err(io)?;
    damage.map_or(Ok(tail), Err)
}

impl Tail {
    pub fn remember(&mut self, entry: Entry) {
        if self.recent.back().is_some_and(|last| last.log_id.index + 1 != entry.log_id.index) {
            self.forget();
        }
        self.recent_bytes += weight(&entry);
        self.recent.push_back(entry);
        while self.recent.len() > RECENT_ENTRIES
            || (self.recent_bytes > RECENT_BYTES && self.recent.len() > 1)
        {
            if let Some(oldest) = self.recent.pop_front() {
                self.recent_bytes -= weight(&oldest);
            }
        }
    }

    pub fn forget(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }
}
