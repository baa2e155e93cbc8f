//! Every call against an S3-compatible server that behaves.

use crate::{LARGE, Rig, digest, open};
use bytes::Bytes;
use muster_core::model::blob::BlobId;
use muster_store::StoreError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_is_got_listed_and_deleted() {
    let Some(rig) = Rig::new().await else { return };
    let store = &rig.store;
    store.check().await.unwrap();

    let id = store.put(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!((id, store.get(id).await.unwrap()), (BlobId::of(b"hello"), Bytes::from_static(b"hello")));
    assert!(!store.exists(BlobId::of(b"other")).await.unwrap());
    assert_eq!(store.read_from(&id.store_key(), 2).await.unwrap(), Some(Bytes::from_static(b"llo")));
    assert_eq!(store.read_from("no", 0).await.unwrap(), None);
    assert!(matches!(store.get_at("no").await, Err(StoreError::Missing { key }) if key == "no"));

    for (key, bytes) in [("c/none", 0), ("c/a b#1%2+é", 5), ("c/large", LARGE)] {
        let (file, sha256) = rig.file(bytes);
        assert_eq!(store.put_file(key, file, bytes as u64).await.unwrap(), sha256, "{key}");
        let to = rig.place("got");
        store.get_file(key, &to, bytes as u64, sha256).await.unwrap();
        assert_eq!(digest(&to), sha256, "{key}");
    }
    let parts = rig.server.asked().iter().filter(|asked| asked.target.contains("partNumber=")).count();
    assert_eq!((parts, rig.open_uploads().await), (3, 0));

    let listed = store.list("c").await.unwrap();
    let all = [("c/a b#1%2+é", 5), ("c/large", LARGE as u64), ("c/none", 0)];
    assert_eq!(listed, all.map(|(key, size)| (key.to_owned(), size)));
    assert_eq!(open(&store.url().replace("/prefix", "/other")).list("").await.unwrap(), []);
    assert_eq!(store.folders("").await.unwrap(), ["blobs", "c"]);
    let keys = listed.into_iter().map(|(key, _)| key).chain(["c/was-never-there".to_owned()]);
    store.delete(keys).await.unwrap();
    assert_eq!(store.list("c").await.unwrap(), []);
    assert_eq!((store.remove_below("blobs").await.unwrap(), store.list("").await.unwrap()), (1, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_it_was_said_to_be_is_refused() {
    let Some(rig) = Rig::new().await else { return };
    let store = &rig.store;
    for bytes in [100, LARGE] {
        for said in [bytes as u64 - 1, bytes as u64 + 1] {
            let (file, _) = rig.file(bytes);
            let refused = store.put_file("f", file, said).await;
            assert!(matches!(refused, Err(StoreError::Changed { .. })), "{refused:?}");
        }
        assert!(!store.exists_at("f").await.unwrap(), "nothing under its name");
    }
    let (file, sha256) = rig.file(100);
    store.put_file("f", file, 100).await.unwrap();
    let to = rig.place("got");
    std::fs::write(&to, "before").unwrap();
    for (key, size, sha256) in
        [("f", 99, sha256), ("f", 101, sha256), ("f", LARGE as u64, sha256), ("f", 100, Default::default())]
    {
        let refused = store.get_file(key, &to, size, sha256).await.unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }) && refused.is_lost(), "{size}: {refused:?}");
    }
    let missing = store.get_file("g", &to, 100, sha256).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing:?}");
    assert_eq!(rig.left_in_dir(), ["got"]);
    assert_eq!(std::fs::read(&to).unwrap(), b"before");
}
