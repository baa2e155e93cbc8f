//! The calls. Each has a deadline, and each either did all of what it says or nothing that a reader can see.

use crate::address::Address;
use crate::limits::{CALL_WITHIN, CHECK_WITHIN, DELETE_WITHIN, IN_FLIGHT_BYTES, PART_BYTES, transfer_within};
use crate::open::{Backend, Client, open};
use crate::upload::Source;
use crate::{StoreError, StoreOptions, download, upload};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use muster_core::model::blob::BlobId;
use muster_core::model::checkpoint::Sha256;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use percent_encoding::percent_decode_str;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    url: String,
    /// Before every key.
    prefix: Key,
    backend: Backend,
    /// KiB of parts that may be in memory.
    room: Arc<Semaphore>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a client prints of itself is its own business; its credentials are not ours to show.
        f.debug_tuple("Store").field(&self.0.url).finish()
    }
}

impl Store {
    /// The store at `url`. A directory is made when it is absent; nothing is asked over the network.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], [`StoreError::Unusable`].
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, &StoreOptions::default())
    }

    /// With settings that replace those in `url`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::open_in(url, options, &environment)
    }

    /// With credentials of these variables and of no others.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_in(
        url: &str,
        options: &StoreOptions,
        environment: &[(String, String)],
    ) -> Result<Self, StoreError> {
        let address = Address::parse(url)?.with(options)?;
        let (backend, prefix) = open(&address, environment)?;
        let room = usize::try_from(IN_FLIGHT_BYTES >> 10).unwrap_or(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(room));
        Ok(Self(Arc::new(Inner { url: address.to_string(), prefix, backend, room })))
    }

    /// What workers and members are told: the URL with its settings, without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Whether this machine may use the store: an object below `.muster-probe/` is put, got and deleted.
    ///
    /// # Errors
    /// [`StoreError::Probe`] with the reason; [`StoreError::is_passing`] tells "not now" from "not so".
    pub async fn check(&self) -> Result<(), StoreError> {
        let key = format!(".muster-probe/{:016x}", rand::random::<u64>());
        let bytes = Bytes::copy_from_slice(key.as_bytes());
        let probe = async {
            self.put_at(&key, bytes.clone()).await?;
            if self.get_at(&key).await? != bytes {
                return Err(StoreError::damaged(&key, "it is not what was put"));
            }
            self.delete([key.clone()]).await
        };
        let checked = within(&key, CHECK_WITHIN, probe).await;
        checked.map_err(|source| StoreError::Probe { url: self.0.url.clone(), source: Box::new(source) })
    }

    /// Stores a blob under the hash of its bytes. One that is there already is not sent.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, bytes: Bytes) -> Result<BlobId, StoreError> {
        let id = BlobId::of(&bytes);
        self.put_as(id, bytes).await?;
        Ok(id)
    }

    /// Stores the blob `id`, whose bytes the caller has hashed. One that is there already is not sent.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_as(&self, id: BlobId, bytes: Bytes) -> Result<(), StoreError> {
        let key = id.store_key();
        if self.exists_at(&key).await? { Ok(()) } else { self.put_at(&key, bytes).await }
    }

    /// The bytes of a blob, compared with its name.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], or the store's.
    pub async fn get(&self, id: BlobId) -> Result<Bytes, StoreError> {
        let key = id.store_key();
        let bytes = self.get_at(&key).await?;
        if BlobId::of(&bytes) == id {
            Ok(bytes)
        } else {
            Err(StoreError::damaged(&key, "its bytes have another hash"))
        }
    }

    /// Whether the blob is there.
    ///
    /// # Errors
    /// The store's.
    pub async fn exists(&self, id: BlobId) -> Result<bool, StoreError> {
        self.exists_at(&id.store_key()).await
    }

    /// Whether there is an object under `key`.
    ///
    /// # Errors
    /// The store's.
    pub async fn exists_at(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.size_at(key).await?.is_some())
    }

    /// Writes an object; a reader sees the old or the new one, never a part. It is durable when this returns.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_at(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_by(self.objects(), key, bytes).await
    }

    /// Like [`Store::put_at`], for what a loss of power may take again: a directory does not wait for its disk.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_soon(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let objects = match &self.0.backend {
            Backend::Local(local) => local.soon(),
            Backend::Cloud(client) => client.objects.as_ref(),
        };
        self.put_by(objects, key, bytes).await
    }

    async fn put_by(&self, objects: &dyn ObjectStore, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.writable(key)?;
        let size = bytes.len() as u64;
        within(key, transfer_within(size), async {
            match &self.0.backend {
                Backend::Cloud(client) if size > PART_BYTES => {
                    let source = Source::bytes(bytes);
                    upload::in_parts(client, &self.path(key), key, source, &self.0.room).await.map(drop)
                }
                _ => objects.put(&self.path(key), bytes.into()).await.map(drop).map_err(not_put(key)),
            }
        })
        .await
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or the store's.
    pub async fn get_at(&self, key: &str) -> Result<Bytes, StoreError> {
        within(key, CALL_WITHIN, async {
            let got = self.objects().get(&self.path(key)).await.map_err(|error| self.said(key, &error))?;
            got.bytes().await.map_err(|error| self.said(key, &error))
        })
        .await
    }

    /// The bytes under `key` from `offset`, and none when there is nothing under it.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_from(&self, key: &str, offset: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(size) = self.size_at(key).await? else { return Ok(None) };
        if offset >= size {
            return Ok(Some(Bytes::new()));
        }
        within(key, CALL_WITHIN, async {
            let got = self.objects().get_range(&self.path(key), offset..size).await;
            got.map(Some).map_err(|error| self.said(key, &error))
        })
        .await
    }

    /// Sends the first `size` bytes of `file`, which are all of it, and returns the digest of what was sent. More than 16 MiB go in parts,
    /// several at once, each tried again on its own; nothing is left of what could not be completed. A call that is dropped ends soon.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when the file is shorter or longer, [`StoreError::Local`] when it cannot be read, or the store's.
    pub async fn put_file(&self, key: &str, file: File, size: u64) -> Result<Sha256, StoreError> {
        self.writable(key)?;
        within(key, transfer_within(size), async {
            match &self.0.backend {
                Backend::Local(local) => local.put_file(&self.path(key), key, file, size).await,
                Backend::Cloud(client) => {
                    let source = Source::file(key, file, size);
                    upload::send(client, &self.path(key), key, source, &self.0.room).await
                }
            }
        })
        .await
    }

    /// Fetches the object of `size` bytes and digest `sha256` to the file `to`, which is replaced when it is there, and appears whole or
    /// not at all. Large ones come in parts, several at once. Not synced to the disk.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::Damaged`] when size or digest are others, also when asked again; [`StoreError::Local`] when
    /// `to` cannot be written; or the store's.
    pub async fn get_file(&self, key: &str, to: &Path, size: u64, sha256: Sha256) -> Result<(), StoreError> {
        within(key, transfer_within(size), async {
            match &self.0.backend {
                Backend::Local(local) => local.get_file(&self.path(key), key, to, (size, sha256)).await,
                Backend::Cloud(client) => {
                    download::fetch(client, &self.path(key), key, to, (size, sha256), &self.0.room).await
                }
            }
        })
        .await
    }

    /// Keys and sizes of all objects below the folder `prefix`, by key.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let listed = within(prefix, CALL_WITHIN, async {
            let found = self.objects().list(Some(&self.path(prefix))).try_collect::<Vec<_>>().await;
            found.map_err(|error| self.said(prefix, &error))
        });
        let mut all: Vec<_> =
            listed.await?.iter().map(|meta| (self.key_of(&meta.location), meta.size)).collect();
        // An empty folder and an absent one look alike: an absent directory may be an absent disk.
        if all.is_empty() {
            self.writable(prefix)?;
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Names of the folders directly below the folder `prefix`, sorted.
    ///
    /// # Errors
    /// The store's.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.writable(prefix)?;
        let listed = within(prefix, CALL_WITHIN, async {
            let found = self.objects().list_with_delimiter(Some(&self.path(prefix))).await;
            found.map_err(|error| self.said(prefix, &error))
        });
        let folders = listed.await?.common_prefixes;
        let names = folders.iter().filter_map(Key::filename);
        let mut names: Vec<_> =
            names.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes all below the folder `prefix`, also what was never completed in a directory. How many objects that was.
    ///
    /// # Errors
    /// The store's: some of it may be left.
    pub async fn remove_below(&self, prefix: &str) -> Result<usize, StoreError> {
        let keys = self.list(prefix).await?;
        let count = keys.len();
        self.delete(keys.into_iter().map(|(key, _)| key)).await?;
        if let Backend::Local(local) = &self.0.backend {
            local.remove_folder(&self.path(prefix), prefix).await?;
        }
        Ok(count)
    }

    /// Deletes objects. One that is not there is no error.
    ///
    /// # Errors
    /// The first of the store's, after all were tried.
    pub async fn delete(&self, keys: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        let paths: Vec<_> = keys.into_iter().map(|key| self.path(&key)).collect();
        let Some(first) = paths.first().map(|path| self.key_of(path)) else { return Ok(()) };
        self.writable(&first)?;
        let time = CALL_WITHIN + DELETE_WITHIN * u32::try_from(paths.len()).unwrap_or(u32::MAX);
        within(&first, time, async {
            let paths = futures::stream::iter(paths).map(Ok).boxed();
            let mut deleted = self.objects().delete_stream(paths);
            let mut failed = None;
            while let Some(done) = deleted.next().await {
                match done {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => {
                        failed.get_or_insert(StoreError::of(&first, &error));
                    }
                }
            }
            failed.map_or(Ok(()), Err)
        })
        .await
    }

    /// A URL with which anybody may put (`writes`) or get the object for `time`; none with a directory. For comparisons with plain clients.
    ///
    /// # Errors
    /// No credentials to sign with.
    pub async fn signed_url(
        &self,
        key: &str,
        writes: bool,
        time: Duration,
    ) -> Result<Option<url::Url>, StoreError> {
        let Backend::Cloud(client) = &self.0.backend else { return Ok(None) };
        let method = if writes { reqwest::Method::PUT } else { reqwest::Method::GET };
        let signed = client.signer.signed_url(method, &self.path(key), time).await;
        signed.map(Some).map_err(|error| StoreError::of(key, &error))
    }

    async fn size_at(&self, key: &str) -> Result<Option<u64>, StoreError> {
        within(key, CALL_WITHIN, async {
            match self.objects().head(&self.path(key)).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(error) => match self.said(key, &error) {
                    StoreError::Missing { .. } => Ok(None),
                    error => Err(error),
                },
            }
        })
        .await
    }

    fn objects(&self) -> &dyn ObjectStore {
        match &self.0.backend {
            Backend::Local(local) => local.objects(),
            Backend::Cloud(Client { objects, .. }) => objects.as_ref(),
        }
    }

    /// Segment by segment; what a segment may not have is escaped.
    fn path(&self, key: &str) -> Key {
        Key::from_iter(self.0.prefix.parts().chain(Key::from(key).parts()))
    }

    fn key_of(&self, path: &Key) -> String {
        let below = path.as_ref().strip_prefix(self.0.prefix.as_ref()).unwrap_or(path.as_ref());
        percent_decode_str(below.trim_start_matches('/')).decode_utf8_lossy().into_owned()
    }

    /// What a reader is told. A directory that is gone has not lost its objects.
    fn said(&self, key: &str, error: &object_store::Error) -> StoreError {
        match StoreError::of(key, error) {
            missing @ StoreError::Missing { .. } => self.writable(key).err().unwrap_or(missing),
            error => error,
        }
    }

    /// Nothing is written where a directory was that is gone: it would be made anew, on another disk.
    fn writable(&self, key: &str) -> Result<(), StoreError> {
        match &self.0.backend {
            Backend::Local(local) => local.is_there(key),
            Backend::Cloud(_) => Ok(()),
        }
    }
}

/// There is nothing that could be missing, so a bucket is.
pub(crate) fn not_put(key: &str) -> impl FnOnce(object_store::Error) -> StoreError {
    move |error| match StoreError::of(key, &error) {
        StoreError::Missing { key } => {
            StoreError::Unreachable { key, reason: "the bucket, or what was sent of it, is gone".to_owned() }
        }
        error => error,
    }
}

async fn within<T>(
    key: &str,
    time: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(time, call).await.unwrap_or_else(|_| Err(StoreError::too_slow(key, time)))
}
