//! `member.toml`: which member of which cluster a data directory belongs to, and in which format it is written. It has a checksum: a
//! flipped bit in the number would make one member another.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use muster_failpoint::{Point, hit};
use serde::{Deserialize, Serialize};

use super::error::StorageError;

/// The newest data format that this binary reads and the one it writes.
pub const FORMAT: u32 = 1;

/// The identity of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFile {
    /// The cluster's id, made at its bootstrap.
    pub cluster: String,
    /// The member's id, never used twice in a cluster.
    pub member: u64,
    /// The data format.
    pub format: u32,
    /// Whether the promised mark was made: from then on its absence is a loss.
    #[serde(default)]
    pub started: bool,
    /// Of all the above; empty until it is written.
    #[serde(default)]
    checksum: String,
}

impl MemberFile {
    /// Reads `DIR/member.toml`; `None` when the directory was never a member's.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, one of a newer format, one that is lost.
    pub fn read(dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = dir.join("member.toml");
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It is written before anything else is, so what is there without it has lost it.
                let used = ["promised", "log", "state"].iter().any(|name| dir.join(name).exists());
                return if used { Err(StorageError::Missing { path }) } else { Ok(None) };
            }
            Err(error) => return Err(StorageError::Io { path, error }),
        };
        // The format is looked at first: the rest of a newer file may read differently.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let bad = |error: toml::de::Error| StorageError::BadFile {
            path: path.clone(),
            reason: error.message().to_owned(),
        };
        let Format { format } = toml::from_str(&text).map_err(bad)?;
        if format > FORMAT {
            return Err(StorageError::NewerFormat { path, found: format, known: FORMAT });
        }
        let file: Self = toml::from_str(&text).map_err(bad)?;
        if file.checksum != file.sum() {
            let reason = "its checksum does not match what it says".to_owned();
            return Err(StorageError::BadFile { path, reason });
        }
        Ok(Some(file))
    }

    /// Reads the file and checks it against what this process was told to be, or writes it into a fresh directory.
    ///
    /// # Errors
    /// As [`MemberFile::read`]; a directory of another cluster or member.
    pub fn claim(dir: &Path, cluster: &str, member: u64) -> Result<Self, StorageError> {
        let path = dir.join("member.toml");
        match Self::read(dir)? {
            Some(found) if found.cluster != cluster => {
                Err(StorageError::OtherCluster { path, found: found.cluster, expected: cluster.to_owned() })
            }
            Some(found) if found.member != member => {
                Err(StorageError::OtherMember { path, found: found.member, expected: member })
            }
            Some(found) => Ok(found),
            None => {
                let file = Self {
                    cluster: cluster.to_owned(),
                    member,
                    format: FORMAT,
                    started: false,
                    checksum: String::new(),
                };
                file.write(dir)?;
                Ok(file)
            }
        }
    }

    /// Writes down that the promised mark is there.
    ///
    /// # Errors
    /// The disk's.
    pub fn start(mut self, dir: &Path) -> Result<(), StorageError> {
        self.started = true;
        self.write(dir)
    }

    fn sum(&self) -> String {
        let text = format!("{}\n{}\n{}\n{}", self.cluster, self.member, self.format, self.started);
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    fn write(&self, dir: &Path) -> Result<(), StorageError> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = dir.join("member.toml");
        let partial = dir.join("member.toml.partial");
        let write = || -> io::Result<()> {
            let text =
                toml::to_string(&Self { checksum: self.sum(), ..self.clone() }).map_err(io::Error::other)?;
            hit(Point::MemberWrite)?;
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            hit(Point::MemberWritten)?;
            fs::rename(&partial, &path)?;
            hit(Point::MemberRenamed)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error| StorageError::Io { path: path.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_member() {
        let dir = tempfile::tempdir().expect("dir");
        let fresh = MemberFile::claim(dir.path(), "c1", 1).expect("fresh");
        assert!(!fresh.started);
        fresh.start(dir.path()).expect("start");
        assert!(MemberFile::claim(dir.path(), "c1", 1).expect("again").started);
        assert!(matches!(MemberFile::claim(dir.path(), "c2", 1), Err(StorageError::OtherCluster { .. })));
        assert!(matches!(
            MemberFile::claim(dir.path(), "c1", 2),
            Err(StorageError::OtherMember { found: 1, expected: 2, .. })
        ));
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_it_says() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join("member.toml"), "format = 2\nsomething = \"new\"\n").expect("write");
        let error = MemberFile::claim(dir.path(), "c1", 1).expect_err("newer");
        assert!(matches!(error, StorageError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn a_flipped_bit_makes_no_other_member_of_it() {
        let dir = tempfile::tempdir().expect("dir");
        MemberFile::claim(dir.path(), "c1", 1).expect("fresh").start(dir.path()).expect("start");
        let path = dir.path().join("member.toml");
        let whole = fs::read(&path).expect("read");
        let known = MemberFile::read(dir.path()).expect("read");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).expect("write");
            match MemberFile::read(dir.path()) {
                Ok(found) => assert_eq!(found, known, "bit {bit}"),
                Err(error) => assert!(error.to_string().contains("member.toml"), "{error}"),
            }
        }
        fs::remove_file(&path).expect("remove");
        fs::create_dir(dir.path().join("log")).expect("make");
        assert!(matches!(MemberFile::claim(dir.path(), "c1", 1), Err(StorageError::Missing { .. })));
    }
}
