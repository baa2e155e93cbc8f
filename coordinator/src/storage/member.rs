//! `member.toml`: which member of which cluster a data directory belongs to, and in which format it is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

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
}

impl MemberFile {
    /// Reads `DIR/member.toml`; `None` when there is none.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or one of a newer format.
    pub fn read(dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = dir.join("member.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
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
        toml::from_str(&text).map(Some).map_err(bad)
    }

    /// Reads the file and checks it against what this process was told to be, or writes it into a fresh directory.
    /// Returns whether the directory was fresh.
    ///
    /// # Errors
    /// As [`MemberFile::read`]; a directory of another cluster or member.
    pub fn claim(dir: &Path, cluster: &str, member: u64) -> Result<bool, StorageError> {
        let path = dir.join("member.toml");
        match Self::read(dir)? {
            Some(found) if found.cluster != cluster => {
                Err(StorageError::OtherCluster { path, found: found.cluster, expected: cluster.to_owned() })
            }
            Some(found) if found.member != member => {
                Err(StorageError::OtherMember { path, found: found.member, expected: member })
            }
            Some(_) => Ok(false),
            None => {
                let file = Self { cluster: cluster.to_owned(), member, format: FORMAT };
                file.write(dir).map_err(|error| StorageError::Io { path, error })?;
                Ok(true)
            }
        }
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let partial = dir.join("member.toml.partial");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, dir.join("member.toml"))?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_member() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(MemberFile::claim(dir.path(), "c1", 1).expect("fresh"));
        assert!(!MemberFile::claim(dir.path(), "c1", 1).expect("again"));
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
}
