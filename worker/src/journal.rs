//! `DIR/journal`: what this worker runs, on disk, so that a restarted agent kills nothing and forgets nothing.
//!
//! Append-only, one checksummed record a change, a torn tail is cut at opening. A token is written before its launch; a result when it is
//! known; both go when the coordinator has acknowledged the commit of the result. Nothing is synced: the journal has to survive the
//! agent, not the machine, because after a boot nothing of what it says is true. A journal of another boot therefore begins a new
//! incarnation, and so does one whose beginning cannot be read.
//!
//! What it leaves out: what attempts and results look like (bytes here), and every decision.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use muster_failpoint::{Point, hit, tear};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Format of the file, in its first record.
const FORMAT: u16 = 1;

/// The file is written anew beyond this size, when most of it is of no use any more.
const COMPACT_BYTES: u64 = 1 << 20;

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file system.
    #[error("{what} the journal {path}")]
    File {
        /// The verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Written by a later version.
    #[error("the journal {path} has format {found}; this version knows {FORMAT}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
    },
    /// Another agent has it open.
    #[error("the journal {path} is in use by another agent")]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

/// One life of a worker: while it is the same, leases of before still count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The kernel's boot id.
    pub boot: String,
    /// Random number of the journal file.
    pub journal: u64,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// About to be launched.
    Started {
        /// Fencing token.
        token: u64,
        /// Who it is and what it runs, as the caller encodes it.
        attempt: Vec<u8>,
    },
    /// Its result is known.
    Finished {
        /// Fencing token.
        token: u64,
        /// The result, as the caller encodes it.
        result: Vec<u8>,
    },
    /// The coordinator has committed its result, or disowned it.
    Acknowledged {
        /// Fencing token.
        token: u64,
    },
    /// The highest term that instructed this worker.
    Term {
        /// Raft term.
        term: u64,
    },
}

/// What is held of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Fencing token.
    pub token: u64,
    /// As given with [`Record::Started`].
    pub attempt: Vec<u8>,
    /// As given with [`Record::Finished`].
    pub result: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u16,
    incarnation: Incarnation,
    highest_token: u64,
    term: u64,
}

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    incarnation: Incarnation,
    held: BTreeMap<u64, Entry>,
    held_bytes: u64,
    highest_token: u64,
    term: u64,
}

impl Journal {
    /// Opens the journal of this boot, or begins one.
    ///
    /// # Errors
    /// The file system, another agent, or a file of a later version. Damage is no error: what follows it is cut.
    pub fn open(path: &Path, boot: &str) -> Result<Self, JournalError> {
        let failed = |what| move |source| JournalError::File { what, path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(failed("cannot open"))?;
        use rustix::fs::{FlockOperation, flock};
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(JournalError::Locked { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("cannot read"))?;
        let head = next::<Head>(&bytes);
        if let Some((Head { format, .. }, _)) = &head
            && *format > FORMAT
        {
            return Err(JournalError::Newer { path: path.to_owned(), found: *format });
        }
        let ours = head.filter(|(h, _)| h.incarnation.boot == boot);
        let (head, mut rest) = ours.unwrap_or_else(|| (Head::new(boot), &[]));
        let mut journal = Self {
            path: path.to_owned(),
            file,
            bytes: 0,
            incarnation: head.incarnation,
            held: BTreeMap::new(),
            held_bytes: 0,
            highest_token: head.highest_token,
            term: head.term,
        };
        while let Some((record, after)) = next::<Record>(rest) {
            journal.take(record);
            rest = after;
        }
        journal.rewrite()?;
        Ok(journal)
    }

    /// The incarnation to register with.
    #[must_use]
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Writes changes, all in one write. What is in memory afterwards is what is on file.
    ///
    /// # Errors
    /// The file system. Nothing of the batch counts then: a launch must not follow.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for record in records {
            put(&mut bytes, record);
        }
        let torn = tear(Point::JournalAppend, &bytes, |part| drop((&self.file).write_all(part)));
        if let Err(source) = torn.and_then(|()| self.file.write_all(&bytes)) {
            // A part may be on file; it must not stand before what is written later.
            let _ = self.file.set_len(self.bytes);
            return Err(JournalError::File { what: "cannot write", path: self.path.clone(), source });
        }
        hit(Point::JournalAppended).map_err(|source| JournalError::File {
            what: "cannot write",
            path: self.path.clone(),
            source,
        })?;
        self.bytes += bytes.len() as u64;
        for record in records {
            self.take(record.clone());
        }
        if self.bytes > COMPACT_BYTES && self.bytes > 4 * self.held_bytes {
            self.rewrite()?;
        }
        Ok(())
    }

    /// What has not been acknowledged, by token.
    pub fn held(&self) -> impl Iterator<Item = &Entry> {
        self.held.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, token: u64) -> Option<&Entry> {
        self.held.get(&token)
    }

    /// The highest token ever started in this incarnation: lower ones that are not held were here and are over.
    #[must_use]
    pub fn highest_token(&self) -> u64 {
        self.highest_token
    }

