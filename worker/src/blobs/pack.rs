//! Directory → tree and chunks. Files are read once to be hashed and again when a missing chunk is sent, so nothing is held in memory.

use super::BlobError;
use bytes::Bytes;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use muster_core::model::blob::BlobId;
use muster_core::model::tree::{CHUNK_BYTES, Entry, EntryKind, Tree, stays_inside};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// What is to be stored, the manifest included.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Names the whole tree.
    pub manifest: BlobId,
    pub tree: Tree,
    /// Where the bytes of each blob are.
    pub blobs: BTreeMap<BlobId, Source>,
}

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Source {
    Memory(Bytes),
    File { path: PathBuf, offset: u64, length: usize },
}

impl Packed {
    /// The bytes of one of `blobs`.
    ///
    /// # Errors
    /// The file is gone, cannot be read, or is no longer what was packed.
    pub fn read(&self, id: BlobId) -> Result<Bytes, BlobError> {
        match self.blobs.get(&id) {
            Some(source) => source.read(id),
            None => Err(BlobError::Missing { key: id.store_key() }),
        }
    }
}

impl Source {
    /// The bytes, compared with their name.
    ///
    /// # Errors
    /// As [`Packed::read`].
    pub fn read(&self, id: BlobId) -> Result<Bytes, BlobError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { path, offset, length } => {
                let mut file = open(path)?;
                let mut bytes = vec![0; *length];
                let read = file.seek(SeekFrom::Start(*offset)).and_then(|_| file.read_exact(&mut bytes));
                match read {
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                        Err(BlobError::Changed { path: path.clone() })
                    }
                    Err(source) => Err(BlobError::File { what: "read", path: path.clone(), source }),
                    Ok(()) if BlobId::of(&bytes) != id => Err(BlobError::Changed { path: path.clone() }),
                    Ok(()) => Ok(bytes.into()),
                }
            }
        }
    }
}

/// Packs everything below `dir` but what a pattern of `ignore` matches: one without `/` any name, one with `/` a path from `dir`. A
/// directory that matches is left out with all that is in it.
///
/// # Errors
/// [`BlobError`], naming the file.
pub fn pack_dir(dir: &Path, ignore: &[String]) -> Result<Packed, BlobError> {
    let meta = std::fs::metadata(dir).map_err(BlobError::file("read", dir))?;
    if !meta.is_dir() {
        return Err(BlobError::NotADirectory { path: dir.to_owned() });
    }
    let ignore = Ignore::new(ignore)?;
    let mut packer = Packer::default();
    let walk = WalkDir::new(dir).min_depth(1).follow_links(false).into_iter();
    let wanted = walk.filter_entry(|e| !ignore.matches(e.path().strip_prefix(dir).unwrap_or(e.path())));
    for entry in wanted {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(dir).to_owned();
            BlobError::file("read", path)(
                error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of links")),
            )
        })?;
        let path = entry.path();
        let name = path.strip_prefix(dir).ok().and_then(Path::to_str);
        let name = name.ok_or_else(|| BlobError::Name { path: path.to_owned() })?;
        packer.add(path, name, entry.file_type())?;
    }
    packer.finish(false)
}

/// Packs a directory, or a file as a tree of its own.
///
/// # Errors
/// [`BlobError`], naming the file.
pub fn pack(path: &Path) -> Result<Packed, BlobError> {
    let kind = std::fs::symlink_metadata(path).map_err(BlobError::file("read", path))?.file_type();
    if kind.is_dir() {
        return pack_dir(path, &[]);
    }
    if !kind.is_file() {
        return Err(BlobError::Special { path: path.to_owned() });
    }
    let name =
        path.file_name().and_then(|n| n.to_str()).ok_or_else(|| BlobError::Name { path: path.to_owned() })?;
    let mut packer = Packer::default();
    packer.add(path, name, kind)?;
    packer.finish(true)
}

#[derive(Default)]
struct Packer {
    entries: Vec<Entry>,
    blobs: BTreeMap<BlobId, Source>,
}

