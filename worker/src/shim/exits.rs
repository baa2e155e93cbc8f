//! `DIR/exits`: the exit records that were not released yet, so that the death of a shim loses no result.
//!
//! Append-only; every record carries its length and a checksum, and a torn tail is cut. One write for all records of a turn. It is
//! not synced: what it must survive is the shim, not the machine, and records of another boot are dropped at opening.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use muster_failpoint::{Point, hit, pass, tear};
use serde::{Deserialize, Serialize};

use super::protocol::{Exit, Token};

/// Beyond this size the file is written anew with what is still held.
const COMPACT_BYTES: u64 = 1 << 20;

/// Name of the file in the directory.
pub const NAME: &str = "exits";

#[derive(Serialize, Deserialize)]
enum Record {
    Boot(String),
    Exit(Exit),
    Released(Vec<Token>),
}

/// The file, and what it holds.
#[derive(Debug)]
pub struct Exits {
    file: File,
    bytes: u64,
    boot: String,
    held: BTreeMap<Token, Exit>,
    unwritten: Vec<u8>,
}

impl Exits {
    /// Opens the file in `dir`, and reads what an earlier shim of this boot left.
    ///
    /// # Errors
    /// As the file system says; damage is no error, it ends the file.
    pub fn open(dir: &Path, boot: &str) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (held, good) = read(&bytes, boot);
        let mut exits = Self { file, bytes: good, boot: boot.to_owned(), held, unwritten: Vec::new() };
        if good < bytes.len() as u64 || good == 0 {
            exits.rewrite()?;
        }
        Ok(exits)
    }

    /// Puts a record into the next write.
    pub fn add(&mut self, exit: &Exit) {
        append(&mut self.unwritten, &Record::Exit(exit.clone()));
        self.held.insert(exit.token, exit.clone());
    }

    /// Forgets records.
    pub fn release(&mut self, tokens: &[Token]) {
        let known: Vec<Token> = tokens.iter().copied().filter(|t| self.held.remove(t).is_some()).collect();
        if !known.is_empty() {
            append(&mut self.unwritten, &Record::Released(known));
        }
    }

    /// Writes what was added since the last time, in one write.
    ///
    /// # Errors
    /// As the file system says. The records stay in memory and are tried again.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let torn = tear(Point::ShimExitWrite, &self.unwritten, |part| drop((&self.file).write_all(part)));
        if let Err(e) = torn.and_then(|()| self.file.write_all(&self.unwritten)) {
            // A part may be there; what is written later must not stand behind it.
            let _ = self.file.set_len(self.bytes);
            return Err(e);
        }
        self.bytes += self.unwritten.len() as u64;
        self.unwritten.clear();
        pass(Point::ShimExitWritten);
        if self.bytes > COMPACT_BYTES && self.bytes / 256 > self.held.len() as u64 {
            self.rewrite()?;
        }
        Ok(())
    }

    /// What was not released.
    pub fn held(&self) -> impl Iterator<Item = &Exit> {
        self.held.values()
    }

    /// The record of one attempt.
    #[must_use]
    pub fn get(&self, token: Token) -> Option<&Exit> {
        self.held.get(&token)
    }

    /// Starts the file anew. A crash in the middle leaves a file that holds less, never one that holds wrong records; the agent
    /// finds such an attempt neither running nor ended, and reports it lost.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut whole = Vec::new();
        append(&mut whole, &Record::Boot(self.boot.clone()));
        for exit in self.held.values() {
            append(&mut whole, &Record::Exit(exit.clone()));
        }
        self.file.set_len(0)?;
        hit(Point::ShimExitsCut)?;
        self.file.write_all(&whole)?;
        self.bytes = whole.len() as u64;
        Ok(())
    }
}

/// The records in the file of `dir` that count in this boot, for when no shim serves it any more.
#[must_use]
pub fn read_dir(dir: &Path, boot: &str) -> Vec<Exit> {
    let bytes = std::fs::read(dir.join(NAME)).unwrap_or_default();
    read(&bytes, boot).0.into_values().collect()
}

