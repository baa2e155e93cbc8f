//! The promised mark: up to which log entry this member has acknowledged, in its own small file.
//!
//! The file is preallocated and has two slots on two pages, written in turn, so that a torn write never loses both. It is
//! synced after the log and before the acknowledgement. A log that ends before the mark has lost acknowledged entries.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::error::StorageError;

/// Bytes between the slots: one page each, so one torn write harms one slot.
const SLOT_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"MUSTRPM1";
const RECORD_BYTES: usize = 8 + 8 + 8 + 8 + 32;

/// A place in the log. Ordered by term, then index, as Raft orders logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Promise {
    /// The term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}

/// Where the mark is kept: a file, or memory in the deterministic tests.
pub trait Mark: Send + Sync + 'static {
    /// Writes the mark and returns once it is durable.
    ///
    /// # Errors
    /// The disk's.
    fn set(&self, promise: Promise) -> io::Result<()>;

    /// The mark as last set.
    fn get(&self) -> Option<Promise>;
}

/// The mark in its file.
#[derive(Debug)]
pub struct FileMark {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sequence: u64,
    promise: Option<Promise>,
}

impl FileMark {
    /// Opens the mark; `None` when the file does not exist.
    ///
    /// # Errors
    /// A file that cannot be read, or in which no slot is whole.
    pub fn open(path: &Path) -> Result<Option<Self>, StorageError> {
        let io = |error| StorageError::Io { path: path.to_owned(), error };
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut newest: Option<(u64, Option<Promise>)> = None;
        for slot in 0..2 {
            let mut record = [0u8; RECORD_BYTES];
            if file.read_exact_at(&mut record, slot * SLOT_BYTES).is_err() {
                continue;
            }
            if let Some((sequence, promise)) = decode(&record)
                && newest.is_none_or(|(known, _)| sequence > known)
            {
                newest = Some((sequence, promise));
            }
        }
        let Some((sequence, promise)) = newest else {
            return Err(StorageError::BadFile {
                path: path.to_owned(),
                reason: "neither of its two slots is whole".into(),
            });
        };
        Ok(Some(Self { file, path: path.to_owned(), state: Mutex::new(State { sequence, promise }) }))
    }

    /// Makes the file of a new member: both slots say that nothing was promised.
    ///
    /// # Errors
    /// The disk's; a file that exists already.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let io = |error| StorageError::Io { path: path.to_owned(), error };
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(io)?;
        file.write_all_at(&vec![0u8; 2 * SLOT_BYTES as usize], 0).map_err(io)?;
        file.write_all_at(&encode(1, None), 0).map_err(io)?;
        file.write_all_at(&encode(2, None), SLOT_BYTES).map_err(io)?;
        file.sync_all().map_err(io)?;
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        Ok(Self { file, path: path.to_owned(), state: Mutex::new(State { sequence: 2, promise: None }) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Mark for FileMark {
    fn set(&self, promise: Promise) -> io::Result<()> {
        let mut state = self.state.lock();
        let sequence = state.sequence + 1;
        // Slot 0 holds odd sequences, slot 1 even ones: never the slot of the newest record.
        let slot = (sequence + 1) % 2;
        self.file.write_all_at(&encode(sequence, Some(promise)), slot * SLOT_BYTES)?;
        self.file.sync_data()?;
        *state = State { sequence, promise: Some(promise) };
        Ok(())
    }

    fn get(&self) -> Option<Promise> {
        self.state.lock().promise
    }
}

/// "Nothing promised" is the index `u64::MAX`, which no log reaches.
fn encode(sequence: u64, promise: Option<Promise>) -> [u8; RECORD_BYTES] {
    let promise = promise.unwrap_or(Promise { term: 0, index: u64::MAX });
    let mut record = [0u8; RECORD_BYTES];
    record[..8].copy_from_slice(MAGIC);
    record[8..16].copy_from_slice(&sequence.to_be_bytes());
    record[16..24].copy_from_slice(&promise.term.to_be_bytes());
    record[24..32].copy_from_slice(&promise.index.to_be_bytes());
    let hash = blake3::hash(&record[..32]);
    record[32..].copy_from_slice(hash.as_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<(u64, Option<Promise>)> {
    let number = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    if &record[..8] != MAGIC || blake3::hash(&record[..32]).as_bytes() != &record[32..] {
        return None;
    }
    let promise = Promise { term: number(16), index: number(24) };
    Some((number(8), (promise.index != u64::MAX).then_some(promise)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(term: u64, index: u64) -> Promise {
        Promise { term, index }
    }

    #[test]
    fn the_mark_survives_a_reopen() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("promised");
        assert!(FileMark::open(&path).expect("absent is fine").is_none());
        let mark = FileMark::create(&path).expect("create");
        assert_eq!(mark.get(), None);
        for index in 0..7 {
            mark.set(promise(1, index)).expect("set");
        }
        drop(mark);
        let mark = FileMark::open(&path).expect("open").expect("there");
        assert_eq!(mark.get(), Some(promise(1, 6)));
        assert!(FileMark::create(&path).is_err(), "an existing mark is never overwritten");
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_old_mark_or_the_new_one() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("promised");
        let mark = FileMark::create(&path).expect("create");
        mark.set(promise(1, 10)).expect("set");
        mark.set(promise(1, 11)).expect("set");
        drop(mark);
        let whole = std::fs::read(&path).expect("read");
        let next = encode(5, Some(promise(2, 12)));
        for torn in 0..=RECORD_BYTES {
            let mut bytes = whole.clone();
            bytes[..torn].copy_from_slice(&next[..torn]);
            // What follows the tear may be garbage, too.
            if torn < RECORD_BYTES {
                bytes[RECORD_BYTES - 1] ^= 0xff;
            }
            std::fs::write(&path, &bytes).expect("write");
            let found = FileMark::open(&path).expect("one slot is whole").expect("there").get();
            let expected = if torn == RECORD_BYTES { promise(2, 12) } else { promise(1, 11) };
            assert!(found == Some(expected) || found == Some(promise(1, 11)), "torn at {torn}: {found:?}");
        }
    }

    #[test]
    fn a_file_without_a_whole_slot_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("promised");
        std::fs::write(&path, vec![0u8; 8192]).expect("write");
        assert!(matches!(FileMark::open(&path), Err(StorageError::BadFile { .. })));
    }
}
