//! Files that the store has already: of the step that is being stored, where an earlier try was interrupted, and of the newest kept
//! checkpoint, where a file did not change.
//!
//! A file is the same without being read when the kernel says so (same inode, size and time of change), and that time was not the moment in
//! which it was read. Otherwise it has to have the same path and size, three pieces of it have to be equal, and then all of it.

use super::listing::Stamp;
use super::manifest::{FileRow, Manifest, from_hex, sha256, to_hex};
use muster_core::model::checkpoint::Sha256;
use muster_core::model::ids::Token;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;

/// Time stamps of some file systems count seconds: a file younger than this may change again without a new one.
const YOUNG_MS: i64 = 2_000;
/// Bytes of each of the three pieces, at the beginning, in the middle and at the end.
const PIECE: u64 = 4 << 10;
/// A file is hashed by pieces of this many bytes.
const CHUNK: usize = 1 << 20;

/// A file that the store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    pub path: String,
    pub size: u64,
    /// As it was when it was read, if it was old enough then to be told by it.
    pub stamp: Option<Stamp>,
    /// Of three pieces of it.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub sample: Sha256,
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub sha256: Sha256,
    pub key: String,
}

/// The files of one checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Base {
    pub token: Token,
    pub step: u64,
    by_path: HashMap<String, KnownFile>,
    /// Path by device and inode.
    by_inode: HashMap<(u64, u64), String>,
    keys: HashSet<String>,
}

impl Base {
    /// Of a manifest whose files are at hand.
    pub fn new(token: Token, step: u64, files: impl IntoIterator<Item = KnownFile>) -> Self {
        let mut base = Self { token, step, ..Self::default() };
        for file in files {
            if let Some(stamp) = &file.stamp {
                base.by_inode.insert((stamp.dev, stamp.ino), file.path.clone());
            }
            base.keys.insert(file.key.clone());
            base.by_path.insert(file.path.clone(), file);
        }
        base
    }

    /// Of a manifest alone: its files are told by their bytes.
    pub fn of_manifest(manifest: &Manifest) -> Self {
        Self::new(Token(manifest.token), manifest.step, manifest.files.iter().map(KnownFile::untold))
    }

    /// Whether the checkpoint names this object.
    pub fn names(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    /// What may be the same as the file at `path`, the likeliest first.
    pub fn candidates<'a>(&'a self, path: &str, stamp: &Stamp) -> impl Iterator<Item = &'a KnownFile> {
        let linked = self.by_inode.get(&(stamp.dev, stamp.ino)).and_then(|path| self.by_path.get(path));
        let linked = linked.filter(|file| file.stamp == Some(*stamp));
        linked.into_iter().chain(self.by_path.get(path)).filter(|file| file.size == stamp.size)
    }
}

impl KnownFile {
    /// Of one that is told by all of its bytes alone.
    #[must_use]
    pub fn untold(row: &FileRow) -> Self {
        Self {
            path: row.path.clone(),
            size: row.size,
            stamp: None,
            sample: Sha256::default(),
            sha256: row.sha256,
            key: row.key.clone(),
        }
    }

    /// Of a file that was just stored or brought.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(row: &FileRow, file: &File, stamp: Stamp, now_ms: i64) -> io::Result<Self> {
        let sample = sample(file, stamp.size)?;
        let is_old = stamp.modified.0.saturating_mul(1_000).saturating_add(YOUNG_MS) < now_ms;
        Ok(Self {
            path: row.path.clone(),
            size: row.size,
            stamp: is_old.then_some(stamp),
            sample,
            sha256: row.sha256,
            key: row.key.clone(),
        })
    }

    /// Whether `file` is the same, by its stamp or by its bytes. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is(&self, file: &mut File, stamp: &Stamp) -> io::Result<bool> {
        if self.stamp == Some(*stamp) {
            return Ok(true);
        }
        let is_alike = self.sample == Sha256::default() || self.sample == sample(file, stamp.size)?;
        Ok(is_alike && digest(file)? == self.sha256)
    }
}

/// The digest of three pieces.
fn sample(file: &File, size: u64) -> io::Result<Sha256> {
    let mut bytes = Vec::new();
    for start in [0, size.saturating_sub(PIECE) / 2, size.saturating_sub(PIECE)] {
        let mut piece = vec![0; usize::try_from(size.min(PIECE)).unwrap_or(0)];
        file.read_exact_at(&mut piece, start)?;
        bytes.append(&mut piece);
    }
    Ok(sha256(&bytes))
}

/// The digest of a whole file.
fn digest(file: &mut File) -> io::Result<Sha256> {
    file.rewind()?;
    let (mut hash, mut buffer) = (sha2::Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Sha256(hash.finalize().into()));
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(path: &std::path::Path, now_ms: i64) -> KnownFile {
        let bytes = std::fs::read(path).unwrap();
        let file = File::open(path).unwrap();
        let stamp = Stamp::of_file(&file).unwrap();
        let row = FileRow {
            path: "x".into(),
            size: bytes.len() as u64,
            mode: 0o644,
            sha256: sha256(&bytes),
            key: "k".into(),
        };
        KnownFile::of(&row, &file, stamp, now_ms).unwrap()
    }

    fn is(known: &KnownFile, path: &std::path::Path) -> bool {
        let mut file = File::open(path).unwrap();
        let stamp = Stamp::of_file(&file).unwrap();
        let base = Base::new(Token(1), 1, [known.clone()]);
        base.candidates("x", &stamp).any(|known| known.is(&mut file, &stamp).unwrap())
    }

    #[test]
    fn the_same_file_is_known_by_its_inode_only_when_it_was_old() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("a");
        std::fs::write(&path, "0123456789").unwrap();
        let stamp = Stamp::of_file(&File::open(&path).unwrap()).unwrap();
        let (young, old) =
            (known(&path, stamp.modified.0 * 1_000 + 1_999), known(&path, (stamp.modified.0 + 3) * 1_000));
        assert_eq!((young.stamp, old.stamp), (None, Some(stamp)));
        // A change that the stamp does not show.
        std::fs::write(&path, "0123456780").unwrap();
        let times = std::fs::FileTimes::new().set_modified(
            std::time::UNIX_EPOCH
                + std::time::Duration::new(u64::try_from(stamp.modified.0).unwrap(), stamp.modified.1),
        );
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        assert!(!is(&young, &path) && is(&old, &path));
    }

    #[test]
    fn a_copy_is_known_by_its_bytes_and_any_changed_byte_makes_another_file() {
        let top = tempfile::tempdir().unwrap();
        let (a, b) = (top.path().join("a"), top.path().join("b"));
        let bytes: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&a, &bytes).unwrap();
        let known = known(&a, 0);
        std::fs::write(&b, &bytes).unwrap();
        assert!(is(&known, &b));
        for at in [0, 4_097, 79_999, 120_000, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            std::fs::write(&b, &other).unwrap();
            assert!(!is(&known, &b), "{at}");
        }
        std::fs::write(&b, &bytes[1..]).unwrap();
        assert!(!is(&known, &b));
    }
}
