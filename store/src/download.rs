//! Files from a cloud: in ranges, several at once, written and hashed in order.

use crate::StoreError;
use crate::limits::{FETCH_TRIES, IN_FLIGHT_BYTES, PART_BYTES};
use crate::local::blocking;
use crate::open::Client;
use crate::target::Target;
use crate::upload::{space, tried};
use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_core::model::checkpoint::Sha256;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256 as Hasher};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// Fetches the object to `to`, again when its bytes arrive with another digest: that may have happened on the way.
pub(crate) async fn fetch(
    client: &Client,
    path: &Key,
    key: &str,
    to: &Path,
    expected: (u64, Sha256),
    room: &Arc<Semaphore>,
) -> Result<(), StoreError> {
    for _ in 1..FETCH_TRIES {
        match fetch_once(client, path, key, to, expected, room).await {
            Err(error @ StoreError::Damaged { .. }) => tracing::info!(%error, "fetched again"),
            done => return done,
        }
    }
    fetch_once(client, path, key, to, expected, room).await
}

async fn fetch_once(
    client: &Client,
    path: &Key,
    key: &str,
    to: &Path,
    (size, sha256): (u64, Sha256),
    room: &Arc<Semaphore>,
) -> Result<(), StoreError> {
    let (mut target, mut hasher) = (Target::beside(to)?, Hasher::new());
    if size == 0 {
        // There is no range of nothing.
        let found = client.objects.head(path).await.map_err(|error| StoreError::of(key, &error))?.size;
        is_as_long(key, found, size)?;
    }
    let ranges = (0..size.div_ceil(PART_BYTES)).map(|n| n * PART_BYTES..((n + 1) * PART_BYTES).min(size));
    let at_once = usize::try_from(IN_FLIGHT_BYTES / PART_BYTES).unwrap_or(1);
    let mut parts = stream::iter(ranges)
        .map(|range| {
            let part = Part {
                objects: client.objects.clone(),
                path: path.clone(),
                key: key.to_owned(),
                size,
                range,
            };
            // Of its own, so that it goes on while what came before it is written.
            AbortOnDropHandle::new(tokio::spawn(part.fetch(room.clone())))
        })
        .buffered(at_once);
    while let Some(part) = parts.next().await {
        let (bytes, space) =
            part.unwrap_or_else(|error| Err(StoreError::unreachable(key, error.to_string())))?;
        let place = to.to_owned();
        (target, hasher) = blocking(move |_| {
            target.file.write_all(&bytes).map_err(StoreError::local("write", &place))?;
            hasher.update(&bytes);
            Ok((target, hasher))
        })
        .await?;
        drop(space);
    }
    let digest = Sha256(hasher.finalize().into());
    if digest != sha256 {
        return Err(StoreError::damaged(key, format!("its SHA-256 is {digest}, not {sha256}")));
    }
    target.keep_as(to)
}

fn is_as_long(key: &str, found: u64, size: u64) -> Result<(), StoreError> {
    let damaged = || StoreError::damaged(key, format!("it has {found} bytes, not {size}"));
    if found == size { Ok(()) } else { Err(damaged()) }
}

/// One range of an object.
struct Part {
    objects: Arc<dyn ObjectStore>,
    path: Key,
    key: String,
    /// Of the whole object.
    size: u64,
    range: Range<u64>,
}

impl Part {
    async fn fetch(self, room: Arc<Semaphore>) -> Result<(Bytes, OwnedSemaphorePermit), StoreError> {
        let length = self.range.end - self.range.start;
        let space = space(&room, length).await?;
        let bytes = tried(|| async {
            let options = GetOptions { range: Some(self.range.clone().into()), ..GetOptions::default() };
            let got = self.objects.get_opts(&self.path, options).await.map_err(|error| self.said(&error))?;
            is_as_long(&self.key, got.meta.size, self.size)?;
            let bytes = got.bytes().await.map_err(|error| self.said(&error))?;
            if bytes.len() as u64 == length {
                Ok(bytes)
            } else {
                Err(StoreError::unreachable(&self.key, format!("{} of {length} bytes came", bytes.len())))
            }
        });
        Ok((bytes.await?, space))
    }

    fn said(&self, error: &object_store::Error) -> StoreError {
        match StoreError::of(&self.key, error) {
            // It ends before the range begins.
            StoreError::Unreachable { key, reason } if reason.starts_with("416") => {
                StoreError::Damaged { key, reason: format!("it has less than {} bytes", self.size) }
            }
            error => error,
        }
    }
}
