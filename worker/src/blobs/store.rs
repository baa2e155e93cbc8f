//! The store behind `store.url`: blobs by their content, logs by their attempt.

use super::BlobError;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use muster_core::model::blob::BlobId;
use muster_core::model::checkpoint::Sha256;
use muster_failpoint::{Point, pass};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use sha2::Digest;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

/// A file is sent in parts of this many bytes; a smaller one in one piece.
const PART_BYTES: u64 = 16 << 20;
/// Parts of one file that are on their way at once.
const PARTS_AT_ONCE: usize = 4;

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

    /// Sends `size` bytes of `file` as the object `key`: a reader sees the whole of it or nothing. The digest is that of what was sent.
    ///
    /// # Errors
    /// The file has fewer bytes or cannot be read; as the store says.
    pub async fn put_file(&self, key: &str, file: File, size: u64) -> Result<Sha256, BlobError> {
        let path = Key::from(key);
        let parts = Parts { file, left: size, hash: sha2::Sha256::new() };
        if size <= PART_BYTES {
            let (bytes, parts) = parts.next(key).await?;
            self.0.put(&path, bytes.into()).await.map_err(failed(key))?;
            return Ok(parts.digest());
        }
        let mut upload = self.0.put_multipart(&path).await.map_err(failed(key))?;
        let sent = send_parts(&mut *upload, parts, key).await;
        if sent.is_err() {
            // What stays is not seen by a reader, and the store's own rules remove it.
            let _ = upload.abort().await;
        }
        sent
    }

    /// Brings the object `key` to the new file `to`, which is complete and has this size and digest, or is not there.
    ///
    /// # Errors
    /// [`BlobError::Missing`]; [`BlobError::Wrong`] when it is other bytes; as the store or the file system says.
    pub async fn get_file(&self, key: &str, to: &Path, expected: (u64, Sha256)) -> Result<(), BlobError> {
        let brought = self.bring(key, to, expected).await;
        if brought.is_err() {
            let _ = std::fs::remove_file(to);
        }
        brought
    }

    async fn bring(&self, key: &str, to: &Path, (size, digest): (u64, Sha256)) -> Result<(), BlobError> {
        let wrong = || BlobError::Wrong { key: key.to_owned() };
        let got = self.0.get(&Key::from(key)).await.map_err(failed(key))?;
        if got.meta.size != size {
            return Err(wrong());
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(to).map_err(BlobError::file("write", to))?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut hash, mut stream) = (sha2::Sha256::new(), got.into_stream());
        while let Some(piece) = stream.try_next().await.map_err(failed(key))? {
            hash.update(&piece);
            file.write_all(&piece).await.map_err(BlobError::file("write", to))?;
        }
        file.flush().await.map_err(BlobError::file("write", to))?;
        if Sha256(hash.finalize().into()) == digest { Ok(()) } else { Err(wrong()) }
    }

    /// Everything below the directory `prefix`: keys and sizes, in no order.
    ///
    /// # Errors
    /// As the store says.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, BlobError> {
        let found =
            self.0.list(Some(&Key::from(prefix))).map_ok(|meta| (meta.location.to_string(), meta.size));
        found.try_collect().await.map_err(failed(prefix))
    }

    /// Removes objects; one that is not there is as good as removed.
    ///
    /// # Errors
    /// As the store says; the others are removed.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), BlobError> {
        let first = keys.first().cloned().unwrap_or_default();
        let paths: Vec<_> = keys.iter().map(|key| Ok(Key::from(key.as_str()))).collect();
        let mut removed = self.0.delete_stream(futures::stream::iter(paths).boxed());
        let mut failure = None;
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |error| Err(failed(&first)(error)))
    }
}

/// Reads and hashes one part while others are on their way.
async fn send_parts(
    upload: &mut dyn MultipartUpload,
    mut parts: Parts,
    key: &str,
) -> Result<Sha256, BlobError> {
    let mut sending = JoinSet::new();
    let done = |joined: Result<object_store::Result<()>, tokio::task::JoinError>| {
        joined.unwrap_or_else(|error| Err(error.into())).map_err(failed(key))
    };
    while parts.left > 0 {
        let (bytes, rest) = parts.next(key).await?;
        parts = rest;
        if sending.len() == PARTS_AT_ONCE
            && let Some(sent) = sending.join_next().await
        {
            done(sent)?;
        }
        sending.spawn(upload.put_part(bytes.into()));
    }
    while let Some(sent) = sending.join_next().await {
        done(sent)?;
    }
    upload.complete().await.map_err(failed(key))?;
    Ok(parts.digest())
}

/// A file that is read part by part and hashed on the way.
struct Parts {
    file: File,
    left: u64,
    hash: sha2::Sha256,
}

impl Parts {
    async fn next(mut self, key: &str) -> Result<(Bytes, Self), BlobError> {
        let read = tokio::task::spawn_blocking(move || {
            let length = usize::try_from(self.left.min(PART_BYTES)).unwrap_or(usize::MAX);
            let mut bytes = BytesMut::zeroed(length);
            self.file.read_exact(&mut bytes)?;
            self.hash.update(&bytes);
            self.left -= length as u64;
            Ok((bytes.freeze(), self))
        });
        let failed = |source| BlobError::File { what: "read the file of", path: key.into(), source };
        read.await.unwrap_or_else(|_| Err(std::io::Error::other("the reading thread ended"))).map_err(failed)
    }

    fn digest(self) -> Sha256 {
        Sha256(self.hash.finalize().into())
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

    #[tokio::test]
    async fn files_come_back_whole_or_not_at_all() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        let (from, to) = (top.path().join("from"), top.path().join("to"));
        for size in [0, 5, PART_BYTES * 2 + 7] {
            std::fs::write(&from, vec![7; usize::try_from(size).unwrap()]).unwrap();
            let digest = store.put_file("a/b/x", File::open(&from).unwrap(), size).await.unwrap();
            assert_eq!(digest, Sha256(sha2::Sha256::digest(std::fs::read(&from).unwrap()).into()));
            store.get_file("a/b/x", &to, (size, digest)).await.unwrap();
            assert!(std::fs::read(&to).unwrap() == std::fs::read(&from).unwrap());
            std::fs::remove_file(&to).unwrap();
            let other = store.get_file("a/b/x", &to, (size, Sha256([1; 32]))).await;
            assert!(matches!(other, Err(BlobError::Wrong { .. })) && !to.exists(), "{other:?}");
            let short = store.put_file("a/b/x", File::open(&from).unwrap(), size + 1).await;
            assert!(matches!(short, Err(BlobError::File { .. })), "{short:?}");
        }
        store.put_at("a/bc", Bytes::new()).await.unwrap();
        assert_eq!(store.list("a/b").await.unwrap(), [("a/b/x".to_owned(), PART_BYTES * 2 + 7)]);
        store.delete(vec!["a/b/x".into(), "a/b/gone".into()]).await.unwrap();
        assert_eq!(store.list("a").await.unwrap(), [("a/bc".to_owned(), 0)]);
        let gone = store.get_file("a/b/x", &to, (0, Sha256::default())).await;
        assert!(matches!(gone, Err(BlobError::Missing { .. })), "{gone:?}");
    }

    #[test]
    fn what_is_no_store_says_so() {
        for url in ["", "x", "file://relative", "/path"] {
            assert!(matches!(Store::open(url), Err(BlobError::Url { .. })), "{url:?}");
        }
    }
}