/// What is held, and how many bytes were good. Nothing counts unless the file begins with this boot.
fn read(bytes: &[u8], boot: &str) -> (BTreeMap<Token, Exit>, u64) {
    let mut held = BTreeMap::new();
    let mut ours = false;
    let mut rest = bytes;
    while let Some((record, after)) = take(rest) {
        match record {
            Record::Boot(id) if id == boot => ours = true,
            _ if !ours => break,
            Record::Boot(_) => break,
            Record::Exit(exit) => {
                held.insert(exit.token, exit);
            }
            Record::Released(tokens) => tokens.iter().for_each(|token| {
                held.remove(token);
            }),
        }
        rest = after;
    }
    (held, (bytes.len() - rest.len()) as u64)
}

fn append(out: &mut Vec<u8>, record: &Record) {
    // Records are plain data: encoding them into memory has no way to fail.
    let Ok(body) = postcard::to_stdvec(record) else { return };
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&checksum(&body));
    out.extend_from_slice(&body);
}

fn take(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let body = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (checksum(body) == *sum)
        .then(|| postcard::from_bytes(body).ok())
        .flatten()
        .map(|r| (r, &rest[body.len()..]))
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(body);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::super::protocol::ExitStatus;
    use super::*;

    fn exit(token: Token) -> Exit {
        Exit {
            token,
            status: ExitStatus::Code(0),
            oom: false,
            fenced: false,
            stopped: false,
            started_boot_ms: 1,
            ended_boot_ms: 2,
            started_wall_ms: 3,
            ended_wall_ms: 4,
            max_rss_bytes: 5,
            cpu_usec: 6,
        }
    }

    fn tokens(dir: &Path, boot: &str) -> Vec<Token> {
        Exits::open(dir, boot).unwrap().held().map(|e| e.token).collect()
    }

    #[test]
    fn records_survive_until_released() {
        let dir = tempfile::tempdir().unwrap();
        let mut exits = Exits::open(dir.path(), "boot").unwrap();
        for token in 1..=3 {
            exits.add(&exit(token));
        }
        exits.release(&[2, 9]);
        exits.flush().unwrap();
        assert_eq!(tokens(dir.path(), "boot"), [1, 3]);
        assert_eq!(read_dir(dir.path(), "boot").len(), 2);
    }

    #[test]
    fn another_boot_starts_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mut exits = Exits::open(dir.path(), "boot").unwrap();
        exits.add(&exit(1));
        exits.flush().unwrap();
        assert_eq!(tokens(dir.path(), "other"), Vec::<u64>::new());
        assert_eq!(tokens(dir.path(), "boot"), Vec::<u64>::new(), "the other boot had cleared it");
    }

    #[test]
    fn a_torn_tail_is_cut_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let mut exits = Exits::open(dir.path(), "boot").unwrap();
        exits.add(&exit(1));
        exits.flush().unwrap();
        let whole = std::fs::read(dir.path().join(NAME)).unwrap();
        exits.add(&exit(2));
        exits.flush().unwrap();
        let both = std::fs::read(dir.path().join(NAME)).unwrap();
        for cut in whole.len()..both.len() {
            std::fs::write(dir.path().join(NAME), &both[..cut]).unwrap();
            assert_eq!(tokens(dir.path(), "boot"), [1], "cut at {cut}");
            assert_eq!(std::fs::read(dir.path().join(NAME)).unwrap(), whole);
        }
    }

    #[test]
    fn the_file_does_not_grow_with_released_records() {
        let dir = tempfile::tempdir().unwrap();
        let mut exits = Exits::open(dir.path(), "boot").unwrap();
        for token in 0..100_000 {
            exits.add(&exit(token));
            exits.release(&[token]);
            exits.flush().unwrap();
        }
        assert!(std::fs::metadata(dir.path().join(NAME)).unwrap().len() <= COMPACT_BYTES + 4096);
    }
}
