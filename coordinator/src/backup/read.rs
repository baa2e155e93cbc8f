//! Reads a backup, front to back, and believes nothing that its checksum does not cover.

use super::error::BackupError;
use super::format::{
    BODY_BYTES_MAX, Chain, END, FILE, FORMAT, HASH_BYTES, HEAD, Head, MAGIC, PREAMBLE_BYTES,
    RECORD_HEAD_BYTES,
};
use crate::raft::snapshot::{ReceiveError, Receiver};
use crate::storage::Checkpoint;
use muster_proto::raft::{SnapshotEnd, SnapshotFile};
use prost::Message;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// A backup whose every byte was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub head: Head,
    /// Of the whole file, hexadecimal.
    pub checksum: String,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Reads all of a backup. `progress` hears how many bytes were read so far.
///
/// # Errors
/// [`BackupError`]: a file that is foreign, newer, damaged, cut off or unreadable.
pub fn verify(path: &Path, progress: impl FnMut(u64)) -> Result<Verified, BackupError> {
    read(path, progress, |_| Ok(()))
}

/// Reads all of a backup and writes its files into `dir`, an empty directory; they are durable afterwards.
pub(super) fn unpack(
    path: &Path,
    dir: PathBuf,
    progress: impl FnMut(u64),
) -> Result<(Verified, Checkpoint), BackupError> {
    let mut receiver = Some(Receiver::new(Checkpoint::adopt(dir)));
    let mut files = None;
    let verified = read(path, progress, |part| {
        match (part, receiver.take()) {
            (Part::File(file), Some(mut open)) => {
                open.take(file)?;
                receiver = Some(open);
            }
            (Part::End(end), Some(open)) => files = Some(open.finish(end)?),
            (_, None) => return Err(ReceiveError::Unfinished),
        }
        Ok(())
    })?;
    let files = files.ok_or_else(|| BackupError::Cut { path: path.to_owned(), at: verified.bytes })?;
    Ok((verified, files))
}

enum Part {
    File(SnapshotFile),
    End(SnapshotEnd),
}

/// A file, and where in it we are.
struct Input {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
}

impl Input {
    /// Exactly so many bytes; fewer are a file that was cut.
    fn take(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        match self.file.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let at = self.file.get_ref().metadata().map_or(self.at, |meta| meta.len());
                Err(BackupError::Cut { path: self.path.clone(), at })
            }
            Err(error) => Err(BackupError::Io { path: self.path.clone(), error }),
        }
    }

    fn damaged(&self, at: u64, reason: &'static str) -> BackupError {
        BackupError::Damaged { path: self.path.clone(), at, reason }
    }
}

fn read(
    path: &Path,
    mut progress: impl FnMut(u64),
    mut each: impl FnMut(Part) -> Result<(), ReceiveError>,
) -> Result<Verified, BackupError> {
    let file = File::open(path).map_err(BackupError::io(path))?;
    let mut input = Input { path: path.to_owned(), file: BufReader::with_capacity(1 << 20, file), at: 0 };
    // 1. Whose file is it? A short one is not ours either.
    let mut preamble = [0u8; PREAMBLE_BYTES];
    let not_ours = || BackupError::NotABackup { path: path.to_owned() };
    match input.take(&mut preamble) {
        Err(BackupError::Cut { .. }) => return Err(not_ours()),
        taken => taken?,
    }
    if &preamble[..MAGIC.len()] != MAGIC {
        return Err(not_ours());
    }
    let found = u32::from_be_bytes(preamble[MAGIC.len()..].try_into().unwrap_or_default());
    if found > FORMAT {
        return Err(BackupError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
    }
    if found != FORMAT {
        return Err(input.damaged(MAGIC.len() as u64, "its format is unknown"));
    }
    // 2. Records, each under the chain, before anything of it is used.
    let mut chain = Chain::start(&preamble);
    let mut head: Option<Head> = None;
    let mut body = Vec::new();
    loop {
        let begins = input.at;
        let mut record = [0u8; RECORD_HEAD_BYTES];
        input.take(&mut record)?;
        let length = u32::from_be_bytes(record[1..].try_into().unwrap_or_default()) as usize;
        if length > BODY_BYTES_MAX {
            return Err(input.damaged(begins, "a record is too long"));
        }
        body.resize(length, 0);
        input.take(&mut body)?;
        let mut said = [0u8; HASH_BYTES];
        input.take(&mut said)?;
        chain = chain.next(&record, &body);
        if chain.0 != blake3::Hash::from_bytes(said) {
            return Err(input.damaged(begins, "the checksum does not match"));
        }
        progress(input.at);
        let unpacks = |result: Result<(), ReceiveError>| {
            result.map_err(|error| BackupError::Unpack { path: path.to_owned(), reason: error.to_string() })
        };
        match (record[0], &head) {
            (HEAD, None) => {
                head = Some(
                    serde_json::from_slice(&body)
                        .map_err(|_| input.damaged(begins, "its head is not readable"))?,
                );
            }
            (FILE, Some(_)) => {
                let file = SnapshotFile::decode(&body[..])
                    .map_err(|_| input.damaged(begins, "a part is not readable"))?;
                unpacks(each(Part::File(file)))?;
            }
            (END, Some(head)) => {
                let end = SnapshotEnd::decode(&body[..])
                    .map_err(|_| input.damaged(begins, "its end is not readable"))?;
                if (end.files, end.size) != (head.files, head.size) {
                    return Err(input.damaged(begins, "its end counts other files than its head"));
                }
                unpacks(each(Part::End(end)))?;
                if input.file.read(&mut [0]).map_err(BackupError::io(path))? != 0 {
                    return Err(BackupError::Trailing { path: path.to_owned(), at: input.at });
                }
                return Ok(Verified {
                    head: head.clone(),
                    checksum: chain.0.to_hex().to_string(),
                    bytes: input.at,
                });
            }
            _ => return Err(input.damaged(begins, "a record is out of place")),
        }
    }
}
