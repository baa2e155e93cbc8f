//! How a snapshot travels: the files of a copy of `state/`, in parts of 1 MiB with a checksum each, and an end that counts them.
//!
//! What arrives is written beside the state and is worth nothing until the end has been checked and all of it is synced.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use muster_failpoint::{Point, hit, tear};
use muster_proto::raft::{SnapshotEnd, SnapshotFile};

use crate::storage::Checkpoint;

/// Bytes of a part.
pub const PART_BYTES: usize = 1 << 20;

/// A part of a snapshot without its head.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Some of a file.
    File(SnapshotFile),
    /// That was all.
    End(SnapshotEnd),
}

/// Reads a copy of the state part by part and hands each to `each`, until that returns false.
///
/// # Errors
/// The disk's.
pub fn read(snapshot: &Checkpoint, mut each: impl FnMut(Part) -> bool) -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(snapshot.path())?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut end = SnapshotEnd { files: 0, size: 0 };
    for entry in files {
        if !entry.file_type()?.is_file() {
            continue;
        }
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| io::Error::other("a snapshot's file has a strange name"))?;
        let mut file = File::open(entry.path())?;
        let mut offset = 0;
        loop {
            let mut data = Vec::with_capacity(PART_BYTES);
            (&mut file).take(PART_BYTES as u64).read_to_end(&mut data)?;
            let length = data.len() as u64;
            // An empty file is one empty part.
            if length == 0 && offset > 0 {
                break;
            }
            let checksum = checksum(&name, offset, &data);
            hit(Point::SnapshotSendPart)?;
            if !each(Part::File(SnapshotFile { name: name.clone(), offset, data: data.into(), checksum })) {
                return Ok(());
            }
            offset += length;
            if length < PART_BYTES as u64 {
                break;
            }
        }
        end.files += 1;
        end.size += offset;
    }
    hit(Point::SnapshotSendEnd)?;
    each(Part::End(end));
    Ok(())
}

fn checksum(name: &str, offset: u64, data: &[u8]) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.len() as u64).to_be_bytes());
    hasher.update(name.as_bytes());
    hasher.update(&offset.to_be_bytes());
    hasher.update(data);
    Bytes::copy_from_slice(hasher.finalize().as_bytes())
}

/// Why a snapshot that arrives is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("a part of {name:?} at {offset} has a wrong checksum")]
    Checksum { name: String, offset: u64 },
    #[error("a part of {name:?} starts at {offset}, not at {expected}")]
    Gap { name: String, offset: u64, expected: u64 },
    #[error("{name:?} is not the name of a file")]
    Name { name: String },
    #[error("the sender counted {files} files and {size} bytes; {files_here} and {size_here} arrived")]
    Incomplete { files: u64, size: u64, files_here: u64, size_here: u64 },
    #[error("the parts ended without an end")]
    Unfinished,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the parts of a snapshot into a staging directory.
pub struct Receiver {
    staging: Checkpoint,
    files: BTreeMap<String, (File, u64)>,
}

impl Receiver {
    /// Receives into an empty directory.
    #[must_use]
    pub fn new(staging: Checkpoint) -> Self {
        Self { staging, files: BTreeMap::new() }
    }

    /// Takes one part of a file.
    ///
    /// # Errors
    /// A part that does not fit, the disk's.
    pub fn take(&mut self, part: SnapshotFile) -> Result<(), ReceiveError> {
        let SnapshotFile { name, offset, data, checksum: sent } = part;
        if checksum(&name, offset, &data) != sent {
            return Err(ReceiveError::Checksum { name, offset });
        }
        if Path::new(&name).file_name().and_then(|last| last.to_str()) != Some(name.as_str())
            || name.contains('/')
        {
            return Err(ReceiveError::Name { name });
        }
        if !self.files.contains_key(&name) {
            let file =
                OpenOptions::new().write(true).create_new(true).open(self.staging.path().join(&name))?;
            self.files.insert(name.clone(), (file, 0));
        }
        let Some((file, length)) = self.files.get_mut(&name) else { return Err(ReceiveError::Name { name }) };
        if *length != offset {
            return Err(ReceiveError::Gap { name, offset, expected: *length });
        }
        tear(Point::SnapshotReceivePart, &data, |part| drop(file.write_all_at(part, offset)))?;
        file.write_all_at(&data, offset)?;
        *length += data.len() as u64;
        Ok(())
    }

