//! `DIR/secrets/` (0700): what makes this directory a member of its cluster, and the tokens it hands out, each file 0600.

use super::tokens::{ClusterSecret, cluster_of_join_token};
use muster_failpoint::{Point, hit};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why secrets can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot use {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{0} holds no cluster secret: expected 64 hexadecimal digits")]
    Bad(PathBuf),
    #[error("{dir} belongs to cluster {have}; the join token is of cluster {token}")]
    OtherCluster { dir: PathBuf, have: String, token: String },
    #[error("{0} holds no join token")]
    NotAJoinToken(PathBuf),
}

/// The secrets of a data directory.
#[derive(Debug, Clone)]
pub struct Secrets {
    pub cluster: ClusterSecret,
    /// The cluster's id, 16 hexadecimal digits.
    pub cluster_id: String,
}

impl Secrets {
    /// New ones for a new cluster; written by [`Secrets::store`].
    #[must_use]
    pub fn generate() -> Self {
        let id: [u8; 8] = rand::random();
        Self {
            cluster: ClusterSecret::generate(),
            cluster_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// What `DIR/secrets` holds; none when the directory is fresh.
    ///
    /// # Errors
    /// Unreadable or damaged files.
    pub fn load(dir: &Path) -> Result<Option<Self>, SecretError> {
        let path = dir.join("secrets/cluster-secret");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SecretError::Io { path, error }),
        };
        let mut words = text.split_whitespace();
        match (words.next().and_then(ClusterSecret::from_hex), words.next()) {
            (Some(cluster), Some(id)) => Ok(Some(Self { cluster, cluster_id: id.to_owned() })),
            _ => Err(SecretError::Bad(path)),
        }
    }

    /// Writes the secret (and the cluster's id behind it) and the first user's token.
    ///
    /// # Errors
    /// The disk's.
    pub fn store(&self, dir: &Path) -> Result<(), SecretError> {
        let secrets = dir.join("secrets");
        private_dir(&secrets)?;
        write_private(&secrets.join("user-token"), &self.user_token())?;
        write_private(
            &secrets.join("cluster-secret"),
            &format!("{}\n{}", self.cluster.to_hex(), self.cluster_id),
        )
    }

    /// The token of the cluster's first user.
    #[must_use]
    pub fn user_token(&self) -> String {
        self.cluster.user_token("admin")
    }

    /// A join token from now, written to `DIR/join-token`.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_join_token(&self, dir: &Path, now: u64) -> Result<String, SecretError> {
        let token = self.cluster.join_token(&self.cluster_id, now);
        write_private(&dir.join("join-token"), &token)?;
        Ok(token)
    }

    /// Refuses a join token of another cluster.
    ///
    /// # Errors
    /// [`SecretError::OtherCluster`].
    pub fn check_join_token(&self, dir: &Path, token: &str) -> Result<(), SecretError> {
        match cluster_of_join_token(token) {
            Some(cluster) if cluster != self.cluster_id => Err(SecretError::OtherCluster {
                dir: dir.to_owned(),
                have: self.cluster_id.clone(),
                token: cluster.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// The join token in `path`.
///
/// # Errors
/// An unreadable file, or one that holds something else.
pub fn read_token(path: &Path) -> Result<String, SecretError> {
    let text = fs::read_to_string(path).map_err(|error| SecretError::Io { path: path.to_owned(), error })?;
    let token = text.trim();
    if cluster_of_join_token(token).is_none() {
        return Err(SecretError::NotAJoinToken(path.to_owned()));
    }
    Ok(token.to_owned())
}

fn private_dir(path: &Path) -> Result<(), SecretError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|error| SecretError::Io { path: path.to_owned(), error })
}

/// Writes a file that only its owner reads, whole or not at all, synced.
///
/// # Errors
/// The disk's.
pub fn write_private(path: &Path, text: &str) -> Result<(), SecretError> {
    use std::os::unix::fs::OpenOptionsExt;
    let partial = path.with_extension("partial");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&partial);
        hit(Point::SecretWrite)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        hit(Point::SecretWritten)?;
        fs::rename(&partial, path)?;
        hit(Point::SecretRenamed)?;
        // A bare name lies in the current directory.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| SecretError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_survive_and_are_private() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(Secrets::load(dir.path()).expect("fresh").is_none());
        let made = Secrets::generate();
        made.store(dir.path()).expect("store");
        let join = made.write_join_token(dir.path(), 1).expect("join");
        let read = Secrets::load(dir.path()).expect("load").expect("there");
        assert_eq!(
            (read.cluster.clone(), read.cluster_id.clone()),
            (made.cluster.clone(), made.cluster_id.clone())
        );
        for file in ["secrets/cluster-secret", "secrets/user-token", "join-token"] {
            let mode = fs::metadata(dir.path().join(file)).expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert_eq!(read_token(&dir.path().join("join-token")).expect("token"), join);
        assert!(read.check_join_token(dir.path(), &join).is_ok());
        let foreign = Secrets::generate().cluster.join_token("other", 1);
        assert!(matches!(read.check_join_token(dir.path(), &foreign), Err(SecretError::OtherCluster { .. })));
    }
}
