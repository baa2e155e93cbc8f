//! A tree of files as content addresses: the one format of workdirs and artifacts. Its encoding is the manifest blob.
//!
//! Pure: reading and writing directories is the shells' work. A decoded tree is safe to unpack: every path is below the root, every
//! parent is a directory of the tree, and no link leads out.

use super::blob::BlobId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Files are cut into chunks of this many bytes; the last one is shorter.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Largest manifest, bytes: it travels as one blob. Room for about 50,000 files.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// The format this version writes, the first byte of a manifest.
const FORMAT: u8 = 1;

/// Files, directories and links, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tree {
    /// One file that was named itself, not a directory that holds one file.
    pub single: bool,
    pub entries: Vec<Entry>,
}

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the root, `/` between names.
    pub path: String,
    /// Permission bits, at most 0o777.
    pub mode: u32,
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    Dir,
    /// `size` bytes in chunks of [`CHUNK_BYTES`].
    File {
        size: u64,
        chunks: Vec<BlobId>,
    },
    Symlink {
        to: String,
    },
}

/// Why bytes are no tree that may be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTree {
    #[error("the manifest is empty")]
    Empty,
    #[error("manifest format {0} is newer than {FORMAT}: upgrade this program")]
    Newer(u8),
    #[error("the manifest cannot be read: {0}")]
    Unreadable(postcard::Error),
    #[error("path {0:?} leads out of the tree or is not in its plain form")]
    Path(String),
    #[error("path {0:?} comes twice or out of order")]
    Order(String),
    #[error("path {0:?} lies in no directory of the tree")]
    Orphan(String),
    #[error("link {path:?} leads out of the tree, to {to:?}")]
    Link { path: String, to: String },
    #[error("file {path:?} of {size} bytes has {chunks} chunks")]
    Chunks { path: String, size: u64, chunks: usize },
    #[error("mode {mode:o} of {path:?} is more than permissions")]
    Mode { path: String, mode: u32 },
    #[error("a single file has to be the only entry")]
    Single,
    #[error("the list of {entries} files takes {bytes} bytes; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge { entries: usize, bytes: usize },
}

impl Tree {
    /// The manifest's bytes.
    ///
    /// # Errors
    /// [`BadTree`] when the tree may not be unpacked or is too large for one blob.
    pub fn encode(&self) -> Result<Vec<u8>, BadTree> {
        self.check()?;
        let bytes = postcard::to_extend(self, vec![FORMAT]).map_err(BadTree::Unreadable)?;
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(BadTree::TooLarge { entries: self.entries.len(), bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// The tree in a manifest, checked.
    ///
    /// # Errors
    /// [`BadTree`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadTree> {
        let tree: Self = match bytes.split_first() {
            None => return Err(BadTree::Empty),
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(BadTree::Unreadable)?,
            Some((&format, _)) => return Err(BadTree::Newer(format)),
        };
        tree.check()?;
        Ok(tree)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }

    /// The blobs it needs, each once.
    #[must_use]
    pub fn chunks(&self) -> BTreeSet<BlobId> {
        let chunks = self.entries.iter().filter_map(|e| match &e.kind {
            EntryKind::File { chunks, .. } => Some(chunks),
            EntryKind::Dir | EntryKind::Symlink { .. } => None,
        });
        chunks.flatten().copied().collect()
    }

    /// The name of the single file.
    #[must_use]
    pub fn single_name(&self) -> Option<&str> {
        self.entries.first().filter(|_| self.single).map(|e| e.path.as_str())
    }

    fn check(&self) -> Result<(), BadTree> {
        let mut directories = BTreeSet::new();
        let mut last: Option<&str> = None;
        for entry in &self.entries {
            let path = entry.path.as_str();
            if !is_plain(path) {
                return Err(BadTree::Path(path.to_owned()));
            }
            if last.is_some_and(|last| last >= path) {
                return Err(BadTree::Order(path.to_owned()));
            }
            last = Some(path);
            if entry.mode > 0o777 {
                return Err(BadTree::Mode { path: path.to_owned(), mode: entry.mode });
            }
            if path.rsplit_once('/').is_some_and(|(parent, _)| !directories.contains(parent)) {
                return Err(BadTree::Orphan(path.to_owned()));
            }
            match &entry.kind {
                EntryKind::Dir => drop(directories.insert(path)),
                EntryKind::Symlink { to } if !stays_inside(path, to) => {
                    return Err(BadTree::Link { path: path.to_owned(), to: to.clone() });
                }
                EntryKind::File { size, chunks }
                    if chunks.len() as u64 != size.div_ceil(CHUNK_BYTES as u64) =>
                {
                    return Err(BadTree::Chunks { path: path.to_owned(), size: *size, chunks: chunks.len() });
                }
                EntryKind::Symlink { .. } | EntryKind::File { .. } => {}
            }
        }
        let is_file = |e: &Entry| matches!(e.kind, EntryKind::File { .. }) && !e.path.contains('/');
        if self.single && !(self.entries.len() == 1 && self.entries.iter().all(is_file)) {
            return Err(BadTree::Single);
        }
        Ok(())
    }
}

impl Entry {
    /// Bytes of the file; 0 for what is none.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size, .. } => size,
            EntryKind::Dir | EntryKind::Symlink { .. } => 0,
        }
    }
}