    /// Checks that all arrived and makes it durable.
    ///
    /// # Errors
    /// Something missing, the disk's.
    pub fn finish(self, end: SnapshotEnd) -> Result<Checkpoint, ReceiveError> {
        let files_here = self.files.len() as u64;
        let size_here = self.files.values().map(|(_, length)| length).sum();
        if (files_here, size_here) != (end.files, end.size) {
            return Err(ReceiveError::Incomplete { files: end.files, size: end.size, files_here, size_here });
        }
        hit(Point::SnapshotReceiveEnd)?;
        for (file, _) in self.files.values() {
            file.sync_all()?;
        }
        File::open(self.staging.path())?.sync_all()?;
        hit(Point::SnapshotReceiveSynced)?;
        Ok(self.staging)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Change, Disk, Kind, RocksDisk, Table};

    fn parts(snapshot: &Checkpoint) -> Vec<Part> {
        let mut all = Vec::new();
        read(snapshot, |part| {
            all.push(part);
            true
        })
        .expect("read");
        all
    }

    fn receive(disk: &RocksDisk, parts: Vec<Part>) -> Result<Checkpoint, ReceiveError> {
        let mut receiver = Receiver::new(disk.staging().expect("staging"));
        for part in parts {
            match part {
                Part::File(file) => receiver.take(file)?,
                Part::End(end) => return receiver.finish(end),
            }
        }
        Err(ReceiveError::Unfinished)
    }

    #[test]
    fn a_snapshot_arrives_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("dir");
        let from = RocksDisk::open(&dir.path().join("a/state"), Kind::State).expect("open");
        // Random bytes do not compress: more than one part.
        let mut big = vec![0u8; 3 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut big);
        from.write(vec![Change::Put(Table::Data, b"big".to_vec(), big.clone())]).expect("write");
        let snapshot = from.checkpoint().expect("checkpoint");
        let to = RocksDisk::open(&dir.path().join("b/state"), Kind::State).expect("open");
        let all = parts(&snapshot);
        assert!(all.len() > 5, "{} parts", all.len());

        let copy = receive(&to, all.clone()).expect("whole");
        to.install(&copy).expect("install");
        assert_eq!(to.get(Table::Data, b"big").expect("get"), Some(big));

        for missing in 0..all.len() {
            let mut some = all.clone();
            some.remove(missing);
            assert!(receive(&to, some).is_err(), "without part {missing}");
        }
        let mut bent = all.clone();
        let Part::File(file) = &mut bent[0] else { panic!("a file comes first") };
        file.name = "../escape".into();
        assert!(matches!(receive(&to, bent.clone()), Err(ReceiveError::Checksum { .. })));
        let Part::File(file) = &mut bent[0] else { panic!("a file comes first") };
        file.checksum = checksum(&file.name, file.offset, &file.data);
        assert!(matches!(receive(&to, bent), Err(ReceiveError::Name { .. })));
        drop(copy);

        // Damage on the sender's disk: the parts are as they were read, and what arrives is damaged all the same.
        let snapshot = from.checkpoint().expect("checkpoint");
        let table = fs::read_dir(snapshot.path()).expect("list").map(|entry| entry.expect("entry").path());
        let table =
            table.into_iter().find(|path| path.extension().is_some_and(|e| e == "sst")).expect("a table");
        let mut bytes = fs::read(&table).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&table).expect("unlink from the store");
        fs::write(&table, bytes).expect("write");
        let copy = receive(&to, parts(&snapshot)).expect("arrives");
        let error = RocksDisk::scan_snapshot(&copy, &[], &mut |_, _| {}).expect_err("damaged");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        drop(copy);
        let left: Vec<_> = fs::read_dir(dir.path().join("b"))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(left, ["state"], "nothing of the refused ones is left");
    }
}
