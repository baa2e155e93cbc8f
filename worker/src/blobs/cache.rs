//! The worker's cache of trees, so that a thousand indices of an array fetch their workdir once: `DIR/cache/<manifest>/{tree,manifest}`.
//!
//! Each attempt gets its own copy (sharing blocks where the file system can); nobody ever sees the cached one. Bounded by size, least
//! recently used first out.

use super::unpack::{copy, unpack};
use super::{BlobError, Store};
use muster_core::model::blob::BlobId;
use muster_core::model::tree::Tree;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

/// The cache, for one store.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    store: Store,
    /// Bytes of all trees together.
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<BlobId, Slot>,
    uses: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Read while it is copied from, written while it is filled or removed.
    lock: Arc<RwLock<()>>,
    bytes: u64,
    used: u64,
}

impl Cache {
    /// Opens the cache in `dir` and takes over what an earlier agent left.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: PathBuf, store: Store, bytes_max: u64) -> Result<Self, BlobError> {
        std::fs::create_dir_all(&dir).map_err(BlobError::file("make", &dir))?;
        let mut state = State::default();
        for entry in std::fs::read_dir(&dir).map_err(BlobError::file("read", &dir))?.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            match id.and_then(|id: BlobId| Some((id, read_manifest(&entry.path(), id)?))) {
                Some((id, tree)) => {
                    drop(state.slots.insert(id, Slot { bytes: tree.size(), ..Slot::default() }))
                }
                // Half filled, or not ours.
                None => drop(std::fs::remove_dir_all(entry.path())),
            }
        }
        Ok(Self { dir, store, bytes_max, state: Mutex::new(state) })
    }

    /// Puts the tree `manifest` at `to`: a directory, or for a single file a directory with that file in it. Returns the path that a task
    /// is told.
    ///
    /// # Errors
    /// The tree is not in the store, is damaged, cannot be written here, or `stop` was cancelled.
    pub async fn place(
        self: &Arc<Self>,
        manifest: BlobId,
        to: &Path,
        stop: &CancellationToken,
    ) -> Result<PathBuf, BlobError> {
        tokio::select! {
            placed = self.place_now(manifest, to, stop) => placed,
            () = stop.cancelled() => Err(BlobError::Stopped),
        }
    }

    async fn place_now(
        self: &Arc<Self>,
        manifest: BlobId,
        to: &Path,
        stop: &CancellationToken,
    ) -> Result<PathBuf, BlobError> {
        let dir = self.dir.join(manifest.to_string());
        loop {
            let lock = self.touch(manifest);
            let shared = lock.clone().read_owned().await;
            let Some(tree) = read_manifest(&dir, manifest) else {
                drop(shared);
                let _alone = lock.write().await;
                // Another attempt may have filled it meanwhile.
                if read_manifest(&dir, manifest).is_none() {
                    let tree = Tree::decode(&self.store.get(manifest).await?)?;
                    if tree.size() > self.bytes_max {
                        unpack(&tree, to, &self.store).await?;
                        return Ok(told(&tree, to));
                    }
                    self.fill(manifest, &tree, &dir).await?;
                }
                continue;
            };
            let (from, target, stop) = (dir.join("tree"), to.to_owned(), stop.clone());
            let copied = tokio::task::spawn_blocking(move || {
                // Held until the copy ends, even if nobody waits for it any more.
                let _shared = shared;
                copy(&tree, &from, &target, || stop.is_cancelled()).map(|()| told(&tree, &target))
            });
            return copied.await.unwrap_or(Err(BlobError::Stopped));
        }
    }

    async fn fill(&self, manifest: BlobId, tree: &Tree, dir: &Path) -> Result<(), BlobError> {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).map_err(BlobError::file("make", dir))?;
        self.make_room(manifest, tree.size());
        unpack(tree, &dir.join("tree"), &self.store).await?;
        // Last: it says that the tree is complete.
        let file = dir.join("manifest");
        std::fs::write(&file, tree.encode()?).map_err(BlobError::file("write", &file))
    }

    fn touch(&self, manifest: BlobId) -> Arc<RwLock<()>> {
        let mut state = self.state.lock();
        state.uses += 1;
        let used = state.uses;
        let slot = state.slots.entry(manifest).or_default();
        slot.used = used;
        slot.lock.clone()
    }

    fn make_room(&self, manifest: BlobId, bytes: u64) {
        let mut state = self.state.lock();
        state.slots.entry(manifest).or_default().bytes = bytes;
        let mut total: u64 = state.slots.values().map(|s| s.bytes).sum();
        let mut oldest: Vec<_> =
            state.slots.iter().filter(|(id, _)| **id != manifest).map(|(id, s)| (s.used, *id)).collect();
        oldest.sort_unstable();
        for (_, id) in oldest {
            if total <= self.bytes_max {
                return;
            }
            // One that is being copied from stays.
            let removed = state.slots.get(&id).and_then(|slot| {
                let _alone = slot.lock.try_write().ok()?;
                std::fs::remove_dir_all(self.dir.join(id.to_string())).ok()?;
                Some(slot.bytes)
            });
            if let Some(bytes) = removed {
                total -= bytes;
                state.slots.remove(&id);
            }
        }
    }
}

