//! What stands ready when a task starts: its directories and its command line.
//!
//! `DIR/attempts/TOKEN/{scratch,out,ckpt}`. Making and removing four directories costs more than starting `/bin/true`, so sets that a
//! task left empty are kept and renamed for the next one. Nothing else is made beforehand: logs, inputs, the deadline file and the
//! rest come when there is something to write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::shim::protocol::Token;

/// A shell command longer than this becomes a file: the kernel takes 128 KiB in one argument, the final zero included.
pub const INLINE_MAX: usize = (128 << 10) - 1;

/// Empty sets of directories kept for reuse.
const SPARE_MAX: usize = 64;
const SETS: [&str; 3] = ["scratch", "out", "ckpt"];

/// The directories of one attempt. Paths only; [`Dirs::prepare`] makes the first three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptDirs {
    /// `DIR/attempts/TOKEN`.
    pub root: PathBuf,
    /// For anything, gone with the attempt; the task starts here when the job has no workdir.
    pub scratch: PathBuf,
    /// `MUSTER_OUTPUT_DIR`.
    pub out: PathBuf,
    /// `MUSTER_CHECKPOINT_DIR`.
    pub ckpt: PathBuf,
}

impl AttemptDirs {
    /// The paths of `token` below `attempts`.
    pub fn below(attempts: impl AsRef<Path>, token: Token) -> Self {
        let root = attempts.as_ref().join(token.to_string());
        Self { scratch: root.join("scratch"), out: root.join("out"), ckpt: root.join("ckpt"), root }
    }

    /// Log of standard output; `executor::logs` reads it.
    #[must_use]
    pub fn stdout(&self) -> PathBuf {
        self.root.join("stdout.log")
    }

    /// Log of standard error.
    #[must_use]
    pub fn stderr(&self) -> PathBuf {
        self.root.join("stderr.log")
    }

    /// `MUSTER_DEADLINE_FILE`; exists once there is a deadline.
    #[must_use]
    pub fn deadline_file(&self) -> PathBuf {
        self.root.join("deadline")
    }

    /// Where the input `name` is put.
    #[must_use]
    pub fn input(&self, name: &str) -> PathBuf {
        self.root.join("in").join(name)
    }

    /// `MUSTER_RESUME_FROM`: what the attempt begins from.
    #[must_use]
    pub fn resume(&self) -> PathBuf {
        self.root.join("resume")
    }

    /// Where the job's workdir is put.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }
}

/// The directories of all attempts of a worker.
#[derive(Debug)]
pub struct Dirs {
    attempts: PathBuf,
    spares: PathBuf,
    spare: Mutex<Vec<PathBuf>>,
    next: AtomicU64,
}

