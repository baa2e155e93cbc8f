//! The store that all members and workers share, as a member uses it: content-addressed blobs and the logs of ended attempts.

use bytes::Bytes;
use muster_core::model::blob::BlobId;
use muster_failpoint::{Point, pass};
pub use muster_store::StoreError;
use std::ops::Deref;

/// A handle on the store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(muster_store::Store);

impl Deref for Store {
    type Target = muster_store::Store;

    fn deref(&self) -> &muster_store::Store {
        &self.0
    }
}

impl Store {
    /// Opens the store at `url`; a directory is made when absent.
    ///
    /// # Errors
    /// A bad URL; a directory that can't be made.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self(muster_store::Store::open(url)?))
    }

    /// Stores a blob under the hash of its bytes; what is there already is not written again.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        let id = BlobId::of(&bytes);
        if !self.exists(id).await? {
            pass(Point::StorePutBefore);
            self.put_at(&id.store_key(), bytes).await?;
            pass(Point::StorePutAfter);
        }
        Ok(id)
    }
}
