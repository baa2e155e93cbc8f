//! What RocksDB's write-ahead logs hold, looked through before it opens them: each record against its checksum, and the numbers of the
//! batches, which are counted without gaps, across files too.
//!
//! A power failure leaves what was not synced in any order: zeros or garbage where the newest records were to be, whole records behind
//! them. RocksDB passes over zeros and applies what follows, or refuses what is garbage. Here the logs end at the first hole. Whether
//! anything behind it had been promised is not told by the logs: the promised mark, the chain of the entries and the digest of the rows do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::StorageError;
use super::manifest::oldest_log;
use super::records;

/// Of a batch: its number, and how many it holds.
const BATCH_HEADER_BYTES: usize = 12;
/// In the name of what was cut off.
const CUT: &str = ".cut-";
/// What was cut off is kept so many times.
const CUTS_KEPT: u64 = 3;

/// Where the logs of a database stop to be what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The file, whole up to `offset`.
    pub path: PathBuf,
    /// Bytes.
    pub offset: u64,
    /// What is there instead.
    pub reason: &'static str,
    /// The logs behind it, oldest first. What they hold follows on what is missing.
    later: Vec<PathBuf>,
}

/// What was cut off at a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub hole: Hole,
    /// Bytes behind it, in all files.
    pub bytes: u64,
    /// A copy of the end of the file. Later files lie beside it under their own names, with the same ending.
    pub kept: PathBuf,
}

/// The first hole in the logs of the database `dir` that its next start would read.
///
/// # Errors
/// The disk's.
pub fn find(dir: &Path) -> Result<Option<Hole>, StorageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::Io { path: dir.to_owned(), error }),
    };
    let oldest = oldest_log(dir);
    let mut files: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| numbered(entry.ok()?.path()))
        .filter(|(number, _)| *number >= oldest)
        .collect();
    files.sort();
    let mut next = None;
    for (at, (_, path)) in files.iter().enumerate() {
        let bytes = fs::read(path).map_err(|error| StorageError::Io { path: path.clone(), error })?;
        if let Err(records::Broken { offset, reason }) = walk(&bytes, &mut next) {
            let later = files[at + 1..].iter().map(|(_, path)| path.clone()).collect();
            return Ok(Some(Hole { path: path.clone(), offset: offset as u64, reason, later }));
        }
    }
    Ok(None)
}

/// Refuses logs with a hole: for a copy, which was whole when it was made.
///
/// # Errors
/// A hole, with file and offset.
pub fn check(dir: &Path) -> Result<(), StorageError> {
    match find(dir)? {
        Some(Hole { path, offset, reason, .. }) => Err(StorageError::DamagedFile { path, offset, reason }),
        None => Ok(()),
    }
}

/// Ends the logs at `hole`. What was behind it is kept as `NAME.cut-N`, that of the last three times. Nobody else may use the database.
/// Cut off at any point, it is begun again by the next start: the hole is closed last.
///
/// # Errors
/// The disk's.
pub fn cut(dir: &Path, hole: Hole) -> Result<Cut, StorageError> {
    let io = |error| StorageError::Io { path: hole.path.clone(), error };
    let number = make_room(dir).map_err(io)?;
    let mut bytes = 0;
    // The newest first, so that what is left never has a gap that it did not have.
    for path in hole.later.iter().rev() {
        bytes += fs::metadata(path).map_err(io)?.len();
        fs::rename(path, kept_as(path, number)).map_err(io)?;
    }
    let kept = kept_as(&hole.path, number);
    let mut file = OpenOptions::new().read(true).write(true).open(&hole.path).map_err(io)?;
    file.seek(SeekFrom::Start(hole.offset)).map_err(io)?;
    let mut copy = File::create(&kept).map_err(io)?;
    bytes += io::copy(&mut file, &mut copy).map_err(io)?;
    copy.sync_all().map_err(io)?;
    sync(dir).map_err(io)?;
    file.set_len(hole.offset).and_then(|()| file.sync_all()).map_err(io)?;
    tracing::warn!(
        path = %hole.path.display(), whole_bytes = hole.offset, cut_bytes = bytes, later_logs = hole.later.len(),
        reason = hole.reason, kept = %kept.display(),
        "the log is not whole, as after a power failure: it ends there now"
    );
    Ok(Cut { hole, bytes, kept })
}

fn numbered(path: PathBuf) -> Option<(u64, PathBuf)> {
    let number = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    Some((number, path))
}

fn kept_as(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("{CUT}{number}"));
    path.with_file_name(name)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The number of the next cut; what was kept of cuts long ago goes.
fn make_room(dir: &Path) -> io::Result<u64> {
    let mut kept: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.rsplit_once(CUT).and_then(|(_, number)| number.parse().ok()) {
            kept.push((number, path));
        }
    }
    let next = kept.iter().map(|(number, _)| *number).max().unwrap_or(0).saturating_add(1);
    for (_, path) in kept.iter().filter(|(number, _)| number.saturating_add(CUTS_KEPT) <= next) {
        fs::remove_file(path)?;
    }
    Ok(next)
}

/// Goes through the records. `next` is the number that the next batch must have, once one is known.
fn walk(bytes: &[u8], next: &mut Option<u64>) -> Result<(), records::Broken> {
    records::read(bytes, |_, batch| {
        let (sequence, count) = number_at(batch, 0, 8)
            .zip(number_at(batch, 8, BATCH_HEADER_BYTES - 8))
            .ok_or("a batch is shorter than its head")?;
        match *next {
            Some(expected) if sequence > expected => Err("batches before this one are missing"),
            Some(expected) if sequence < expected => Err("a batch of an earlier time"),
            _ => {
                *next = Some(sequence.saturating_add(count));
                Ok(())
            }
        }
    })
}

/// A little-endian number of up to eight bytes.
fn number_at(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let part = bytes.get(at..at + length)?;
    Some(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
#[path = "wal_test.rs"]
mod tests;
