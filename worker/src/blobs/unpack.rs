//! Tree → directory. What is there is complete: everything is written beside the target and renamed.
//!
//! A decoded tree holds no path that leads out, and every directory is new and our own, so no link can be followed on the way.

use super::{BlobError, Store};
use futures::{StreamExt, TryStreamExt};
use muster_core::model::blob::BlobId;
use muster_core::model::tree::{Entry, EntryKind, Tree};
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::AsyncWriteExt;

/// Files that are fetched at once, and chunks of one file.
const FILES_AT_ONCE: usize = 16;
const CHUNKS_AT_ONCE: usize = 4;

/// Brings `tree` from the store to `to`, which must not exist or be an empty directory.
///
/// # Errors
/// A missing or damaged blob, or as the file system says.
pub async fn unpack(tree: &Tree, to: &Path, store: &Store) -> Result<(), BlobError> {
    let temporary = Temporary::beside(to)?;
    make_dirs(tree, &temporary.0)?;
    let files = tree.entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::File { chunks, .. } => Some((entry, chunks.as_slice())),
        EntryKind::Dir | EntryKind::Symlink { .. } => None,
    });
    let fetches: Vec<_> = files.map(|(entry, chunks)| fetch(entry, chunks, &temporary.0, store)).collect();
    futures::stream::iter(fetches).buffer_unordered(FILES_AT_ONCE).try_collect::<()>().await?;
    make_links_and_modes(tree, &temporary.0)?;
    temporary.keep_as(to)
}

/// Copies `tree`, which lies unpacked in `from`, to `to`. Blocks. `stopped` is asked before each file.
pub(super) fn copy(tree: &Tree, from: &Path, to: &Path, stopped: impl Fn() -> bool) -> Result<(), BlobError> {
    let temporary = Temporary::beside(to)?;
    make_dirs(tree, &temporary.0)?;
    for entry in &tree.entries {
        if stopped() {
            return Err(BlobError::Stopped);
        }
        if let EntryKind::File { .. } = entry.kind {
            let target = temporary.0.join(&entry.path);
            // Shares the blocks where the file system can.
            std::fs::copy(from.join(&entry.path), &target).map_err(BlobError::file("write", &target))?;
            set_mode(&target, entry.mode)?;
        }
    }
    make_links_and_modes(tree, &temporary.0)?;
    temporary.keep_as(to)
}

async fn fetch(entry: &Entry, chunks: &[BlobId], root: &Path, store: &Store) -> Result<(), BlobError> {
    let path = root.join(&entry.path);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path).map_err(BlobError::file("write", &path))?;
    let gets: Vec<_> = chunks.iter().map(|id| store.get(*id)).collect();
    let mut pieces = futures::stream::iter(gets).buffered(CHUNKS_AT_ONCE);
    let mut file = tokio::fs::File::from_std(file);
    while let Some(piece) = pieces.try_next().await? {
        file.write_all(&piece).await.map_err(BlobError::file("write", &path))?;
    }
    file.flush().await.map_err(BlobError::file("write", &path))?;
    let mode = Permissions::from_mode(entry.mode);
    file.set_permissions(mode).await.map_err(BlobError::file("write", &path))
}

fn make_dirs(tree: &Tree, root: &Path) -> Result<(), BlobError> {
    for entry in tree.entries.iter().filter(|e| e.kind == EntryKind::Dir) {
        let path = root.join(&entry.path);
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(BlobError::file("make", &path))?;
    }
    Ok(())
}

/// Last, because a directory may be read-only, deepest first.
fn make_links_and_modes(tree: &Tree, root: &Path) -> Result<(), BlobError> {
    for entry in tree.entries.iter().rev() {
        let path = root.join(&entry.path);
        match &entry.kind {
            EntryKind::Symlink { to } => {
                std::os::unix::fs::symlink(to, &path).map_err(BlobError::file("write", &path))?;
            }
            // The worker has to be able to remove it.
            EntryKind::Dir => set_mode(&path, entry.mode | 0o700)?,
            EntryKind::File { .. } => {}
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), BlobError> {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(BlobError::file("write", path))
}

/// A new directory beside a target; gone when it is not kept.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(to: &Path) -> Result<Self, BlobError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let parent = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(BlobError::file("make", parent))?;
        let path =
            parent.join(format!(".{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        // An earlier process with this id may have left one.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().mode(0o755).create(&path).map_err(BlobError::file("make", &path))?;
        Ok(Self(path))
    }

    fn keep_as(mut self, to: &Path) -> Result<(), BlobError> {
        std::fs::rename(&self.0, to).map_err(BlobError::file("write", to))?;
        self.0.clear();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::{Packed, pack_dir};

    async fn stored(packed: &Packed, store: &Store) {
        for id in packed.blobs.keys() {
            store.put_as(*id, packed.read(*id).unwrap()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_directory_comes_back_with_modes_and_links() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        let from = top.path().join("from");
        std::fs::create_dir_all(from.join("bin/deep")).unwrap();
        std::fs::write(from.join("bin/run"), "#!/bin/sh\n").unwrap();
        std::fs::write(from.join("empty"), "").unwrap();
        std::fs::write(from.join("large"), vec![3; 3 << 20]).unwrap();
        set_mode(&from.join("bin/run"), 0o755).unwrap();
        set_mode(&from.join("bin/deep"), 0o555).unwrap();
        std::os::unix::fs::symlink("../empty", from.join("bin/link")).unwrap();

        let packed = pack_dir(&from, &[]).unwrap();
        stored(&packed, &store).await;
        let to = top.path().join("deep/to");
        unpack(&packed.tree, &to, &store).await.unwrap();
        set_mode(&to.join("bin/deep"), 0o555).unwrap();
        assert_eq!(pack_dir(&to, &[]).unwrap().manifest, packed.manifest);

        let copied = top.path().join("copied");
        copy(&packed.tree, &to, &copied, || false).unwrap();
        set_mode(&copied.join("bin/deep"), 0o555).unwrap();
        assert_eq!(pack_dir(&copied, &[]).unwrap().manifest, packed.manifest);
    }

    #[tokio::test]
    async fn nothing_is_left_of_what_could_not_be_completed() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        std::fs::create_dir(top.path().join("from")).unwrap();
        std::fs::write(top.path().join("from/a"), "a").unwrap();
        let packed = pack_dir(&top.path().join("from"), &[]).unwrap();
        let to = top.path().join("work/to");
        assert!(matches!(unpack(&packed.tree, &to, &store).await, Err(BlobError::Missing { .. })));
        let stopped = copy(&packed.tree, &top.path().join("from"), &to, || true);
        assert!(matches!(stopped, Err(BlobError::Stopped)));
        assert_eq!(std::fs::read_dir(top.path().join("work")).unwrap().count(), 0);
    }
}