/// What a task is told: the single file, or the directory.
fn told(tree: &Tree, to: &Path) -> PathBuf {
    tree.single_name().map_or_else(|| to.to_owned(), |name| to.join(name))
}

fn read_manifest(dir: &Path, id: BlobId) -> Option<Tree> {
    let bytes = std::fs::read(dir.join("manifest")).ok()?;
    (BlobId::of(&bytes) == id).then(|| Tree::decode(&bytes).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::pack;

    struct Rig {
        top: tempfile::TempDir,
        store: Store,
    }

    impl Rig {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
            Self { top, store }
        }

        fn cache(&self, bytes_max: u64) -> Arc<Cache> {
            Arc::new(Cache::open(self.top.path().join("cache"), self.store.clone(), bytes_max).unwrap())
        }

        /// A stored file of `bytes` bytes.
        async fn stored(&self, name: &str, bytes: usize) -> BlobId {
            let path = self.top.path().join(name);
            std::fs::write(&path, name.repeat(bytes / name.len())).unwrap();
            let packed = pack(&path).unwrap();
            for id in packed.blobs.keys() {
                self.store.put_as(*id, packed.read(*id).unwrap()).await.unwrap();
            }
            packed.manifest
        }

        async fn place(&self, cache: &Arc<Cache>, manifest: BlobId, to: &str) -> Result<PathBuf, BlobError> {
            cache.place(manifest, &self.top.path().join(to), &CancellationToken::new()).await
        }
    }

    #[tokio::test]
    async fn a_tree_is_fetched_once_and_every_attempt_has_its_own() {
        let rig = Rig::new();
        let id = rig.stored("a", 100).await;
        let cache = rig.cache(1000);
        let first = rig.place(&cache, id, "in/1").await.unwrap();
        std::fs::write(&first, "changed").unwrap();
        std::fs::remove_dir_all(rig.top.path().join("store")).unwrap();
        let second = rig.place(&cache, id, "in/2").await.unwrap();
        assert_eq!(second, rig.top.path().join("in/2/a"));
        assert_eq!(std::fs::read(second).unwrap().len(), 100);
        let third = rig.place(&rig.cache(1000), id, "in/3").await;
        assert!(third.is_ok(), "found again after a restart: {third:?}");
    }

    #[tokio::test]
    async fn the_least_used_makes_room_and_the_too_large_is_not_kept() {
        let rig = Rig::new();
        let cache = rig.cache(250);
        let ids = [rig.stored("a", 100).await, rig.stored("b", 100).await, rig.stored("c", 100).await];
        for (n, id) in [(1, 0), (2, 1), (3, 0), (4, 2)] {
            rig.place(&cache, ids[id], &format!("in/{n}")).await.unwrap();
        }
        let kept = |id: usize| rig.top.path().join("cache").join(ids[id].to_string()).exists();
        assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
        let large = rig.stored("d", 300).await;
        let placed = rig.place(&cache, large, "in/5").await.unwrap();
        assert_eq!(std::fs::read(placed).unwrap().len(), 300);
        assert!(!rig.top.path().join("cache").join(large.to_string()).exists());
    }
}
