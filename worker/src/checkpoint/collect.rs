//! What no kept checkpoint needs is removed from the store.
//!
//! By the rule in `core/model/checkpoint.rs`: what is older than the newest kept checkpoint and is named by none that is kept is never
//! named again. So this needs no lock, may come late, twice, or from a worker that was cut off, and takes nothing from a commit under way.
//! Where the manifest of a kept one cannot be read, nothing is removed.

use super::manifest::{Manifest, Of};
use crate::blobs::{BlobError, Store};
use futures::{StreamExt, TryStreamExt};
use muster_core::model::checkpoint::{Checkpoint, prefix};
use muster_core::model::ids::{IndexRef, Token};
use muster_store::StoreError;
use std::collections::{BTreeMap, BTreeSet};

/// Manifests that are read at once.
const AT_ONCE: usize = 8;

/// Of one index: the keys of the checkpoints that were kept when it was looked at last, manifests included.
#[derive(Debug, Default)]
pub struct Garbage {
    kept: BTreeMap<(Token, u64, u32), BTreeSet<String>>,
    /// Whether all that is older was listed and removed.
    is_swept: bool,
}

impl Garbage {
    /// Something was stored that was not committed: the next collection lists everything.
    pub fn left(&mut self) {
        self.is_swept = false;
    }

    /// Removes what the `kept` checkpoints of the index `at`, oldest first, have no use for.
    ///
    /// # Errors
    /// The store's; what was not removed is removed another time.
    pub async fn collect(
        &mut self,
        store: &Store,
        at: IndexRef,
        kept: &[Checkpoint],
    ) -> Result<usize, BlobError> {
        let Some(newest) = kept.last().map(|newest| (newest.token, newest.step)) else { return Ok(0) };
        // 1. What the kept ones name.
        let parts: Vec<_> = kept
            .iter()
            .flat_map(|one| {
                (0..).zip(&one.parts).map(move |(rank, part)| ((one.token, one.step, rank), part))
            })
            .collect();
        let unknown = parts.iter().filter(|(id, _)| !self.kept.contains_key(id));
        let reads = unknown.map(|((token, step, rank), part)| {
            let of = Of { at, token: *token, rank: *rank, step: *step };
            async move {
                let key = of.manifest_key();
                let bytes = store.get_at(&key).await?;
                let manifest = Manifest::decode(&bytes, of, Some(part.manifest)).map_err(|bad| {
                    BlobError::Store(StoreError::Damaged { key: key.clone(), reason: bad.to_string() })
                })?;
                let keys = manifest.keys().map(str::to_owned).chain([key]).collect();
                Ok::<_, BlobError>(((of.token, of.step, of.rank), keys))
            }
        });
        let reads: Vec<_> = reads.collect();
        let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
        self.kept.extend(read);
        let (named, gone): (Vec<_>, Vec<_>) =
            self.kept.iter().partition(|(id, _)| parts.iter().any(|(kept, _)| kept == *id));
        let named: BTreeSet<&String> = named.into_iter().flat_map(|(_, keys)| keys).collect();
        // 2. What there is besides.
        let there: Vec<String> = if self.is_swept {
            gone.into_iter().flat_map(|(_, keys)| keys.iter().cloned()).collect()
        } else {
            store.list(&prefix(at)).await?.into_iter().map(|(key, _)| key).collect()
        };
        let is_old = |key: &String| made_by(at, key).is_some_and(|made| made < newest);
        let useless: Vec<String> =
            there.into_iter().filter(|key| is_old(key) && !named.contains(key)).collect();
        // 3. Away with it.
        let count = useless.len();
        if count > 0 {
            store.delete(useless).await?;
        }
        self.kept.retain(|id, _| parts.iter().any(|(kept, _)| kept == id));
        self.is_swept = true;
        Ok(count)
    }
}

/// The token and the step under which an object of the index was stored.
fn made_by(at: IndexRef, key: &str) -> Option<(Token, u64)> {
    let below = key.strip_prefix(&prefix(at))?.strip_prefix('/')?;
    let mut names = below.split('/');
    Some((Token(names.next()?.parse().ok()?), names.next()?.parse().ok()?))
}
