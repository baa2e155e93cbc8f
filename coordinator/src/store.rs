//! The store that all members and workers share: content-addressed blobs and the logs of ended attempts.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use muster_core::model::blob::BlobId;
use muster_failpoint::{Point, pass};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::path::PathBuf;
use std::sync::Arc;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("store.url {0:?} is not supported: write file:///absolute/path")]
    BadUrl(String),
    #[error("cannot make the store's directory {path}: {error}")]
    Unusable { path: PathBuf, error: std::io::Error },
    #[error("the store failed: {0}")]
    Failed(#[from] object_store::Error),
}

/// A handle on the store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    url: String,
}

impl Store {
    /// Opens `file:///path`, made when absent.
    ///
    /// # Errors
    /// Another scheme; a directory that can't be made.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let path = url
            .strip_prefix("file://")
            .filter(|path| path.starts_with('/'))
            .ok_or_else(|| StoreError::BadUrl(url.to_owned()))?;
        let path = PathBuf::from(path);
        std::fs::create_dir_all(&path).map_err(|error| StoreError::Unusable { path: path.clone(), error })?;
        // Blobs are durable before the job that names them is.
        let inner = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { inner: Arc::new(inner), url: url.to_owned() })
    }

    /// What workers and members are told.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the store has the blob.
    ///
    /// # Errors
    /// The store's.
    pub async fn has(&self, id: BlobId) -> Result<bool, StoreError> {
        match self.inner.head(&Path::from(id.store_key())).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a blob under the hash of its bytes; what is there already is not written again.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        let id = BlobId::of(&bytes);
        if !self.has(id).await? {
            pass(Point::StorePutBefore);
            self.inner.put(&Path::from(id.store_key()), PutPayload::from_bytes(bytes)).await?;
            pass(Point::StorePutAfter);
        }
        Ok(id)
    }

    /// The bytes under `key` from `offset`, and none when there is nothing under it.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_from(&self, key: &str, offset: u64) -> Result<Option<Bytes>, StoreError> {
        let path = Path::from(key);
        let size = match self.inner.head(&path).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if offset >= size {
            return Ok(Some(Bytes::new()));
        }
        Ok(Some(self.inner.get_range(&path, offset..size).await?))
    }

    /// Names of what lies directly below `prefix` and has something below itself.
    ///
    /// # Errors
    /// The store's.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let found = self.inner.list_with_delimiter(Some(&Path::from(prefix))).await?;
        let names = found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
        Ok(names.collect())
    }

    /// Removes everything below `prefix`; how many objects that was.
    ///
    /// # Errors
    /// The store's: some of it may be left.
    pub async fn remove_below(&self, prefix: &str) -> Result<usize, StoreError> {
        let all = self.inner.list(Some(&Path::from(prefix))).map_ok(|meta| meta.location);
        let locations: Vec<Path> = all.try_collect().await?;
        let count = locations.len();
        let locations = futures::stream::iter(locations.into_iter().map(Ok)).boxed();
        self.inner.delete_stream(locations).try_for_each(|_| async { Ok(()) }).await?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blobs_are_found_by_what_they_hold() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(&format!("file://{}", dir.path().display())).expect("open");
        let id = store.put(Bytes::from_static(b"hello")).await.expect("put");
        assert_eq!(id, BlobId::of(b"hello"));
        assert!(store.has(id).await.expect("has"));
        assert!(!store.has(BlobId::of(b"other")).await.expect("has"));
        assert_eq!(
            store.read_from(&id.store_key(), 2).await.expect("read"),
            Some(Bytes::from_static(b"llo"))
        );
        assert_eq!(store.read_from(&id.store_key(), 9).await.expect("read"), Some(Bytes::new()));
        assert_eq!(store.read_from("logs/1/0/0/1.stdout", 0).await.expect("read"), None);
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(matches!(Store::open("s3://bucket"), Err(StoreError::BadUrl(_))));
        assert!(matches!(Store::open("file://relative"), Err(StoreError::BadUrl(_))));
    }
}