    /// The highest term seen in this incarnation.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    fn take(&mut self, record: Record) {
        let size = |e: &Entry| (e.attempt.len() + e.result.as_ref().map_or(0, Vec::len) + 32) as u64;
        match record {
            Record::Started { token, attempt } => {
                self.highest_token = self.highest_token.max(token);
                let entry = Entry { token, attempt, result: None };
                self.held_bytes += size(&entry);
                if let Some(old) = self.held.insert(token, entry) {
                    self.held_bytes -= size(&old);
                }
            }
            Record::Finished { token, result } => {
                if let Some(entry) = self.held.get_mut(&token) {
                    self.held_bytes -= size(entry);
                    entry.result = Some(result);
                    self.held_bytes += size(entry);
                }
            }
            Record::Acknowledged { token } => {
                if let Some(entry) = self.held.remove(&token) {
                    self.held_bytes -= size(&entry);
                }
            }
            Record::Term { term } => self.term = self.term.max(term),
        }
    }

    /// Writes a new file with what is held and puts it in the place of the old one, so that a crash leaves one or the other.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        let failed = |what| {
            let path = self.path.clone();
            move |source| JournalError::File { what, path, source }
        };
        let mut bytes = Vec::new();
        let head = Head {
            format: FORMAT,
            incarnation: self.incarnation.clone(),
            highest_token: self.highest_token,
            term: self.term,
        };
        put(&mut bytes, &head);
        for entry in self.held.values() {
            put(&mut bytes, &Record::Started { token: entry.token, attempt: entry.attempt.clone() });
            if let Some(result) = &entry.result {
                put(&mut bytes, &Record::Finished { token: entry.token, result: result.clone() });
            }
        }
        let next = self.path.with_extension("next");
        let _ = std::fs::remove_file(&next);
        let mut file =
            OpenOptions::new().create_new(true).append(true).open(&next).map_err(failed("cannot rewrite"))?;
        file.write_all(&bytes).map_err(failed("cannot rewrite"))?;
        // The lock is on the file, not on its name: the new one is locked before it gets the name.
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .map_err(failed("cannot lock"))?;
        hit(Point::JournalRewritten).map_err(failed("cannot rewrite"))?;
        std::fs::rename(&next, &self.path).map_err(failed("cannot rewrite"))?;
        hit(Point::JournalRenamed).map_err(failed("cannot rewrite"))?;
        self.file = file;
        self.bytes = bytes.len() as u64;
        Ok(())
    }
}

impl Head {
    fn new(boot: &str) -> Self {
        let incarnation = Incarnation { boot: boot.to_owned(), journal: rand::random() };
        Self { format: FORMAT, incarnation, highest_token: 0, term: 0 }
    }
}

/// Length, checksum, body.
fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    // Plain data into memory: there is no way to fail.
    let Ok(body) = postcard::to_stdvec(value) else { return };
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&blake3::hash(&body).as_bytes()[..8]);
    out.extend_from_slice(&body);
}

fn next<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_at_checked(8)?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (blake3::hash(body).as_bytes()[..8] == *sum)
        .then(|| postcard::from_bytes(body).ok())
        .flatten()
        .map(|value| (value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(token: u64) -> Record {
        Record::Started { token, attempt: vec![token as u8; 10] }
    }

    fn tokens(journal: &Journal) -> Vec<u64> {
        journal.held().map(|e| e.token).collect()
    }

    #[test]
    fn an_agent_finds_again_what_it_ran() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, "boot").unwrap();
        journal.append(&[started(3), started(5), started(4), Record::Term { term: 7 }]).unwrap();
        journal
            .append(&[
                Record::Finished { token: 4, result: b"7".to_vec() },
                Record::Acknowledged { token: 5 },
            ])
            .unwrap();
        let life = journal.incarnation().clone();
        drop(journal);

        let journal = Journal::open(&path, "boot").unwrap();
        assert_eq!((tokens(&journal), journal.highest_token(), journal.term()), (vec![3, 4], 5, 7));
        assert_eq!(journal.get(4).unwrap().result.as_deref(), Some(&b"7"[..]));
        assert_eq!(*journal.incarnation(), life);
    }

    #[test]
    fn another_boot_is_another_incarnation_and_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, "boot").unwrap();
        journal.append(&[started(3)]).unwrap();
        let life = journal.incarnation().clone();
        drop(journal);
        let journal = Journal::open(&path, "other").unwrap();
        assert_eq!((tokens(&journal), journal.highest_token()), (vec![], 0));
        assert_ne!(journal.incarnation().journal, life.journal);
    }

    #[test]
    fn a_torn_tail_is_cut_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, "boot").unwrap();
        journal.append(&[started(1)]).unwrap();
        let good = std::fs::metadata(&path).unwrap().len() as usize;
        journal.append(&[started(2)]).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in good..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path, "boot").unwrap();
            assert_eq!(tokens(&journal), [1], "cut at {cut}");
            journal.append(&[started(9)]).unwrap();
            drop(journal);
            assert_eq!(
                tokens(&Journal::open(&path, "boot").unwrap()),
                [1, 9],
                "cut at {cut}, and written on"
            );
        }
    }

    #[test]
    fn damage_at_the_beginning_is_a_new_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, b"this is not a journal").unwrap();
        assert_eq!(tokens(&Journal::open(&path, "boot").unwrap()), Vec::<u64>::new());
    }

    #[test]
    fn a_later_format_and_a_second_agent_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut bytes = Vec::new();
        put(&mut bytes, &Head { format: FORMAT + 1, ..Head::new("boot") });
        std::fs::write(&path, bytes).unwrap();
        assert!(
            matches!(Journal::open(&path, "boot"), Err(JournalError::Newer { found, .. }) if found == FORMAT + 1)
        );
        std::fs::remove_file(&path).unwrap();
        let _first = Journal::open(&path, "boot").unwrap();
        assert!(matches!(Journal::open(&path, "boot"), Err(JournalError::Locked { .. })));
    }

    #[test]
    fn the_file_does_not_grow_with_what_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path, "boot").unwrap();
        for token in 1..=50_000 {
            journal.append(&[started(token), Record::Acknowledged { token }]).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= COMPACT_BYTES + 4096);
        drop(journal);
        let journal = Journal::open(&path, "boot").unwrap();
        assert_eq!((tokens(&journal), journal.highest_token()), (vec![], 50_000));
    }
}
