//! A directory as a store.

use crate::{LARGE, digest, file};
use bytes::Bytes;
use muster_store::{Store, StoreError};
use std::path::{Path, PathBuf};

struct Rig {
    top: tempfile::TempDir,
    root: PathBuf,
    store: Store,
}

impl Rig {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("a store");
        let store = Store::open(&format!("file://{}", root.display())).unwrap();
        Self { top, root, store }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_come_back_and_nothing_else_is_left() {
    let Rig { top, root, store } = &Rig::new();
    store.check().await.unwrap();
    let to = top.path().join("got");
    for (key, bytes) in [("c/none", 0), ("c/d/a b#1%2", 5), ("c/large", LARGE)] {
        let (file, sha256) = file(top.path(), bytes);
        assert_eq!(store.put_file(key, file, bytes as u64).await.unwrap(), sha256, "{key}");
        store.get_file(key, &to, bytes as u64, sha256).await.unwrap();
        assert_eq!(digest(&to), sha256, "{key}");
    }
    let listed = store.list("c").await.unwrap();
    let all = [("c/d/a b#1%2", 5), ("c/large", LARGE as u64), ("c/none", 0)];
    assert_eq!(listed, all.map(|(key, size)| (key.to_owned(), size)));
    store.put_soon("c/log", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(store.get_at("c/log").await.unwrap(), Bytes::from_static(b"1"));
    let keys = listed.into_iter().map(|(key, _)| key);
    store.delete(keys.chain(["c/log".to_owned(), "c/was-never-there".to_owned()])).await.unwrap();
    assert_eq!((store.list("").await.unwrap(), names(root)), (vec![], vec![]));
}

#[tokio::test]
async fn a_folder_goes_with_what_was_never_completed() {
    let Rig { root, store, .. } = &Rig::new();
    for key in ["c/1/a/x", "c/1/y", "c/2/z", "c/file", "d/1"] {
        store.put_at(key, Bytes::from_static(b"1")).await.unwrap();
    }
    std::fs::write(root.join("c/1/a/never#17"), "half").unwrap();
    assert_eq!(store.folders("c").await.unwrap(), ["1", "2"]);
    assert_eq!(store.remove_below("c/1").await.unwrap(), 2);
    assert_eq!(
        (store.folders("c").await.unwrap(), names(&root.join("c"))),
        (vec!["2".into()], vec!["2".into(), "file".into()])
    );
    assert_eq!((store.remove_below("c/1").await.unwrap(), store.folders("e").await.unwrap()), (0, vec![]));
}

#[tokio::test]
async fn damage_and_change_are_seen_and_nothing_is_torn() {
    let Rig { top, root, store } = &Rig::new();
    let to = top.path().join("got");
    for bytes in [100, LARGE] {
        for said in [bytes as u64 - 1, bytes as u64 + 1] {
            let refused = store.put_file("f", file(top.path(), bytes).0, said).await;
            assert!(matches!(refused, Err(StoreError::Changed { .. })), "{refused:?}");
        }
    }
    assert_eq!(names(root), [""; 0]);
    let (sent, sha256) = file(top.path(), LARGE);
    store.put_file("f", sent, LARGE as u64).await.unwrap();
    let mut bytes = std::fs::read(root.join("f")).unwrap();
    bytes[LARGE / 2] ^= 1;
    std::fs::write(root.join("f"), &bytes).unwrap();
    let damaged = store.get_file("f", &to, LARGE as u64, sha256).await.unwrap_err();
    assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged:?}");
    std::fs::write(root.join("f"), &bytes[..1_000]).unwrap();
    let damaged = store.get_file("f", &to, LARGE as u64, sha256).await.unwrap_err();
    assert!(damaged.to_string().contains("1000 bytes, not"), "{damaged}");
    let missing = store.get_file("g", &to, 1, sha256).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
    assert_eq!(names(top.path()), ["a store"]);
}

#[tokio::test]
async fn a_directory_that_is_gone_has_lost_nothing_and_is_not_made_anew() {
    let Rig { top, root, store } = &Rig::new();
    store.put_at("d/k", Bytes::from_static(b"1")).await.unwrap();
    let aside = top.path().join("aside");
    std::fs::rename(root, &aside).unwrap();
    let (sent, sha256) = file(top.path(), 10);
    let passing = |error: StoreError| assert!(error.is_passing() && !error.is_lost(), "{error:?}");
    let all_pass = async || {
        passing(store.get_at("d/k").await.unwrap_err());
        passing(store.get_file("d/k", &top.path().join("got"), 1, sha256).await.unwrap_err());
        passing(store.exists_at("d/k").await.unwrap_err());
        passing(store.read_from("d/k", 0).await.unwrap_err());
        passing(store.put_at("d/l", Bytes::new()).await.unwrap_err());
        passing(store.put_file("d/m", sent.try_clone().unwrap(), 10).await.unwrap_err());
        passing(store.list("d").await.unwrap_err());
        passing(store.delete(["d/k".to_owned()]).await.unwrap_err());
        passing(store.check().await.unwrap_err());
    };
    all_pass().await;
    assert!(!root.exists());
    // An empty directory where a disk was mounted.
    std::fs::create_dir(root).unwrap();
    all_pass().await;
    assert_eq!(names(root), [""; 0]);
    std::fs::remove_dir(root).unwrap();
    std::fs::rename(&aside, root).unwrap();
    assert_eq!(store.get_at("d/k").await.unwrap(), Bytes::from_static(b"1"));
}

#[tokio::test]
async fn what_this_machines_disk_refuses_is_no_loss_of_the_object() {
    let Rig { top, root, store } = &Rig::new();
    store.put_at("f", Bytes::from_static(b"12345")).await.unwrap();
    let to = top.path().join("no/such/directory");
    let local = store.get_file("f", &to, 5, digest(&root.join("f"))).await.unwrap_err();
    assert!(matches!(local, StoreError::Local { .. }) && !local.is_lost(), "{local:?}");
}
