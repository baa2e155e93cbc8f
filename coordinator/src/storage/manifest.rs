//! What RocksDB's MANIFEST says about write-ahead logs: from which one on they still count. Older ones may lie around, with gaps, when a
//! process ended while it removed them.

use std::fs;
use std::path::Path;

use super::records;

const COMPARATOR: u64 = 1;
const LOG_NUMBER: u64 = 2;
const NEXT_FILE: u64 = 3;
const LAST_SEQUENCE: u64 = 4;
const COMPACT_CURSOR: u64 = 5;
const DELETED_FILE: u64 = 6;
const PREVIOUS_LOG: u64 = 9;
const LOG_TO_KEEP: u64 = 10;
const NEW_FILE: u64 = 103;
const FAMILY: u64 = 200;
const FAMILY_ADD: u64 = 201;
const FAMILY_DROP: u64 = 202;
const FAMILY_MAX: u64 = 203;
const ATOMIC_GROUP: u64 = 300;
/// From here on every field has a length in front of it.
const IGNORABLE: u64 = 1 << 13;
/// Ends the fields of a new file that came later.
const TERMINATE: u64 = 1;

/// The number of the oldest log of the database `dir` that is read at its next start; 0 when that is not to be learned: then every log
/// counts.
#[must_use]
pub fn oldest_log(dir: &Path) -> u64 {
    let Ok(current) = fs::read_to_string(dir.join("CURRENT")) else { return 0 };
    let Ok(bytes) = fs::read(dir.join(current.trim_end())) else { return 0 };
    let mut logs = Logs::default();
    let mut known = true;
    // What is not whole at its end is RocksDB's to judge.
    let _ = records::read(&bytes, |_, edit| {
        known &= logs.apply(edit).is_some();
        Ok(())
    });
    if known { logs.oldest() } else { 0 }
}

/// The log numbers, by column family.
#[derive(Debug, Default)]
struct Logs {
    families: std::collections::BTreeMap<u64, u64>,
    to_keep: u64,
}

impl Logs {
    fn oldest(&self) -> u64 {
        self.to_keep.max(self.families.values().min().copied().unwrap_or(0))
    }

    /// Takes one edit; none for one that is not understood.
    fn apply(&mut self, edit: &[u8]) -> Option<()> {
        let mut input = Input(edit);
        let (mut family, mut log, mut added, mut dropped) = (0, None, false, false);
        while !input.0.is_empty() {
            match input.number()? {
                LOG_NUMBER => log = Some(input.number()?),
                LOG_TO_KEEP => self.to_keep = self.to_keep.max(input.number()?),
                FAMILY => family = input.number()?,
                FAMILY_ADD => {
                    input.text()?;
                    added = true;
                }
                FAMILY_DROP => dropped = true,
                NEXT_FILE | LAST_SEQUENCE | PREVIOUS_LOG | FAMILY_MAX | ATOMIC_GROUP => {
                    input.number()?;
                }
                COMPARATOR => input.text()?,
                COMPACT_CURSOR => {
                    input.number()?;
                    input.text()?;
                }
                DELETED_FILE => {
                    input.number()?;
                    input.number()?;
                }
                NEW_FILE => input.new_file()?,
                tag if tag > IGNORABLE => input.text()?,
                _ => return None,
            }
        }
        if dropped {
            self.families.remove(&family);
            return Some(());
        }
        if added || family == 0 {
            self.families.entry(family).or_insert(0);
        }
        if let Some(log) = log {
            let known = self.families.entry(family).or_insert(0);
            *known = log.max(*known);
        }
        Some(())
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<()> {
        let length = usize::try_from(self.number()?).ok()?;
        self.0 = self.0.get(length..)?;
        Some(())
    }

    /// Level, number, size, first and last key, first and last sequence, then fields until the end mark.
    fn new_file(&mut self) -> Option<()> {
        for _ in 0..3 {
            self.number()?;
        }
        self.text()?;
        self.text()?;
        self.number()?;
        self.number()?;
        while self.number()? != TERMINATE {
            self.text()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Change, Disk, Kind, RocksDisk, Table};

    /// The numbers of the logs in a directory that hold something.
    fn logs(dir: &Path) -> Vec<u64> {
        let mut numbers: Vec<u64> = fs::read_dir(dir)
            .expect("list")
            .map(|entry| entry.expect("entry"))
            .filter(|entry| entry.metadata().expect("file").len() > 0)
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// What is asked of a real database at each start, flush and checkpoint: the log that holds unflushed rows counts, what lies before a
    /// start does not.
    #[test]
    fn a_log_with_rows_that_are_in_no_table_counts_and_what_a_start_took_over_does_not() {
        let top = tempfile::tempdir().expect("dir");
        let dir = top.path().join("state");
        let mut before = 0;
        for life in 0..4_u32 {
            let disk = RocksDisk::open(&dir, Kind::State).expect("open");
            disk.write(vec![Change::Put(Table::Data, life.to_be_bytes().to_vec(), vec![7; 500])])
                .expect("write");
            // A flush of one table while the other has rows in the same log.
            disk.write(vec![Change::Put(Table::Meta, b"k".to_vec(), vec![1])]).expect("write");
            if life % 2 == 1 {
                drop(disk.checkpoint().expect("checkpoint"));
                disk.write(vec![Change::Put(Table::Data, b"late".to_vec(), vec![7; 500])]).expect("write");
            }
            disk.sync().expect("sync");
            let oldest = oldest_log(&dir);
            // A new database says nothing yet.
            assert!(oldest > before || life == 0, "life {life}: {oldest} after {before}");
            assert_eq!(logs(&dir).into_iter().filter(|log| *log >= oldest).count(), 1, "life {life}");
            before = oldest;
        }
        assert_eq!(oldest_log(top.path()), 0, "no database, nothing known");
    }
}
