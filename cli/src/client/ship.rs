//! Ships a directory: packed and hashed here, and only what the store lacks is sent. Sent blobs stay when the connection breaks, so a
//! second try goes on where the first ended.

use super::Client;
use crate::failure::Failure;
use crate::output::progress;
use indicatif::ProgressBar;
use muster_core::model::blob::BlobId;
use muster_proto::api::{Blob, BlobIds};
use muster_worker::blobs::{self, BlobError, Packed};
use std::path::Path;

/// Ids of one question, and blobs of one call: a few megabytes of either.
const IDS_MAX: usize = 50_000;
const CALL_BYTES: usize = 8 << 20;
const CALL_BLOBS: usize = 512;

/// Packs `dir`, sends what is missing, and returns the id of its manifest.
///
/// # Errors
/// A directory that is absent, vanishes or cannot be packed; the server's refusal; nothing reachable.
pub async fn workdir(client: &mut Client, dir: &Path, ignore: &[String]) -> Result<BlobId, Failure> {
    let packed = blobs::pack_dir(dir, ignore).map_err(|error| unpackable(dir, &error))?;
    let missing = missing(client, &packed).await?;
    if !missing.is_empty() {
        send(client, dir, &packed, &missing).await?;
    }
    Ok(packed.manifest)
}

async fn missing(client: &mut Client, packed: &Packed) -> Result<Vec<BlobId>, Failure> {
    let all: Vec<BlobId> = packed.blobs.keys().copied().collect();
    let mut missing = Vec::new();
    for part in all.chunks(IDS_MAX) {
        let ids = BlobIds { ids: part.iter().map(|id| id.0.to_vec().into()).collect() };
        let reply = client.call(async |api| api.missing_blobs(ids.clone()).await).await?;
        for id in reply.ids {
            let id: [u8; 32] = id[..]
                .try_into()
                .map_err(|_| Failure::new("BAD_ANSWER", "the coordinator names a blob with no id"))?;
            missing.push(BlobId(id));
        }
    }
    // The manifest last: what it names is then complete.
    missing.sort_by_key(|id| (*id == packed.manifest, *id));
    Ok(missing)
}

async fn send(client: &mut Client, dir: &Path, packed: &Packed, missing: &[BlobId]) -> Result<(), Failure> {
    let bar = progress(packed, missing);
    let mut rest = missing;
    while !rest.is_empty() {
        let mut call = Vec::new();
        let mut bytes = 0;
        while let Some((id, after)) = rest.split_first() {
            if bytes >= CALL_BYTES || call.len() >= CALL_BLOBS {
                break;
            }
            let content = packed.read(*id).map_err(|error| unpackable(dir, &error))?;
            bytes += content.len();
            call.push(Blob { id: id.0.to_vec().into(), bytes: content });
            rest = after;
        }
        client.call(async |api| api.put_blobs(tokio_stream::iter(call.clone())).await).await?;
        bar.inc(bytes as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress(packed: &Packed, missing: &[BlobId]) -> ProgressBar {
    let bytes = missing
        .iter()
        .filter_map(|id| packed.blobs.get(id))
        .map(|source| match source {
            blobs::Source::Memory(bytes) => bytes.len() as u64,
            blobs::Source::File { length, .. } => *length as u64,
        })
        .sum();
    progress::bar("workdir", bytes)
}

fn unpackable(dir: &Path, error: &BlobError) -> Failure {
    let failure = Failure::new("WORKDIR", format!("workdir {}: {error}", dir.display()));
    match (error, error.hint()) {
        (BlobError::Absent { .. } | BlobError::NotADirectory { .. }, _) => {
            failure.hint("workdir is relative to the job file")
        }
        (_, "") => failure,
        (_, hint) => failure.hint(hint),
    }
}
