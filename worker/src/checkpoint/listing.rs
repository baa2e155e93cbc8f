//! What is below a path of the checkpoint directory, and nothing from anywhere else.
//!
//! Every name on the way from the checkpoint directory to a file is opened by itself, and never through a link: what a task, or whoever
//! it started, puts in the place of a directory a moment after the look is refused, and not followed.

use super::CommitError;
use muster_core::model::tree::stays_inside;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Files, directories and links of one checkpoint.
pub const FILES_MAX: usize = 100_000;
/// Bytes of a path.
pub const PATH_MAX: usize = 4_096;

/// What the kernel says of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
}

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the root, `/` between names.
    pub path: String,
    pub kind: Kind,
}

/// What an entry is; `mode` are the permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dir { mode: u32 },
    File { mode: u32, stamp: Stamp },
    Link { to: String },
}

/// Everything of one checkpoint, sorted by path.
#[derive(Debug)]
pub struct Listing {
    root: OwnedFd,
    /// For messages.
    shown: PathBuf,
    /// Of a single file: its name, and the root is the directory where it is.
    single: Option<String>,
    pub entries: Vec<Entry>,
}

impl Stamp {
    pub fn of(stat: &Stat) -> Self {
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, nanoseconds),
        }
    }

    /// Of an open file.
    pub fn of_file(file: &File) -> std::io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

