//! The lock of a data directory: taken before anything in it is read or repaired, held until the last database in it is closed.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::error::StorageError;

const NAME: &str = "lock";

/// A locked directory. The kernel lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir`, which must exist, and writes into its file `lock` who did.
    ///
    /// # Errors
    /// A directory in use; the disk's.
    pub fn take(dir: &Path) -> Result<Arc<Self>, StorageError> {
        let path = dir.join(NAME);
        let io = |error| StorageError::Io { path: path.clone(), error };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Whoever has just taken it may not have written yet.
                let _ = file.read_to_string(&mut text);
                let holder = Holder(text.trim().parse().ok());
                return Err(StorageError::Locked { path: dir.to_owned(), holder });
            }
            Err(error) => return Err(io(error.into())),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
        Ok(Arc::new(Self { _file: file }))
    }

    /// The file of the lock of `dir`.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }
}

/// Who has a directory, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holder(pub Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) if pid == std::process::id() => write!(f, "this process, {pid}"),
            Some(pid) => write!(f, "process {pid}"),
            None => write!(f, "another process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_directory_in_use_names_who_has_it_and_is_free_after_his_death() {
        let dir = tempfile::tempdir().expect("dir");
        let held = DirLock::take(dir.path()).expect("free");
        let error = DirLock::take(dir.path()).expect_err("held");
        let own = std::process::id();
        assert!(error.to_string().ends_with(&format!("is in use by this process, {own}")), "{error}");
        drop(held);

        // Another process: it holds the lock through a descriptor of its own, as long as it lives.
        let path = DirLock::path(dir.path());
        let mut other = Command::new("flock")
            .args([path.as_os_str(), "sh".as_ref(), "-c".as_ref()])
            .arg(format!("echo $$ > {}; echo held; exec cat", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock of util-linux");
        let mut said = [0; 5];
        other.stdout.take().expect("piped").read_exact(&mut said).expect("it holds");
        let error = DirLock::take(dir.path()).expect_err("held");
        let StorageError::Locked { holder: Holder(Some(pid)), .. } = error else { panic!("{error}") };
        assert_ne!(pid, own);
        assert!(error.to_string().ends_with(&format!("is in use by process {pid}")), "{error}");
        assert!(error.hint().contains("another data directory"));
        drop(other.stdin.take());
        other.wait().expect("it ends");
        DirLock::take(dir.path()).expect("free again");
    }
}
