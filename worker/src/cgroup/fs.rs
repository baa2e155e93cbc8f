//! Small file helpers for cgroup directories, with errors that name the path.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What can go wrong with a group.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A file or directory of a controller could not be used.
    #[error("{what} {path}")]
    File {
        /// The verb: `cannot open`, `cannot write` …
        what: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Processes survive SIGKILL (in uninterruptible sleep, as a rule).
    #[error("{count} processes in {path} survive SIGKILL (the first is {first})")]
    Unkillable {
        /// Directory of the group.
        path: PathBuf,
        /// How many.
        count: usize,
        /// One of them.
        first: i32,
    },
    /// No usable hierarchy of this kind on the machine.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl CgroupError {
    pub(super) fn file(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { what, path: path.to_owned(), source }
    }
}

/// Makes a directory; one that exists is fine.
pub(super) fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::file("cannot make", path, e)),
        _ => Ok(()),
    }
}

/// Writes one value in one write, as control files want it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut f| f.write_all(value.as_bytes()))
        .map_err(|e| CgroupError::file("cannot write", path, e))
}

pub(super) fn open(path: &Path, writing: bool) -> Result<File, CgroupError> {
    OpenOptions::new()
        .read(!writing)
        .write(writing)
        .open(path)
        .map_err(|e| CgroupError::file("cannot open", path, e))
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd, CgroupError> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| CgroupError::file("cannot open", path, e.into()))
}

/// The whole of a control file, read from its start through an open descriptor.
pub(super) fn read_again(file: impl AsFd) -> io::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match rustix::io::pread(&file, &mut buffer, text.len() as u64) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The number behind `key` in a file of `key number` lines; 0 when it is not there.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

/// Eight hexadecimal digits that stand for a worker's directory, so that two workers of one machine never share groups.
pub(super) fn short_hash(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    blake3::hash(whole.as_os_str().as_encoded_bytes()).to_hex()[..8].to_owned()
}

/// Numbered group directories (`g0`, `g1` …) below `base`.
pub(super) fn numbered(base: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(base) else { return Vec::new() };
    let mut all: Vec<_> = entries
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.strip_prefix('g')?.parse().ok()?, e.path())))
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_reads_flat_files() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n";
        assert_eq!(keyed(text, "oom_kill"), 12);
        assert_eq!(keyed(text, "absent"), 0);
    }
}