impl Dirs {
    /// Makes `DIR/attempts`, and takes over the spare sets of an earlier agent.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(worker_dir: &Path) -> io::Result<Self> {
        let dirs = Self::at(worker_dir);
        std::fs::create_dir_all(&dirs.attempts)?;
        // Spares are worth nothing after a restart; what they might hold is not worth a look.
        match std::fs::remove_dir_all(&dirs.spares) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::fs::create_dir(&dirs.spares)?;
        Ok(dirs)
    }

    /// For the paths alone; makes nothing.
    pub(super) fn at(worker_dir: &Path) -> Self {
        // Absolute, because a task changes its directory. A path that can't be made absolute is left to fail where it is used.
        let dir = std::path::absolute(worker_dir).unwrap_or_else(|_| worker_dir.to_owned());
        let attempts = dir.join("attempts");
        Self { spares: attempts.join("spare"), attempts, spare: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// The paths of an attempt.
    #[must_use]
    pub fn of(&self, token: Token) -> AttemptDirs {
        AttemptDirs::below(&self.attempts, token)
    }

    /// Empty directories for an attempt. Directories of the same token that are there already (the launch is repeated) are taken.
    ///
    /// # Errors
    /// As the file system says.
    pub fn prepare(&self, token: Token) -> io::Result<AttemptDirs> {
        let dirs = self.of(token);
        if let Some(set) = self.spare().pop()
            && std::fs::rename(set, &dirs.root).is_ok()
        {
            return Ok(dirs);
        }
        for dir in [&dirs.root, &dirs.scratch, &dirs.out, &dirs.ckpt] {
            match std::fs::create_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(dirs)
    }

    /// Removes what the attempt left, once its end is acknowledged and its logs and outputs are safe.
    ///
    /// # Errors
    /// As the file system says; nothing to remove is no error.
    pub fn remove(&self, token: Token) -> io::Result<()> {
        let dirs = self.of(token);
        if self.spare().len() < SPARE_MAX && untouched(&dirs) {
            let set = self.spares.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
            if std::fs::rename(&dirs.root, &set).is_ok() {
                self.spare().push(set);
                return Ok(());
            }
        }
        match std::fs::remove_dir_all(&dirs.root) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// The attempts that have directories. After a restart: those that the journal does not hold are to be removed.
    #[must_use]
    pub fn list(&self) -> Vec<Token> {
        let entries = std::fs::read_dir(&self.attempts).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exactly the three directories, and nothing in them.
fn untouched(dirs: &AttemptDirs) -> bool {
    use std::os::unix::fs::MetadataExt;
    let names = |dir: &Path| -> Option<Vec<_>> {
        Some(std::fs::read_dir(dir).ok()?.flatten().map(|e| e.file_name()).collect())
    };
    let Some(top) = names(&dirs.root) else { return false };
    // A task may have changed the modes of its directories; the next one must not inherit that.
    let plain =
        |dir: &Path, like: u32| std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir() && m.mode() == like);
    let Ok(mode) = std::fs::symlink_metadata(&dirs.root).map(|m| m.mode()) else { return false };
    top.len() == SETS.len()
        && SETS.iter().all(|s| top.iter().any(|t| t == s))
        && [&dirs.scratch, &dirs.out, &dirs.ckpt]
            .iter()
            .all(|d| plain(d, mode) && names(d).is_some_and(|n| n.is_empty()))
}

/// What a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// A string: `/bin/sh -c`.
    Shell(&'a str),
    /// A list: executed as it is.
    Exec(&'a [String]),
    /// A whole script with its own `#!` line, or one for `/bin/sh` without. It always becomes a file.
    Script(&'a str),
}

/// The command line. A shell string beyond [`INLINE_MAX`] and every script become a file in the attempt's directory.
///
/// # Errors
/// As the file system says.
pub fn argv(run: Run<'_>, dirs: &AttemptDirs) -> io::Result<Vec<String>> {
    let shell = |rest: &[&str]| ["/bin/sh"].iter().chain(rest).map(|s| (*s).to_owned()).collect::<Vec<_>>();
    match run {
        Run::Exec(list) => Ok(list.to_vec()),
        Run::Shell(text) if text.len() <= INLINE_MAX => Ok(shell(&["-c", text])),
        Run::Shell(text) => {
            let file = dirs.root.join("run.sh");
            std::fs::write(&file, text)?;
            Ok(shell(&[&file.display().to_string()]))
        }
        Run::Script(text) => {
            use std::os::unix::fs::PermissionsExt;
            let file = dirs.root.join("script");
            std::fs::write(&file, text)?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700))?;
            Ok(vec![file.display().to_string()])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_set_is_reused_and_a_touched_one_is_not() {
        let top = tempfile::tempdir().unwrap();
        let all = Dirs::open(top.path()).unwrap();
        let inode =
            |d: &AttemptDirs| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&d.out).unwrap());

        let first = all.prepare(1).unwrap();
        let kept = inode(&first);
        all.remove(1).unwrap();
        let second = all.prepare(2).unwrap();
        assert_eq!(inode(&second), kept);
        std::fs::write(second.out.join("data"), "x").unwrap();
        all.remove(2).unwrap();
        assert_eq!((all.list(), second.root.exists()), (vec![], false));
        let third = all.prepare(3).unwrap();
        assert_eq!(std::fs::read_dir(&third.out).unwrap().count(), 0);
    }

    #[test]
    fn logs_and_hidden_files_count_as_touched() {
        let top = tempfile::tempdir().unwrap();
        let all = Dirs::open(top.path()).unwrap();
        for name in ["stdout.log", "scratch/.hidden", "ckpt/x"] {
            let dirs = all.prepare(7).unwrap();
            std::fs::write(dirs.root.join(name), "").unwrap();
            all.remove(7).unwrap();
            let fresh = all.prepare(8).unwrap();
            assert!(untouched(&fresh), "{name}");
            std::fs::remove_dir_all(&fresh.root).unwrap();
        }
    }

    #[test]
    fn a_long_shell_string_becomes_a_file() {
        let top = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(top.path()).unwrap().prepare(1).unwrap();
        assert_eq!(argv(Run::Shell("exit 7"), &dirs).unwrap(), ["/bin/sh", "-c", "exit 7"]);
        let long = "#".repeat(INLINE_MAX + 1);
        let file = dirs.root.join("run.sh");
        assert_eq!(argv(Run::Shell(&long), &dirs).unwrap(), ["/bin/sh", file.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(file).unwrap(), long);
    }

    #[test]
    fn a_list_is_taken_as_it_is() {
        let list = ["echo".to_owned(), "$HOME".to_owned()];
        assert_eq!(argv(Run::Exec(&list), &AttemptDirs::default()).unwrap(), list);
    }
}