impl Packer {
    fn add(&mut self, path: &Path, name: &str, kind: std::fs::FileType) -> Result<(), BlobError> {
        let (mode, kind) = if kind.is_dir() {
            (mode_of(path)?, EntryKind::Dir)
        } else if kind.is_symlink() {
            let to = std::fs::read_link(path).map_err(BlobError::file("read", path))?;
            let leads_out = || BlobError::Link { path: path.to_owned(), to: to.clone() };
            let to = to.to_str().filter(|to| stays_inside(name, to)).ok_or_else(leads_out)?;
            (0o777, EntryKind::Symlink { to: to.to_owned() })
        } else if kind.is_file() {
            self.file(path)?
        } else {
            return Err(BlobError::Special { path: path.to_owned() });
        };
        self.entries.push(Entry { path: name.to_owned(), mode, kind });
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(u32, EntryKind), BlobError> {
        let mut file = open(path)?;
        let mode = file.metadata().map_err(BlobError::file("read", path))?.permissions().mode() & 0o777;
        let (mut size, mut chunks) = (0, Vec::new());
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let read = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut buffer);
            let length = read.map_err(BlobError::file("read", path))?;
            if length == 0 {
                return Ok((mode, EntryKind::File { size, chunks }));
            }
            let id = BlobId::of(&buffer);
            self.blobs.entry(id).or_insert_with(|| Source::File {
                path: path.to_owned(),
                offset: size,
                length,
            });
            chunks.push(id);
            size += length as u64;
        }
    }

    fn finish(mut self, single: bool) -> Result<Packed, BlobError> {
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        let tree = Tree { single, entries: self.entries };
        let bytes = Bytes::from(tree.encode()?);
        let manifest = BlobId::of(&bytes);
        self.blobs.insert(manifest, Source::Memory(bytes));
        Ok(Packed { manifest, tree, blobs: self.blobs })
    }
}

/// A file itself, never what a link at its place leads to; a pipe does not block.
fn open(path: &Path) -> Result<File, BlobError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    options.open(path).map_err(BlobError::file("read", path))
}

fn mode_of(path: &Path) -> Result<u32, BlobError> {
    let meta = std::fs::symlink_metadata(path).map_err(BlobError::file("read", path))?;
    Ok(meta.permissions().mode() & 0o777)
}

struct Ignore {
    names: GlobSet,
    paths: GlobSet,
}

impl Ignore {
    fn new(patterns: &[String]) -> Result<Self, BlobError> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            // `dir/` is the directory `dir` anywhere, `/x` is `x` at the top.
            let trimmed = pattern.trim_end_matches('/');
            let glob = GlobBuilder::new(trimmed.trim_start_matches('/')).literal_separator(true).build()?;
            if trimmed.contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        Ok(Self { names: names.build()?, paths: paths.build()? })
    }

    fn matches(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.names.is_match(name)) || self.paths.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(packed: &Packed) -> Vec<&str> {
        packed.tree.entries.iter().map(|e| e.path.as_str()).collect()
    }

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        for file in files {
            let path = top.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        top
    }

    #[test]
    fn patterns_leave_out_names_anywhere_and_paths_from_the_top() {
        let top =
            directory(&["a.py", "b.pyc", "data/x", "data/raw/y", "src/data/z", "src/c.pyc", ".git/HEAD"]);
        let ignore = ["*.pyc", ".git/", "/data/raw"].map(str::to_owned);
        let packed = pack_dir(top.path(), &ignore).unwrap();
        assert_eq!(names(&packed), ["a.py", "data", "data/x", "src", "src/data", "src/data/z"]);
    }

    #[test]
    fn the_same_files_have_the_same_manifest() {
        let (one, two) = (directory(&["a", "b/c"]), directory(&["b/c", "a"]));
        let manifest = |dir: &tempfile::TempDir| pack_dir(dir.path(), &[]).unwrap().manifest;
        assert_eq!(manifest(&one), manifest(&two));
        std::fs::write(two.path().join("a"), "other").unwrap();
        assert_ne!(manifest(&one), manifest(&two));
    }

    #[test]
    fn what_cannot_be_shipped_is_named() {
        let top = directory(&["a"]);
        let gone = pack_dir(&top.path().join("gone"), &[]).unwrap_err();
        assert!(gone.to_string().ends_with("gone does not exist"), "{gone}");
        assert!(matches!(pack_dir(&top.path().join("a"), &[]), Err(BlobError::NotADirectory { .. })));
        std::os::unix::fs::symlink("/etc/passwd", top.path().join("out")).unwrap();
        let link = pack_dir(top.path(), &[]).unwrap_err();
        assert!(link.to_string().ends_with("out leads out of the directory, to /etc/passwd"), "{link}");
        std::fs::remove_file(top.path().join("out")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(top.path().join("s")).unwrap();
        assert!(matches!(pack_dir(top.path(), &[]), Err(BlobError::Special { .. })));
    }

    #[test]
    fn a_file_that_changed_is_not_sent_as_what_it_was() {
        let top = directory(&["a"]);
        let packed = pack_dir(top.path(), &[]).unwrap();
        let id = BlobId::of(b"a");
        assert_eq!(packed.read(id).unwrap(), "a");
        std::fs::write(top.path().join("a"), "b").unwrap();
        assert!(matches!(packed.read(id), Err(BlobError::Changed { .. })));
    }

    #[test]
    fn large_files_are_chunks_and_a_named_file_is_a_tree_of_its_own() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("data.npz");
        std::fs::write(&path, vec![7; CHUNK_BYTES + 1]).unwrap();
        let packed = pack(&path).unwrap();
        assert_eq!(
            (packed.tree.single_name(), packed.tree.size()),
            (Some("data.npz"), CHUNK_BYTES as u64 + 1)
        );
        assert_eq!(packed.blobs.len(), 3);
    }
}
