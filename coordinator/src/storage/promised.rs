//! The promised mark: up to which log entry this member has acknowledged and what it voted last, in its own small file.
//!
//! The file is preallocated and has two slots on two pages, written in turn, so that a torn write never loses both. It is
//! synced after the log and before the acknowledgement. A log that ends before the mark has lost acknowledged entries; one
//! without the vote of the mark has forgotten it, as when its last bytes are cut off, and would vote twice in a term.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use muster_failpoint::{Point, hit, tear};
use parking_lot::Mutex;

use super::error::StorageError;

/// Bytes between the slots: one page each, so one torn write harms one slot.
const SLOT_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"MUSTRPM2";
/// Magic, sequence, term, index, the vote (term, whose, kind), checksum.
const BODY_BYTES: usize = 7 * 8;
const RECORD_BYTES: usize = BODY_BYTES + 32;

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

/// A vote: for whom in which term, and whether a majority confirmed it. In a term it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// Whether a majority granted it.
    pub committed: bool,
    /// The candidate.
    pub candidate: u64,
}

impl Ballot {
    /// Whether a log that holds the vote `self` has not forgotten the vote `promised`.
    ///
    /// In one term a member may vote for one candidate and then follow another, whom the rest elected: having followed a leader of the
    /// term it gives no vote in it any more, so nothing is forgotten.
    #[must_use]
    pub fn covers(self, promised: Self) -> bool {
        let same = self.candidate == promised.candidate && self.committed >= promised.committed;
        let follows = self.committed && !promised.committed;
        self.term > promised.term || (self.term == promised.term && (same || follows))
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} in term {}", self.candidate, self.term)
    }
}

/// All that the mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promised {
    /// The last acknowledged entry.
    pub entry: Option<Promise>,
    /// The last acknowledged vote.
    pub vote: Option<Ballot>,
}

