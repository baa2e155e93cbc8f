//! What RocksDB passes over in its write-ahead logs without a word, found before it opens them.
//!
//! Its reader takes a zeroed header for the end of a block and goes on behind it, so a page of zeros swallows the records in it: no
//! checksum is wrong, and the batches after the gap are applied. A log that ends early is likewise no error when another one follows it.
//! Both leave a hole in the numbers of the batches, which are counted without gaps. Checksums are left to RocksDB.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::StorageError;

const BLOCK_BYTES: usize = 32 << 10;
/// Checksum, length, type.
const HEADER_BYTES: usize = 7;
/// Of a batch: its number, and how many it holds.
const BATCH_HEADER_BYTES: usize = 12;
const FULL: u8 = 1;
const FIRST: u8 = 2;

/// Checks the logs in `dir`, oldest first. With `across` the numbers must also go on from one file to the next: for a store of which
/// nothing else tells whether a file in the middle is whole.
///
/// # Errors
/// A hole, with file and offset. A log that ends in the middle of a record is left to RocksDB.
pub fn check(dir: &Path, across: bool) -> Result<(), StorageError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| StorageError::Io { path, error }
    };
    let mut files: Vec<(u64, PathBuf)> = match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(|entry| numbered(entry.ok()?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(dir)(error)),
    };
    files.sort();
    let mut next = None;
    for (_, path) in files {
        let bytes = fs::read(&path).map_err(io(&path))?;
        let from = if across { next } else { None };
        match walk(&bytes, from) {
            Ok(after) => next = after.or(next),
            Err((offset, reason)) => return Err(StorageError::DamagedFile { path, offset, reason }),
        }
    }
    Ok(())
}

fn numbered(path: PathBuf) -> Option<(u64, PathBuf)> {
    let number = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    Some((number, path))
}

/// Goes through the records; returns the number that the next batch must have.
fn walk(bytes: &[u8], mut next: Option<u64>) -> Result<Option<u64>, (u64, &'static str)> {
    // The beginning of the batch that is being read, and where it is. It may itself be cut by the end of a block.
    let (mut begin, mut begun_at) = (Vec::with_capacity(BATCH_HEADER_BYTES), 0);
    for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let start = number * BLOCK_BYTES;
        let mut at = 0;
        // A block's last bytes are a trailer where no header fits.
        while let Some(header) = block.get(at..at + HEADER_BYTES) {
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            if kind == 0 && length == 0 {
                let behind = &bytes[start + at..];
                return match behind.iter().position(|byte| *byte != 0) {
                    Some(_) => Err(((start + at) as u64, "zeros where records were")),
                    None => Ok(next),
                };
            }
            let Some(body) = block.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else {
                return Ok(next);
            };
            if kind == FULL || kind == FIRST {
                begin.clear();
                begun_at = start + at;
            }
            let known = begin.len();
            begin.extend(body.iter().take(BATCH_HEADER_BYTES - known));
            if known < BATCH_HEADER_BYTES
                && let (Some(sequence), Some(count)) = (number_at(&begin, 0, 8), number_at(&begin, 8, 4))
            {
                if next.is_some_and(|expected| sequence > expected) {
                    return Err((begun_at as u64, "batches before this one are missing"));
                }
                next = Some(sequence + count);
            }
            at += HEADER_BYTES + length;
        }
    }
    Ok(next)
}

/// A little-endian number of up to eight bytes.
fn number_at(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let part = bytes.get(at..at + length)?;
    Some(part.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Change, Disk, Kind, RocksDisk, Table};

    /// A directory with one log of two hundred batches, not yet in a table.
    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("state");
        let disk = RocksDisk::open(&path, Kind::State).expect("open");
        for n in 0..200_u32 {
            disk.write(vec![Change::Put(Table::Data, n.to_be_bytes().to_vec(), vec![7; 500])])
                .expect("write");
        }
        disk.sync().expect("sync");
        drop(disk);
        path
    }

    fn newest(path: &Path) -> PathBuf {
        let logs =
            fs::read_dir(path).expect("list").filter_map(|entry| numbered(entry.expect("entry").path()));
        logs.filter(|(_, path)| fs::metadata(path).expect("file").len() > 0).max().expect("a log").1
    }

    #[test]
    fn whole_logs_pass_and_a_zeroed_page_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().expect("dir");
        let path = written(dir.path());
        check(&path, true).expect("whole");
        let log = newest(&path);
        let whole = fs::read(&log).expect("read");
        for page in 0..whole.len() / 4096 {
            let mut bytes = whole.clone();
            bytes[page * 4096..(page + 1) * 4096].fill(0);
            fs::write(&log, &bytes).expect("write");
            assert!(
                RocksDisk::open(&path, Kind::State).is_err(),
                "page {page} of {} is zero and nobody minds",
                whole.len() / 4096
            );
        }
        fs::write(&log, &whole).expect("write");
        RocksDisk::open(&path, Kind::State).expect("whole again");
    }

    /// Adds a record as RocksDB does: cut at the ends of blocks.
    fn append(log: &mut Vec<u8>, mut record: &[u8]) {
        let mut is_first = true;
        loop {
            let left = BLOCK_BYTES - log.len() % BLOCK_BYTES;
            if left < HEADER_BYTES {
                log.extend(std::iter::repeat_n(0, left));
                continue;
            }
            let (part, rest) = record.split_at(record.len().min(left - HEADER_BYTES));
            let kind = match (is_first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => 3,
                (false, true) => 4,
            };
            log.extend([0; 4]);
            log.extend(u16::try_from(part.len()).expect("length").to_le_bytes());
            log.push(kind);
            log.extend(part);
            if rest.is_empty() {
                return;
            }
            (record, is_first) = (rest, false);
        }
    }

    fn batch(sequence: u64, count: u32, bytes: usize) -> Vec<u8> {
        let mut batch = sequence.to_le_bytes().to_vec();
        batch.extend(count.to_le_bytes());
        batch.resize(bytes, 7);
        batch
    }

    /// Found by muster-chaos: a member that had done nothing wrong did not start again, because of its batch's first 12 bytes only 2 were
    /// in front of the end of a block.
    #[test]
    fn a_batch_may_be_cut_anywhere_by_the_end_of_a_block() {
        for left in 0..60 {
            let mut log = Vec::new();
            append(&mut log, &batch(1, 2, BLOCK_BYTES - HEADER_BYTES - left));
            append(&mut log, &batch(3, 5, 100));
            let mut missing = log.clone();
            append(&mut log, &batch(8, 1, 100));
            assert_eq!(walk(&log, None), Ok(Some(9)), "{left} bytes are left");
            append(&mut missing, &batch(9, 1, 100));
            assert!(walk(&missing, None).is_err(), "{left} bytes are left");
        }
    }

    #[test]
    fn a_log_that_ends_early_before_another_one_is_found() {
        let dir = tempfile::tempdir().expect("dir");
        let path = written(dir.path());
        let (first, second) = (path.join("000900.log"), path.join("000901.log"));
        let record = |sequence: u64| {
            let mut bytes = vec![0, 0, 0, 0, 12, 0, FULL];
            bytes.extend(sequence.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes
        };
        fs::remove_file(newest(&path)).expect("remove");
        fs::write(&first, record(1)).expect("write");
        fs::write(&second, record(2)).expect("write");
        check(&path, true).expect("they go on");
        fs::write(&second, record(3)).expect("write");
        assert!(matches!(check(&path, true), Err(StorageError::DamagedFile { offset: 0, .. })));
        check(&path, false).expect("not asked for");
    }
}
