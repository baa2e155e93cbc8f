//! The store behind `store.url`: blobs by their content, logs by their attempt.

use super::BlobError;
use bytes::Bytes;
use muster_core::model::blob::BlobId;
use muster_failpoint::{Point, pass};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<dyn ObjectStore>);

impl Store {
    /// The store at `url`. A directory is made when it is absent.
    ///
    /// # Errors
    /// A bad address, a directory that cannot be made, or a kind of store that this program was built without.
    pub fn open(url: &str) -> Result<Self, BlobError> {
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(BlobError::Url { url: url.to_owned() });
            }
            std::fs::create_dir_all(path).map_err(BlobError::file("make", path))?;
            let local = LocalFileSystem::new_with_prefix(path).map_err(failed(url))?;
            return Ok(Self(Arc::new(local)));
        }
        let parsed = url::Url::parse(url).map_err(|_| BlobError::Url { url: url.to_owned() })?;
        let (store, prefix) = object_store::parse_url(&parsed).map_err(failed(url))?;
        Ok(Self(Arc::new(PrefixStore::new(store, prefix))))
    }

    /// Stores a blob under its content.
    ///
    /// # Errors
    /// As the store says.
    pub async fn put(&self, bytes: Bytes) -> Result<BlobId, BlobError> {
        let id = BlobId::of(&bytes);
        self.put_as(id, bytes).await?;
        Ok(id)
    }

    /// Stores the blob `id`, whose bytes the caller has hashed. One that is there already is not sent.
    ///
    /// # Errors
    /// As the store says.
    pub async fn put_as(&self, id: BlobId, bytes: Bytes) -> Result<(), BlobError> {
        if self.exists(id).await? {
            return Ok(());
        }
        self.put_at(&id.store_key(), bytes).await
    }

    /// The bytes of a blob, compared with its name.
    ///
    /// # Errors
    /// It is absent or damaged, or the store cannot be reached.
    pub async fn get(&self, id: BlobId) -> Result<Bytes, BlobError> {
        let bytes = self.get_at(&id.store_key()).await?;
        if BlobId::of(&bytes) == id { Ok(bytes) } else { Err(BlobError::Damaged { id }) }
    }

    /// Whether the blob is there.
    ///
    /// # Errors
    /// As the store says.
    pub async fn exists(&self, id: BlobId) -> Result<bool, BlobError> {
        let key = id.store_key();
        match self.0.head(&Key::from(key.as_str())).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(BlobError::Store { key, source }),
        }
    }

    /// Writes an object that is no blob, such as a log; a reader sees the old or the new one, never a part.
    ///
    /// # Errors
    /// As the store says.
    pub async fn put_at(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        pass(Point::BlobPutBefore);
        self.0.put(&Key::from(key), bytes.into()).await.map(drop).map_err(failed(key))?;
        pass(Point::BlobPutAfter);
        Ok(())
    }

    /// Reads an object that is no blob.
    ///
    /// # Errors
    /// [`BlobError::Missing`], or as the store says.
    pub async fn get_at(&self, key: &str) -> Result<Bytes, BlobError> {
        let got = self.0.get(&Key::from(key)).await.map_err(failed(key))?;
        got.bytes().await.map_err(failed(key))
    }
}

fn failed(key: &str) -> impl FnOnce(object_store::Error) -> BlobError {
    let key = key.to_owned();
    move |source| match source {
        object_store::Error::NotFound { .. } => BlobError::Missing { key },
        source => BlobError::Store { key, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_comes_back_and_damage_is_seen() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/a b", top.path().display())).unwrap();
        let id = store.put(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!((id, store.exists(id).await.unwrap()), (BlobId::of(b"hello"), true));
        assert_eq!(store.get(id).await.unwrap(), "hello");
        store.put_at(&id.store_key(), Bytes::from_static(b"hullo")).await.unwrap();
        assert!(matches!(store.get(id).await, Err(BlobError::Damaged { .. })));
        assert!(matches!(store.get(BlobId::of(b"x")).await, Err(BlobError::Missing { .. })));
    }

    #[test]
    fn what_is_no_store_says_so() {
        for url in ["", "x", "file://relative", "/path"] {
            assert!(matches!(Store::open(url), Err(BlobError::Url { .. })), "{url:?}");
        }
    }
}
