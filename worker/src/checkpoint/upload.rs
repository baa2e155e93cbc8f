//! Files first, several at once, the manifest last: what is torn by a death at any moment has no manifest, and is nobody's.
//!
//! A manifest that is there is never written over: the log may hold its digest. A step that was stored already is stored again only by
//! having the same contents.

use super::CommitError;
use super::known::{Base, KnownFile};
use super::listing::{Kind, Listing, Stamp};
use super::manifest::{DirRow, FileRow, LinkRow, MANIFEST_MAX, Manifest, Of, sha256};
use super::sent::Sent;
use crate::blobs::{BlobError, Store};
use crate::shim::clock::wall_ms;
use futures::{StreamExt, TryStreamExt};
use muster_core::model::checkpoint::Part;
use muster_failpoint::{Point, hit};
use parking_lot::Mutex;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Files that are read and sent at once; a large one is sent in parts besides.
const FILES_AT_ONCE: usize = 8;

/// What is to be stored, and as what.
#[derive(Debug, Clone, Copy)]
pub struct What<'a> {
    pub of: Of,
    pub attempt: u32,
    /// The attempt's checkpoint directory.
    pub dir: &'a Path,
    pub path: &'a Path,
}

/// What the store may have already.
#[derive(Debug, Clone, Copy)]
pub struct Have<'a> {
    /// Of the same step.
    pub sent: &'a Mutex<Sent>,
    /// A file of the first may be named again if all others name it too: each of them may be the newest one that is kept.
    pub bases: &'a [Base],
}

/// A checkpoint of one rank, stored.
#[derive(Debug)]
pub struct Stored {
    pub part: Part,
    /// Its files, for the next one.
    pub base: Base,
}

