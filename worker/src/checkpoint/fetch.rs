//! The way back: what a task begins from is complete and as it was committed, or the attempt does not start.
//!
//! The log's digest vouches for the manifest, the manifest's digests for the files. A store that only does not answer is asked again for a
//! while; bytes that are gone or wrong are said to the coordinators, which then drop that checkpoint.

use super::known::{Base, KnownFile};
use super::listing::Stamp;
use super::manifest::{FileRow, Manifest, Of};
use crate::blobs::{BlobError, Store, Trouble};
use crate::shim::clock::wall_ms;
use futures::{StreamExt, TryStreamExt};
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::Part;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Files that are brought at once.
const FILES_AT_ONCE: usize = 8;
/// How long a store that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between, doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// A checkpoint that lies here.
#[derive(Debug)]
pub struct Brought {
    /// Its files, so that the next checkpoint need not send those that stay the same.
    pub base: Base,
}

/// Brings the checkpoint `of` into the directory `to`, which is made anew.
///
/// # Errors
/// [`Outcome::BadCheckpoint`]: it is gone, torn or another's. [`Outcome::Launch`]: the store or this machine's disk is in the way.
pub async fn fetch(store: &Store, of: Of, part: &Part, to: &Path) -> Result<Brought, Outcome> {
    fetch_within(PATIENCE, store, of, part, to).await
}

pub(super) async fn fetch_within(
    patience: Duration,
    store: &Store,
    of: Of,
    part: &Part,
    to: &Path,
) -> Result<Brought, Outcome> {
    let by = Instant::now() + patience;
    let bad = |reason: String| Outcome::BadCheckpoint { step: of.step, reason };
    // 1. The manifest, which has to be the one that was committed.
    let key = of.manifest_key();
    let bytes = patiently(by, || store.get_at(&key)).await.map_err(|error| ended(of, &error))?;
    let manifest = Manifest::decode(&bytes, of, Some(part.manifest)).map_err(|why| bad(why.to_string()))?;
    if (manifest.size(), manifest.files.len()) != (part.size, part.files as usize) {
        return Err(bad("its manifest does not have the files that were committed".into()));
    }
    // 2. Directories, in which nothing of anybody else is.
    make(to, &manifest).map_err(|error| unwritten(&error))?;
    // 3. The files.
    let bring = async |row: &FileRow| {
        let path = to.join(&row.path);
        let get = || store.get_file(&row.key, &path, (row.size, row.sha256));
        patiently(by, get).await.map_err(|error| ended(of, &error))?;
        known(row, &path).map_err(|error| unwritten(&error))
    };
    let brings: Vec<_> = manifest.files.iter().map(bring).collect();
    let files: Vec<KnownFile> =
        futures::stream::iter(brings).buffer_unordered(FILES_AT_ONCE).try_collect().await?;
    // 4. Links and modes last: a directory may be read-only.
    finish(to, &manifest).map_err(|error| unwritten(&error))?;
    Ok(Brought { base: Base::new(of.token, of.step, files) })
}

/// Asks again while the store only does not answer.
async fn patiently<T, F: Future<Output = Result<T, BlobError>>>(
    by: Instant,
    ask: impl Fn() -> F,
) -> Result<T, BlobError> {
    let mut pause = PAUSE_FIRST;
    loop {
        match ask().await {
            Err(error) if error.trouble() == Trouble::Unreachable && Instant::now() + pause < by => {
                tracing::warn!(%error, "a checkpoint is not here yet; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_LAST);
            }
            other => return other,
        }
    }
}

fn ended(of: Of, error: &BlobError) -> Outcome {
    match error.trouble() {
        Trouble::Gone | Trouble::Damaged => {
            Outcome::BadCheckpoint { step: of.step, reason: error.to_string() }
        }
        Trouble::Local => Outcome::Launch(format!("the worker cannot write the checkpoint: {error}")),
        Trouble::Denied | Trouble::Full | Trouble::Unreachable => {
            Outcome::Launch(format!("the store cannot be reached: {error}"))
        }
    }
}

fn unwritten(error: &io::Error) -> Outcome {
    Outcome::Launch(format!("the worker cannot write the checkpoint: {error}"))
}

fn make(to: &Path, manifest: &Manifest) -> io::Result<()> {
    match std::fs::remove_dir_all(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut dirs: Vec<_> = manifest.dirs.iter().map(|dir| dir.path.as_str()).collect();
    // Parents before what is in them.
    dirs.sort_unstable();
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    builder.create(to)?;
    dirs.into_iter().try_for_each(|dir| builder.create(to.join(dir)))
}

fn known(row: &FileRow, path: &Path) -> io::Result<KnownFile> {
    std::fs::set_permissions(path, Permissions::from_mode(row.mode & 0o777))?;
    // Read by the mode of its maker, which may be nobody's.
    let Ok(file) = File::open(path) else { return Ok(KnownFile::untold(row)) };
    let stamp = Stamp::of_file(&file)?;
    KnownFile::of(row, &file, stamp, i64::try_from(wall_ms()).unwrap_or(i64::MAX))
}

fn finish(to: &Path, manifest: &Manifest) -> io::Result<()> {
    for link in &manifest.links {
        std::os::unix::fs::symlink(&link.to, to.join(&link.path))?;
    }
    let mut dirs: Vec<_> = manifest.dirs.iter().collect();
    dirs.sort_unstable_by(|a, b| b.path.cmp(&a.path));
    // The worker has to be able to remove it.
    let set = |dir: &super::manifest::DirRow| {
        std::fs::set_permissions(to.join(&dir.path), Permissions::from_mode((dir.mode & 0o777) | 0o700))
    };
    dirs.into_iter().try_for_each(set)
}
