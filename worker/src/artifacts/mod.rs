//! The outputs of an attempt that ended with 0: each is packed and stored, or names the contract it broke.

use crate::blobs::{BlobError, Packed, Store, pack};
use futures::{StreamExt, TryStreamExt};
use muster_core::model::artifact::Artifact;
use muster_core::model::attempt::Outcome;
use muster_failpoint::{Point, pass};
use std::path::Path;

/// Blobs that are sent at once.
const AT_ONCE: usize = 8;

/// Packs and stores `outputs` (name, path below `out`).
///
/// # Errors
/// The attempt's outcome instead of success: a promised output that is missing or cannot be shipped is the task's fault, a store that does
/// not take it is ours.
pub async fn collect(
    out: &Path,
    outputs: &[(String, String)],
    store: &Store,
) -> Result<Vec<Artifact>, Outcome> {
    let mut artifacts = Vec::with_capacity(outputs.len());
    for (name, path) in outputs {
        pass(Point::CollectBefore);
        let (top, below) = (out.to_owned(), path.clone());
        let packed = tokio::task::spawn_blocking(move || pack_output(&top, &below)).await;
        let packed = match packed {
            Ok(Ok(packed)) => packed,
            Ok(Err(BlobError::Absent { .. })) => return Err(Outcome::ContractOutput(name.clone())),
            Ok(Err(error)) => return Err(Outcome::ContractOutput(format!("{name}: {error}"))),
            Err(error) => return Err(Outcome::Launch(format!("output {name}: {error}"))),
        };
        upload(&packed, store)
            .await
            .map_err(|error| Outcome::Launch(format!("output {name} could not be stored: {error}")))?;
        pass(Point::CollectAfter);
        artifacts.push(Artifact { name: name.clone(), manifest: packed.manifest, size: packed.tree.size() });
    }
    Ok(artifacts)
}

/// The output itself, wherever links inside the output directory lead, but nothing outside of it.
fn pack_output(out: &Path, below: &str) -> Result<Packed, BlobError> {
    let path = out.join(below);
    let absent = |_| BlobError::Absent { path: path.clone() };
    let (top, real) = (out.canonicalize().map_err(absent)?, path.canonicalize().map_err(absent)?);
    if !real.starts_with(&top) {
        return Err(BlobError::Link { path, to: real });
    }
    pack(&real)
}

/// The chunks first, the manifest that names them last.
async fn upload(packed: &Packed, store: &Store) -> Result<(), BlobError> {
    let send = async |id| {
        if !store.exists(id).await? {
            let source = packed.blobs[&id].clone();
            let read = tokio::task::spawn_blocking(move || source.read(id));
            store.put_at(&id.store_key(), read.await.unwrap_or(Err(BlobError::Stopped))?).await?;
        }
        Ok(())
    };
    let chunks: Vec<_> =
        packed.blobs.keys().filter(|id| **id != packed.manifest).map(|id| send(*id)).collect();
    futures::stream::iter(chunks).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    send(packed.manifest).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::tree::Tree;

    fn promised(name: &str, path: &str) -> [(String, String); 1] {
        [(name.to_owned(), path.to_owned())]
    }

    #[tokio::test]
    async fn outputs_are_stored_or_the_contract_is_named() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        let out = top.path().join("out");
        std::fs::create_dir_all(out.join("dir")).unwrap();
        std::fs::write(out.join("dir/data.npz"), "12345").unwrap();
        std::os::unix::fs::symlink("dir/data.npz", out.join("latest")).unwrap();
        std::os::unix::fs::symlink("/etc", out.join("escape")).unwrap();

        for (path, single) in
            [("dir", None), ("dir/data.npz", Some("data.npz")), ("latest", Some("data.npz"))]
        {
            let artifacts = collect(&out, &promised("data", path), &store).await.unwrap();
            assert_eq!((artifacts.len(), artifacts[0].size), (1, 5), "{path}");
            let tree = Tree::decode(&store.get(artifacts[0].manifest).await.unwrap()).unwrap();
            assert_eq!(tree.single_name(), single, "{path}");
        }
        let missing = collect(&out, &promised("data", "nothing"), &store).await;
        assert_eq!(missing, Err(Outcome::ContractOutput("data".into())));
        for path in ["escape", "escape/passwd", "../store"] {
            let escaped = collect(&out, &promised("data", path), &store).await;
            assert!(
                matches!(&escaped, Err(Outcome::ContractOutput(what)) if what.contains("leads out")),
                "{path}: {escaped:?}"
            );
        }
    }
}