/// Stores what is at a path as the checkpoint of a step, or finds that it is there.
///
/// # Errors
/// [`CommitError`]: transient when the same call may go well later.
pub async fn store_checkpoint(store: &Store, what: What<'_>, have: Have<'_>) -> Result<Stored, CommitError> {
    // 1. What there is, and whether the step was stored before.
    let (dir, path) = (what.dir.to_owned(), what.path.to_owned());
    let listing = Arc::new(blocking(move || Listing::of(&dir, &path)).await?);
    let manifest_key = what.of.manifest_key();
    let before = match store.get_at(&manifest_key).await {
        Ok(bytes) => Some(bytes),
        Err(BlobError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let known = match &before {
        None => None,
        Some(bytes) => {
            let step = what.of.step;
            let stored = Manifest::decode(bytes, what.of, None);
            let stored = stored.map_err(|source| CommitError::Stored { step, source })?;
            Some(Base::of_manifest(&stored))
        }
    };
    // 2. The files: those of such a step have to be there, all of them.
    hit(Point::CheckpointFiles).map_err(CommitError::Failpoint)?;
    let send = async |path: &str, mode: u32, stamp: &Stamp| {
        let row = FileRow {
            path: path.to_owned(),
            size: stamp.size,
            mode,
            sha256: Default::default(),
            key: what.of.file_key(path),
        };
        let mut candidates: Vec<KnownFile> = Vec::new();
        if let Some(known) = &known {
            candidates.extend(known.candidates(path, stamp).cloned());
        } else {
            candidates.extend(have.sent.lock().get(path).filter(|file| file.size == stamp.size).cloned());
            if let Some((first, others)) = have.bases.split_first() {
                let named = |file: &&KnownFile| others.iter().all(|base| base.names(&file.key));
                candidates.extend(first.candidates(path, stamp).filter(named).cloned());
            }
        }
        let (file, found) = look(&listing, row, *stamp, candidates).await?;
        match found {
            Ok(found) => Ok((mode, found)),
            Err(_) if known.is_some() => Err(CommitError::StepTaken { step: what.of.step }),
            Err(row) => {
                let found = send_file(store, &listing, row, *stamp, file).await?;
                have.sent.lock().add(found.clone());
                Ok((mode, found))
            }
        }
    };
    let sending: Vec<_> = listing.files().map(|(path, mode, stamp)| send(path, mode, stamp)).collect();
    let mut files: Vec<_> =
        futures::stream::iter(sending).buffer_unordered(FILES_AT_ONCE).try_collect().await?;
    files.sort_by(|(_, a), (_, b)| a.path.cmp(&b.path));
    // 3. Nothing has changed since they were listed.
    let again = listing.clone();
    blocking(move || again.check()).await?;
    // 4. The manifest.
    let manifest = manifest_of(&what, &listing, &files);
    let bytes = manifest.encode();
    if bytes.len() > MANIFEST_MAX {
        return Err(CommitError::LargeManifest { bytes: bytes.len() });
    }
    let digest = sha256(&bytes);
    match before {
        Some(before) if before != bytes => return Err(CommitError::StepTaken { step: what.of.step }),
        Some(_) => {}
        None => {
            hit(Point::CheckpointManifest).map_err(CommitError::Failpoint)?;
            store.put_at(&manifest_key, bytes.into()).await?;
        }
    }
    hit(Point::CheckpointStored).map_err(CommitError::Failpoint)?;
    let count = u32::try_from(manifest.files.len()).unwrap_or(u32::MAX);
    Ok(Stored {
        part: Part { manifest: digest, size: manifest.size(), files: count },
        base: Base::new(what.of.token, what.of.step, files.into_iter().map(|(_, file)| file)),
    })
}

/// A file opened, and that it is one of `candidates`, or the row that it will have.
async fn look(
    listing: &Arc<Listing>,
    row: FileRow,
    stamp: Stamp,
    candidates: Vec<KnownFile>,
) -> Result<(File, Result<KnownFile, FileRow>), CommitError> {
    let listing = listing.clone();
    blocking(move || {
        let mut file = listing.open(&row.path, &stamp)?;
        for known in candidates {
            match known.is(&mut file, &stamp) {
                Ok(true) => {
                    let sha256 = known.sha256;
                    let row = FileRow { sha256, key: known.key, ..row };
                    let known = KnownFile::of(&row, &file, stamp, now_ms());
                    return Ok((file, Ok(known.map_err(|_| listing.changed(&row.path))?)));
                }
                Ok(false) => {}
                Err(_) => return Err(listing.changed(&row.path)),
            }
        }
        Ok((listing.open(&row.path, &stamp)?, Err(row)))
    })
    .await
}

async fn send_file(
    store: &Store,
    listing: &Arc<Listing>,
    row: FileRow,
    stamp: Stamp,
    file: File,
) -> Result<KnownFile, CommitError> {
    let reading =
        file.try_clone().map_err(|source| CommitError::Read { path: row.path.clone().into(), source })?;
    let sent = store.put_file(&row.key, reading, row.size).await;
    // A file that changed while it was read is not the store's fault, whatever that says.
    if Stamp::of_file(&file).ok() != Some(stamp) {
        return Err(listing.changed(&row.path));
    }
    let row = FileRow { sha256: sent?, ..row };
    let listing = listing.clone();
    blocking(move || KnownFile::of(&row, &file, stamp, now_ms()).map_err(|_| listing.changed(&row.path)))
        .await
}

fn manifest_of(what: &What<'_>, listing: &Listing, files: &[(u32, KnownFile)]) -> Manifest {
    let mut manifest = Manifest::new(what.of, what.attempt);
    let rows = files.iter().map(|(mode, file)| FileRow {
        path: file.path.clone(),
        size: file.size,
        mode: *mode,
        sha256: file.sha256,
        key: file.key.clone(),
    });
    manifest.files = rows.collect();
    for entry in &listing.entries {
        let path = entry.path.clone();
        match &entry.kind {
            Kind::Dir { mode } => manifest.dirs.push(DirRow { path, mode: *mode }),
            Kind::Link { to } => manifest.links.push(LinkRow { path, to: to.clone() }),
            Kind::File { .. } => {}
        }
    }
    manifest
}

fn now_ms() -> i64 {
    i64::try_from(wall_ms()).unwrap_or(i64::MAX)
}

/// Runs what reads files on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommitError> + Send + 'static,
) -> Result<T, CommitError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(CommitError::Over))
}