/// Where the mark is kept: a file, or memory in the deterministic tests.
pub trait Mark: Send + Sync + 'static {
    /// Writes the mark and returns once it is durable. After an error it is not to be used again.
    ///
    /// # Errors
    /// The disk's, for ever after the first.
    fn set(&self, promised: Promised) -> io::Result<()>;

    /// The mark as last set.
    fn get(&self) -> Promised;
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
    promised: Promised,
    failed: bool,
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
        let mut newest: Option<(u64, Promised)> = None;
        for slot in 0..2 {
            let mut record = [0u8; RECORD_BYTES];
            if file.read_exact_at(&mut record, slot * SLOT_BYTES).is_err() {
                continue;
            }
            if let Some((sequence, promised)) = decode(&record)
                && newest.is_none_or(|(known, _)| sequence > known)
            {
                newest = Some((sequence, promised));
            }
        }
        let Some((sequence, promised)) = newest else {
            return Err(StorageError::BadFile {
                path: path.to_owned(),
                reason: "neither of its two slots is whole".into(),
            });
        };
        Ok(Some(Self { file, path: path.to_owned(), state: Mutex::new(State::new(sequence, promised)) }))
    }

    /// Makes the file of a new member: both slots say that nothing was promised.
    ///
    /// # Errors
    /// The disk's; a file that exists already.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let io = |error| StorageError::Io { path: path.to_owned(), error };
        if path.exists() {
            return Err(io(io::ErrorKind::AlreadyExists.into()));
        }
        // It has its name only once it is whole: a start that is cut off in between is begun again.
        let partial = path.with_extension("partial");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&partial).map_err(io)?;
        file.write_all_at(&vec![0u8; 2 * SLOT_BYTES as usize], 0).map_err(io)?;
        file.write_all_at(&encode(1, Promised::default()), 0).map_err(io)?;
        file.write_all_at(&encode(2, Promised::default()), SLOT_BYTES).map_err(io)?;
        file.sync_all().map_err(io)?;
        hit(Point::PromisedCreate).map_err(io)?;
        std::fs::rename(&partial, path).map_err(io)?;
        hit(Point::PromisedCreated).map_err(io)?;
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        Ok(Self { file, path: path.to_owned(), state: Mutex::new(State::new(2, Promised::default())) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl State {
    fn new(sequence: u64, promised: Promised) -> Self {
        Self { sequence, promised, failed: false }
    }
}

impl Mark for FileMark {
    fn set(&self, promised: Promised) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.failed {
            return Err(io::Error::other(format!(
                "{} failed before and is not used again",
                self.path.display()
            )));
        }
        let sequence = state.sequence + 1;
        // Slot 0 holds odd sequences, slot 1 even ones: never the slot of the newest record.
        let at = (sequence + 1) % 2 * SLOT_BYTES;
        let record = encode(sequence, promised);
        let write = || {
            tear(Point::PromisedWrite, &record, |part| drop(self.file.write_all_at(part, at)))?;
            self.file.write_all_at(&record, at)?;
            hit(Point::PromisedWritten)?;
            self.file.sync_data()?;
            hit(Point::PromisedSynced)
        };
        if let Err(error) = write() {
            // What is on disk now is unknown, and a repeated sync would say that all is well.
            state.failed = true;
            tracing::error!(path = %self.path.display(), %error, "storage failed; this member ends");
            return Err(io::Error::new(error.kind(), format!("{}: {error}", self.path.display())));
        }
        (state.sequence, state.promised) = (sequence, promised);
        Ok(())
    }

    fn get(&self) -> Promised {
        self.state.lock().promised
    }
}

/// "Nothing promised" is the index `u64::MAX`, which no log reaches.
fn encode(sequence: u64, promised: Promised) -> [u8; RECORD_BYTES] {
    let entry = promised.entry.unwrap_or(Promise { term: 0, index: u64::MAX });
    let vote = promised.vote.unwrap_or_default();
    let kind = promised.vote.map_or(0, |vote| 1 + u64::from(vote.committed));
    let mut record = [0u8; RECORD_BYTES];
    record[..8].copy_from_slice(MAGIC);
    for (at, number) in
        [sequence, entry.term, entry.index, vote.term, vote.candidate, kind].into_iter().enumerate()
    {
        record[8 * (at + 1)..8 * (at + 2)].copy_from_slice(&number.to_be_bytes());
    }
    let hash = blake3::hash(&record[..BODY_BYTES]);
    record[BODY_BYTES..].copy_from_slice(hash.as_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<(u64, Promised)> {
    let number =
        |at: usize| u64::from_be_bytes(record[8 * at..8 * (at + 1)].try_into().expect("eight bytes"));
    if &record[..8] != MAGIC || blake3::hash(&record[..BODY_BYTES]).as_bytes() != &record[BODY_BYTES..] {
        return None;
    }
    let entry = Promise { term: number(2), index: number(3) };
    let vote = Ballot { term: number(4), candidate: number(5), committed: number(6) == 2 };
    let promised =
        Promised { entry: (entry.index != u64::MAX).then_some(entry), vote: (number(6) > 0).then_some(vote) };
    Some((number(1), promised))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(term: u64, index: u64) -> Promised {
        let vote = Ballot { term, candidate: 2, committed: index.is_multiple_of(2) };
        Promised { entry: Some(Promise { term, index }), vote: Some(vote) }
    }

    #[test]
    fn the_mark_survives_a_reopen() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("promised");
        assert!(FileMark::open(&path).expect("absent is fine").is_none());
        let mark = FileMark::create(&path).expect("create");
        assert_eq!(mark.get(), Promised::default());
        for index in 0..7 {
            mark.set(promise(1, index)).expect("set");
        }
        drop(mark);
        let mark = FileMark::open(&path).expect("open").expect("there");
        assert_eq!(mark.get(), promise(1, 6));
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
        let next = encode(5, promise(2, 12));
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
            assert!(found == expected || found == promise(1, 11), "torn at {torn}: {found:?}");
        }
    }

    #[test]
    fn a_vote_covers_itself_and_what_came_before_it() {
        let vote = |term, candidate, committed| Ballot { term, committed, candidate };
        let kept = vote(3, 2, true);
        assert!(kept.covers(kept) && kept.covers(vote(3, 2, false)) && kept.covers(vote(2, 9, true)));
        assert!(kept.covers(vote(3, 1, false)), "the other candidate lost, and this one is followed");
        assert!(!vote(3, 2, false).covers(vote(3, 1, false)), "another candidate of the same term");
        assert!(!kept.covers(vote(3, 1, true)), "another leader of the same term");
        assert!(!kept.covers(vote(4, 2, false)) && !vote(3, 2, false).covers(kept));
    }

    #[test]
    fn a_file_without_a_whole_slot_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("promised");
        std::fs::write(&path, vec![0u8; 8192]).expect("write");
        assert!(matches!(FileMark::open(&path), Err(StorageError::BadFile { .. })));
    }
}