/// Relative, without empty names, `.`, `..` and zero bytes.
fn is_plain(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}

/// Whether the link at `path` cannot lead out. `..` is taken at the beginning alone: the link's own parents are real directories, so
/// there it means what it says, while behind another link it could mean anything.
#[must_use]
pub fn stays_inside(path: &str, to: &str) -> bool {
    if to.is_empty() || to.starts_with('/') || to.contains('\0') {
        return false;
    }
    let mut depth = path.matches('/').count();
    let mut down = false;
    for name in to.split('/') {
        match name {
            "" | "." => {}
            ".." if down || depth == 0 => return false,
            ".." => depth -= 1,
            _ => down = true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: &[u8]) -> Entry {
        let chunks = bytes.chunks(CHUNK_BYTES).map(BlobId::of).collect();
        Entry { path: path.into(), mode: 0o644, kind: EntryKind::File { size: bytes.len() as u64, chunks } }
    }

    fn dir(path: &str) -> Entry {
        Entry { path: path.into(), mode: 0o755, kind: EntryKind::Dir }
    }

    fn link(path: &str, to: &str) -> Entry {
        Entry { path: path.into(), mode: 0o777, kind: EntryKind::Symlink { to: to.into() } }
    }

    fn tree(entries: Vec<Entry>) -> Tree {
        Tree { single: false, entries }
    }

    #[test]
    fn a_tree_comes_back_from_its_manifest() {
        let tree = tree(vec![dir("a"), file("a-b", b""), file("a/x", b"hello"), link("a/y", "../a-b")]);
        assert_eq!(Tree::decode(&tree.encode().unwrap()), Ok(tree.clone()));
        assert_eq!((tree.size(), tree.chunks().len()), (5, 1));
    }

    #[test]
    fn hostile_trees_are_refused() {
        for path in ["", "/etc/passwd", "..", "a/../../b", "./a", "a//b", "a/", "a\0b"] {
            assert_eq!(tree(vec![file(path, b"")]).encode(), Err(BadTree::Path(path.into())), "{path:?}");
        }
        for (to, ok) in
            [("../b", true), ("b/c", true), ("../../b", false), ("/etc", false), ("b/..", false), ("", false)]
        {
            assert_eq!(tree(vec![dir("a"), link("a/l", to)]).encode().is_ok(), ok, "{to:?}");
        }
        assert_eq!(tree(vec![link("a", "b"), file("a/x", b"")]).encode(), Err(BadTree::Orphan("a/x".into())));
        assert_eq!(tree(vec![file("a", b""), link("a", "b")]).encode(), Err(BadTree::Order("a".into())));
        let mut setuid = file("a", b"");
        setuid.mode = 0o4755;
        assert_eq!(tree(vec![setuid]).encode(), Err(BadTree::Mode { path: "a".into(), mode: 0o4755 }));
        let mut cut = file("a", b"hello");
        cut.kind = EntryKind::File { size: 5, chunks: vec![] };
        assert_eq!(tree(vec![cut]).encode(), Err(BadTree::Chunks { path: "a".into(), size: 5, chunks: 0 }));
        assert_eq!(Tree { single: true, entries: vec![dir("a")] }.encode(), Err(BadTree::Single));
        assert_eq!(Tree::decode(&[]), Err(BadTree::Empty));
        assert_eq!(Tree::decode(&[9]), Err(BadTree::Newer(9)));
    }
}
