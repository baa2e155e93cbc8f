//! The store behind `store.url`, as a worker uses it: with its own errors and failpoints around what other parts of the worker do.

use super::BlobError;
use bytes::Bytes;
use muster_core::model::blob::BlobId;
use muster_core::model::checkpoint::Sha256;
use muster_failpoint::{Point, pass};
use muster_store::StoreError;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(muster_store::Store);

impl Deref for Store {
    type Target = muster_store::Store;

    fn deref(&self) -> &muster_store::Store {
        &self.0
    }
}

impl Store {
    /// The store at `url`. A directory is made when it is absent.
    ///
    /// # Errors
    /// A bad address, or a directory that cannot be made.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self(muster_store::Store::open(url)?))
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
        Ok(self.0.get(id).await?)
    }

    /// Whether the blob is there.
    ///
    /// # Errors
    /// As the store says.
    pub async fn exists(&self, id: BlobId) -> Result<bool, BlobError> {
        Ok(self.0.exists(id).await?)
    }

    /// Writes an object that is no blob; a reader sees the old or the new one, never a part. It is durable when this returns.
    ///
    /// # Errors
    /// As the store says.
    pub async fn put_at(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        pass(Point::BlobPutBefore);
        self.0.put_at(key, bytes).await?;
        pass(Point::BlobPutAfter);
        Ok(())
    }

    /// Writes what a loss of power may take again, such as a log.
    ///
    /// # Errors
    /// As the store says.
    pub async fn put_soon(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        pass(Point::BlobPutBefore);
        self.0.put_soon(key, bytes).await?;
        pass(Point::BlobPutAfter);
        Ok(())
    }

    /// Reads an object that is no blob.
    ///
    /// # Errors
    /// [`BlobError::Missing`], or as the store says.
    pub async fn get_at(&self, key: &str) -> Result<Bytes, BlobError> {
        Ok(self.0.get_at(key).await?)
    }

    /// Sends `size` bytes of `file`, which are all of it, as the object `key`. The digest is that of what was sent.
    ///
    /// # Errors
    /// The file is longer or shorter, or cannot be read; as the store says.
    pub async fn put_file(&self, key: &str, file: File, size: u64) -> Result<Sha256, BlobError> {
        Ok(self.0.put_file(key, file, size).await?)
    }

    /// Brings the object `key` to the file `to`, which is complete and has this size and digest, or is not there.
    ///
    /// # Errors
    /// [`BlobError::Missing`]; as the store or the file system says.
    pub async fn get_file(
        &self,
        key: &str,
        to: &Path,
        (size, sha256): (u64, Sha256),
    ) -> Result<(), BlobError> {
        Ok(self.0.get_file(key, to, size, sha256).await?)
    }

    /// Everything below the folder `prefix`: keys and sizes, by key.
    ///
    /// # Errors
    /// As the store says.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, BlobError> {
        Ok(self.0.list(prefix).await?)
    }

    /// Removes objects; one that is not there is as good as removed.
    ///
    /// # Errors
    /// As the store says; the others are removed.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), BlobError> {
        Ok(self.0.delete(keys).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Trouble;

    #[tokio::test]
    async fn a_blob_comes_back_and_damage_is_seen() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/a b", top.path().display())).unwrap();
        let id = store.put(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!((id, store.exists(id).await.unwrap()), (BlobId::of(b"hello"), true));
        assert_eq!(store.get(id).await.unwrap(), "hello");
        store.put_at(&id.store_key(), Bytes::from_static(b"hullo")).await.unwrap();
        let damaged = store.get(id).await;
        assert!(matches!(damaged, Err(BlobError::Store(StoreError::Damaged { .. }))), "{damaged:?}");
        assert_eq!(damaged.map_err(|error| error.trouble()), Err(Trouble::Damaged));
        assert!(matches!(store.get(BlobId::of(b"x")).await, Err(BlobError::Missing { .. })));
    }

    #[tokio::test]
    async fn files_come_back_whole_or_not_at_all() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        let (from, to) = (top.path().join("from"), top.path().join("to"));
        std::fs::write(&from, "hello").unwrap();
        let sha256 = store.put_file("a/b", File::open(&from).unwrap(), 5).await.unwrap();
        store.get_file("a/b", &to, (5, sha256)).await.unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"hello");
        assert_eq!(store.list("a").await.unwrap(), [("a/b".to_owned(), 5)]);
        store.delete(vec!["a/b".to_owned(), "a/c".to_owned()]).await.unwrap();
        let gone = store.get_file("a/b", &to, (5, sha256)).await.unwrap_err();
        assert_eq!(gone.trouble(), Trouble::Gone);
        let changed = store.put_file("a/b", File::open(&from).unwrap(), 6).await.unwrap_err();
        assert_eq!(changed.trouble(), Trouble::Local);
    }
}