impl Listing {
    /// Lists `path`, a file or a directory inside the directory `dir`. Blocks.
    ///
    /// # Errors
    /// [`CommitError`]: what it is that cannot be committed.
    pub fn of(dir: &Path, path: &Path) -> Result<Self, CommitError> {
        let read = |path: &Path, source| CommitError::Read { path: path.to_owned(), source };
        let top = dir.canonicalize().map_err(|source| read(dir, source))?;
        let path = dir.join(path);
        let real = path.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => CommitError::Absent { path: path.clone() },
            _ => read(&path, source),
        })?;
        let outside = || CommitError::Outside { path: path.clone(), dir: dir.to_owned() };
        let below = real.strip_prefix(&top).map_err(|_| outside())?;
        let below = below.to_str().ok_or_else(|| CommitError::Name { path: real.clone() })?;
        let fd = rustix::fs::open(&top, DIRECTORY, Mode::empty()).map_err(|e| read(&top, e.into()))?;
        // It was resolved by name a moment ago; now it is walked, and a link that has come since is not followed.
        let changed = |_| CommitError::Changed { path: path.clone() };
        if real.symlink_metadata().map_err(|source| read(&real, source))?.is_dir() {
            let root = open_below(fd.as_fd(), below, DIRECTORY).map_err(changed)?;
            Self { root, shown: path, single: None, entries: Vec::new() }.walk()
        } else {
            let (parent, name) = below.rsplit_once('/').unwrap_or(("", below));
            let root = open_below(fd.as_fd(), parent, DIRECTORY).map_err(changed)?;
            let mut listing = Self { root, shown: path.clone(), single: Some(name.into()), entries: vec![] };
            let stat = statat(&listing.root, name, AtFlags::SYMLINK_NOFOLLOW).map_err(changed)?;
            listing.add(name.to_owned(), &stat)?;
            Ok(listing)
        }
    }

    /// The same once more; an error when anything is not as it was.
    ///
    /// # Errors
    /// [`CommitError::Changed`], naming the first difference.
    pub fn check(&self) -> Result<(), CommitError> {
        let root = self.root.try_clone().map_err(|source| self.unreadable("", source))?;
        let mut again =
            Self { root, shown: self.shown.clone(), single: self.single.clone(), entries: Vec::new() };
        if let Some(name) = &self.single {
            let stat = statat(&again.root, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|_| self.changed(name))?;
            again.add(name.clone(), &stat)?;
        } else {
            again = again.walk()?;
        }
        let differs = |pair: &(&Entry, &Entry)| pair.0 != pair.1;
        match self.entries.iter().zip(&again.entries).find(differs) {
            Some((entry, _)) => Err(self.changed(&entry.path)),
            None if self.entries.len() != again.entries.len() => Err(self.changed("")),
            None => Ok(()),
        }
    }

    /// Opens a file of it for reading; it is still the one that was listed.
    ///
    /// # Errors
    /// [`CommitError::Changed`]; one that may not be read.
    pub fn open(&self, path: &str, listed: &Stamp) -> Result<File, CommitError> {
        let opened = open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = File::from(opened.map_err(|error| match error {
            Errno::ACCESS | Errno::PERM | Errno::MFILE | Errno::NFILE | Errno::IO => {
                self.unreadable(path, error.into())
            }
            _ => self.changed(path),
        })?);
        let now = Stamp::of_file(&file).map_err(|source| self.unreadable(path, source))?;
        if now == *listed { Ok(file) } else { Err(self.changed(path)) }
    }

    /// That a file of it changed.
    pub fn changed(&self, path: &str) -> CommitError {
        CommitError::Changed { path: self.shown(path) }
    }

    /// Path, mode and stamp of each file.
    pub fn files(&self) -> impl Iterator<Item = (&str, u32, &Stamp)> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::File { mode, stamp } => Some((entry.path.as_str(), *mode, stamp)),
            Kind::Dir { .. } | Kind::Link { .. } => None,
        })
    }

    fn walk(mut self) -> Result<Self, CommitError> {
        let mut left = vec![String::new()];
        while let Some(dir) = left.pop() {
            let opened = open_below(self.root.as_fd(), &dir, DIRECTORY).and_then(Dir::new);
            let mut names = opened.map_err(|error| match error {
                Errno::ACCESS | Errno::PERM | Errno::MFILE | Errno::NFILE | Errno::IO => {
                    self.unreadable(&dir, error.into())
                }
                _ => self.changed(&dir),
            })?;
            while let Some(found) = names.read() {
                let found = found.map_err(|error| self.unreadable(&dir, error.into()))?;
                let name = found.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let Ok(plain) = name.to_str() else {
                    let name = name.to_string_lossy();
                    return Err(CommitError::Name { path: self.shown(&dir).join(&*name) });
                };
                let path = if dir.is_empty() { plain.to_owned() } else { format!("{dir}/{plain}") };
                // Gone between the two looks.
                let stat = statat(
                    names.fd().map_err(|error| self.unreadable(&dir, error.into()))?,
                    plain,
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .map_err(|_| self.changed(&path))?;
                if self.add(path.clone(), &stat)? {
                    left.push(path);
                }
            }
        }
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self)
    }

    /// Whether it is a directory.
    fn add(&mut self, path: String, stat: &Stat) -> Result<bool, CommitError> {
        if path.len() > PATH_MAX {
            return Err(CommitError::LongPath { bytes: path.len() });
        }
        if self.entries.len() == FILES_MAX {
            return Err(CommitError::TooMany { path: self.shown.clone() });
        }
        let mode = stat.st_mode & 0o777;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir { mode },
            FileType::RegularFile => Kind::File { mode, stamp: Stamp::of(stat) },
            FileType::Symlink => self.link(&path)?,
            _ => return Err(CommitError::Special { path: self.shown(&path) }),
        };
        let is_dir = matches!(kind, Kind::Dir { .. });
        self.entries.push(Entry { path, kind });
        Ok(is_dir)
    }

    fn link(&self, path: &str) -> Result<Kind, CommitError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let to = open_below(self.root.as_fd(), parent, DIRECTORY)
            .and_then(|dir| readlinkat(&dir, name, Vec::new()))
            .map_err(|_| self.changed(path))?;
        let to = to.into_string().map_err(|_| CommitError::Name { path: self.shown(path) })?;
        if stays_inside(path, &to) {
            Ok(Kind::Link { to })
        } else {
            Err(CommitError::Link { path: self.shown(path), to: to.into() })
        }
    }

    fn unreadable(&self, path: &str, source: std::io::Error) -> CommitError {
        CommitError::Read { path: self.shown(path), source }
    }

    /// As a person would write it.
    fn shown(&self, path: &str) -> PathBuf {
        match &self.single {
            Some(_) => self.shown.clone(),
            None if path.is_empty() => self.shown.clone(),
            None => self.shown.join(path),
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Opens what is at `path` below `root`, name by name.
fn open_below(root: BorrowedFd<'_>, path: &str, how: OFlags) -> Result<OwnedFd, Errno> {
    let how = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parents, last) = path.rsplit_once('/').map_or((None, path), |(parents, last)| (Some(parents), last));
    let mut at: Option<OwnedFd> = None;
    for name in parents.into_iter().flat_map(|parents| parents.split('/')) {
        at = Some(openat(at.as_ref().map_or(root, AsFd::as_fd), name, step, Mode::empty())?);
    }
    let last = if last.is_empty() { "." } else { last };
    openat(at.as_ref().map_or(root, AsFd::as_fd), last, how, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Rig(tempfile::TempDir);

    impl Rig {
        /// The checkpoint directory with `step-1/{a,sub/b}`, and a secret beside it.
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            fs::create_dir_all(top.path().join("ckpt/step-1/sub")).unwrap();
            fs::create_dir(top.path().join("ckpt-other")).unwrap();
            for name in ["ckpt/step-1/a", "ckpt/step-1/sub/b", "secret", "ckpt-other/x"] {
                fs::write(top.path().join(name), name).unwrap();
            }
            Self(top)
        }

        fn ckpt(&self) -> PathBuf {
            self.0.path().join("ckpt")
        }

        fn list(&self, path: impl AsRef<Path>) -> Result<Listing, CommitError> {
            Listing::of(&self.ckpt(), path.as_ref())
        }

        fn code(&self, path: impl AsRef<Path>) -> &'static str {
            self.list(path).map_or_else(|error| error.code(), |_| "listed")
        }
    }

    fn paths(listing: &Listing) -> Vec<&str> {
        listing.entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn a_directory_a_file_and_an_empty_directory_are_listed() {
        let rig = Rig::new();
        symlink("sub/b", rig.ckpt().join("step-1/latest")).unwrap();
        fs::create_dir(rig.ckpt().join("empty")).unwrap();
        fs::set_permissions(rig.ckpt().join("step-1/a"), fs::Permissions::from_mode(0o640)).unwrap();
        let listing = rig.list(rig.ckpt().join("step-1")).unwrap();
        assert_eq!(paths(&listing), ["a", "latest", "sub", "sub/b"]);
        assert_eq!(listing.entries[1].kind, Kind::Link { to: "sub/b".into() });
        assert!(matches!(listing.entries[0].kind, Kind::File { mode: 0o640, stamp } if stamp.size == 13));
        assert_eq!(listing.files().map(|(_, _, stamp)| stamp.size).sum::<u64>(), 13 + 17);
        assert_eq!(paths(&rig.list("step-1/a").unwrap()), ["a"], "relative ones begin at the directory");
        assert_eq!(paths(&rig.list("").unwrap()).len(), 6, "the directory itself");
        assert_eq!(rig.list("empty").unwrap().entries, []);
        // A link to a checkpoint is as good as its name.
        symlink("step-1", rig.ckpt().join("newest")).unwrap();
        assert_eq!(paths(&rig.list("newest").unwrap()).len(), 4);
    }

    #[test]
    fn nothing_outside_of_the_directory_is_reached() {
        let rig = Rig::new();
        let top = rig.0.path();
        symlink(top.join("secret"), rig.ckpt().join("out")).unwrap();
        symlink(top, rig.ckpt().join("up")).unwrap();
        for path in [
            "out",
            "up",
            "up/secret",
            "..",
            "../secret",
            "../ckpt-other",
            "step-1/../../secret",
            "/etc/passwd",
            "/",
        ] {
            assert_eq!(rig.code(path), "OUTSIDE", "{path}");
        }
        assert_eq!(rig.code(top.join("ckpt-other/x")), "OUTSIDE");
        assert_eq!(rig.code("up/ckpt/step-1"), "listed", "it leads back inside");
        for path in ["gone", "step-1/a/b", "../gone"] {
            assert!(["NOT_FOUND", "UNREADABLE"].contains(&rig.code(path)), "{path}");
        }
        assert_eq!(rig.code("x".repeat(5_000)), "UNREADABLE");
        symlink("loop", rig.ckpt().join("loop")).unwrap();
        assert_eq!(rig.code("loop"), "UNREADABLE");
    }

    #[test]
    fn what_cannot_be_committed_is_named() {
        for (to, code) in [
            ("/etc/passwd", "LINK_OUT"),
            ("../x", "LINK_OUT"),
            ("sub/../../x", "LINK_OUT"),
            ("sub", "listed"),
            ("gone", "listed"),
        ] {
            let rig = Rig::new();
            symlink(to, rig.ckpt().join("step-1/l")).unwrap();
            assert_eq!(rig.code("step-1"), code, "{to}");
        }
        let rig = Rig::new();
        let _socket = std::os::unix::net::UnixListener::bind(rig.ckpt().join("step-1/s")).unwrap();
        assert_eq!((rig.code("step-1"), rig.code("step-1/s")), ("SPECIAL_FILE", "SPECIAL_FILE"));
        let rig = Rig::new();
        let odd = <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(vec![b'x', 0xff]);
        fs::write(rig.ckpt().join("step-1").join(odd), "").unwrap();
        assert_eq!(rig.code("step-1"), "BAD_NAME");
    }

    #[test]
    fn a_change_after_the_look_is_seen() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("grown", |dir| fs::write(dir.join("a"), "much longer than it was").unwrap()),
            ("replaced", |dir| {
                fs::write(dir.join("new"), "ckpt/step-1/a").unwrap();
                fs::rename(dir.join("new"), dir.join("a")).unwrap();
            }),
            ("gone", |dir| fs::remove_file(dir.join("a")).unwrap()),
            ("a link", |dir| {
                fs::remove_file(dir.join("a")).unwrap();
                symlink("/etc/passwd", dir.join("a")).unwrap();
            }),
            ("its directory is a link", |dir| {
                fs::rename(dir.join("sub"), dir.join("sub2")).unwrap();
                symlink("/etc", dir.join("sub")).unwrap();
            }),
            ("one more", |dir| fs::write(dir.join("z"), "").unwrap()),
            ("mode", |dir| fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o600)).unwrap()),
        ];
        for (what, change) in changes {
            let rig = Rig::new();
            fs::set_permissions(rig.ckpt().join("step-1/a"), fs::Permissions::from_mode(0o640)).unwrap();
            let listing = rig.list("step-1").unwrap();
            listing.check().unwrap();
            let opened = |listing: &Listing| {
                let files: Vec<_> =
                    listing.files().map(|(path, _, stamp)| (path.to_owned(), *stamp)).collect();
                files.iter().try_for_each(|(path, stamp)| listing.open(path, stamp).map(drop))
            };
            opened(&listing).unwrap();
            change(&rig.ckpt().join("step-1"));
            let error = listing.check().unwrap_err();
            assert!(matches!(error.code(), "CHANGED" | "LINK_OUT"), "{what}: {error}");
            if !["one more", "mode"].contains(&what) {
                assert_eq!(opened(&listing).unwrap_err().code(), "CHANGED", "{what}");
            }
        }
    }

    #[test]
    fn too_long_and_too_many_are_numbers() {
        let rig = Rig::new();
        let mut listing = rig.list("step-1").unwrap();
        let stat = rustix::fs::stat(rig.ckpt().join("step-1/a")).unwrap();
        let long = listing.add("x".repeat(PATH_MAX + 1), &stat).unwrap_err();
        assert_eq!(long.to_string(), "a path of 4097 bytes; at most 4096 are allowed");
        let entry = listing.entries[0].clone();
        listing.entries = vec![entry; FILES_MAX];
        let many = listing.add("x".into(), &stat).unwrap_err();
        assert!(many.to_string().starts_with("more than 100000 files"), "{many}");
    }
}
