//! Files and long objects to a cloud: in parts, several at once, each tried again on its own.

use crate::StoreError;
use crate::limits::{IN_FLIGHT_BYTES, PART_BYTES, PART_TRIES, RETRY_PAUSE, part_bytes};
use crate::local::blocking;
use crate::open::Client;
use crate::store::not_put;
use bytes::Bytes;
use muster_core::model::checkpoint::Sha256;
use object_store::ObjectStoreExt;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use sha2::{Digest, Sha256 as Hasher};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// What is sent, piece by piece and in order.
pub(crate) struct Source {
    from: From,
    key: String,
    size: u64,
    left: u64,
    hasher: Hasher,
}

enum From {
    File(File),
    Bytes(Bytes),
}

impl Source {
    pub(crate) fn file(key: &str, file: File, size: u64) -> Self {
        Self { from: From::File(file), key: key.to_owned(), size, left: size, hasher: Hasher::new() }
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self { from: From::Bytes(bytes), key: String::new(), size, left: size, hasher: Hasher::new() }
    }

    /// The next `bytes`, or what is left. Blocks.
    fn next(&mut self, bytes: u64) -> Result<Bytes, StoreError> {
        let bytes = bytes.min(self.left);
        let first = self.left == self.size;
        self.left -= bytes;
        let file = match &mut self.from {
            // It has been hashed by its owner.
            From::Bytes(all) => return Ok(all.split_to(usize::try_from(bytes).unwrap_or(all.len()))),
            From::File(file) => file,
        };
        let key = &self.key;
        let read =
            |source| StoreError::Local { what: "read what is to become", path: PathBuf::from(key), source };
        if first {
            file.rewind().map_err(read)?;
        }
        let mut piece = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        file.take(bytes).read_to_end(&mut piece).map_err(read)?;
        let longer = self.left == 0 && file.read(&mut [0]).map_err(read)? > 0;
        if piece.len() as u64 != bytes || longer {
            return Err(StoreError::Changed { key: key.clone(), bytes: self.size });
        }
        self.hasher.update(&piece);
        Ok(piece.into())
    }

    fn digest(self) -> Sha256 {
        Sha256(self.hasher.finalize().into())
    }
}

/// Reads the next piece where reading may block.
async fn read(mut source: Source, bytes: u64) -> Result<(Source, Bytes), StoreError> {
    blocking(move |_| source.next(bytes).map(|piece| (source, piece))).await
}

/// Sends `source` whole or in parts, and returns the digest of what was read.
pub(crate) async fn send(
    client: &Client,
    path: &Key,
    key: &str,
    source: Source,
    room: &Arc<Semaphore>,
) -> Result<Sha256, StoreError> {
    if source.size > PART_BYTES {
        return in_parts(client, path, key, source, room).await;
    }
    let _space = space(room, source.size).await?;
    let size = source.size;
    let (source, bytes) = read(source, size).await?;
    tried(|| async { client.objects.put(path, bytes.clone().into()).await.map_err(not_put(key)) }).await?;
    Ok(source.digest())
}

/// Sends `source` in parts. What could not be completed is given up in the store too, also when the call is dropped.
pub(crate) async fn in_parts(
    client: &Client,
    path: &Key,
    key: &str,
    mut source: Source,
    room: &Arc<Semaphore>,
) -> Result<Sha256, StoreError> {
    let bytes = part_bytes(source.size);
    let id = tried(|| async { client.parts.create_multipart(path).await.map_err(not_put(key)) }).await?;
    let mut upload = Upload { store: client.parts.clone(), path: path.clone(), id, open: true };
    let mut sent = Vec::new();
    let mut sending = JoinSet::new();
    while source.left > 0 {
        // A part that failed ends all of it at once.
        while let Some(part) = sending.try_join_next() {
            sent.push(joined(part, key)?);
        }
        let space = space(room, bytes).await?;
        let (rest, piece) = read(source, bytes).await?;
        let number = sent.len() + sending.len();
        sending.spawn(upload.part(key, number, piece, space));
        source = rest;
    }
    while let Some(part) = sending.join_next().await {
        sent.push(joined(part, key)?);
    }
    sent.sort_unstable_by_key(|(number, _)| *number);
    let parts = sent.into_iter().map(|(_, part)| part).collect();
    client.parts.complete_multipart(path, &upload.id, parts).await.map_err(not_put(key))?;
    upload.open = false;
    Ok(source.digest())
}

type Sent = (usize, PartId);

fn joined(
    part: Result<Result<Sent, StoreError>, tokio::task::JoinError>,
    key: &str,
) -> Result<Sent, StoreError> {
    part.unwrap_or_else(|error| Err(StoreError::unreachable(key, error.to_string())))
}

/// An upload in parts that the store knows of.
struct Upload {
    store: Arc<dyn MultipartStore>,
    path: Key,
    id: String,
    open: bool,
}

impl Upload {
    fn part(
        &self,
        key: &str,
        number: usize,
        bytes: Bytes,
        space: OwnedSemaphorePermit,
    ) -> impl Future<Output = Result<Sent, StoreError>> + Send + 'static {
        let (store, path, id, key) = (self.store.clone(), self.path.clone(), self.id.clone(), key.to_owned());
        async move {
            let part = tried(|| async {
                store.put_part(&path, &id, number, bytes.clone().into()).await.map_err(not_put(&key))
            });
            let part = part.await?;
            drop(space);
            Ok((number, part))
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // Without a runtime there is nobody to tell the store; a rule of the bucket removes what is left (docs/src/store.md).
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, path, id) = (self.store.clone(), self.path.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move {
                if let Err(error) = store.abort_multipart(&path, &id).await {
                    tracing::warn!(%path, %error, "an upload that failed could not be given up in the store");
                }
            });
        }
    }
}

/// Waits until `bytes` more may be in memory.
pub(crate) async fn space(room: &Arc<Semaphore>, bytes: u64) -> Result<OwnedSemaphorePermit, StoreError> {
    let kib = u32::try_from(bytes.min(IN_FLIGHT_BYTES).div_ceil(1 << 10)).unwrap_or(u32::MAX);
    let space = room.clone().acquire_many_owned(kib).await;
    space.map_err(|error| StoreError::unreachable("a part", error.to_string()))
}

/// Tries what may succeed later some times.
pub(crate) async fn tried<T, F: Future<Output = Result<T, StoreError>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut pause = RETRY_PAUSE;
    for _ in 1..PART_TRIES {
        match attempt().await {
            Err(error) if error.is_passing() => tracing::info!(%error, "tried again"),
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    attempt().await
}
