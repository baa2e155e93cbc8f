//! What a network and a store do: busy, slow, cut, damaged, out of date, closed to us, away. Each ends with all of the object or with none
//! of it, and says which.

use crate::server::{Asked, Fault};
use crate::{LARGE, Rig, digest, open};
use bytes::Bytes;
use muster_store::StoreError;
use std::time::Duration;

fn any(_: &Asked) -> bool {
    true
}

fn second_part(asked: &Asked) -> bool {
    asked.is_part(2)
}

fn part(asked: &Asked) -> bool {
    asked.method == "PUT" && asked.target.contains("partNumber=")
}

fn get(asked: &Asked) -> bool {
    asked.method == "GET"
}

fn put(asked: &Asked) -> bool {
    asked.method == "PUT"
}

const BUSY: Fault =
    Fault::Status(503, "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_sent_again_alone_when_the_store_is_busy_or_the_connection_is_cut() {
    let Some(rig) = Rig::new().await else { return };
    for (fault, times) in [(BUSY, 7), (Fault::CutRequest, 2)] {
        let before = rig.server.count(part).1;
        rig.server.plan(second_part, times, fault);
        let (file, sha256) = rig.file(LARGE);
        assert_eq!(rig.store.put_file("f", file, LARGE as u64).await.unwrap(), sha256);
        assert_eq!(rig.server.count(part).1 - before, 3, "no part reached the store twice");
        rig.store.get_file("f", &rig.place("got"), LARGE as u64, sha256).await.unwrap();
        assert_eq!(digest(&rig.place("got")), sha256);
    }
    assert_eq!(rig.server.count(part).0, 6 + 7 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_an_upload_that_fails_or_that_nobody_waits_for() {
    let Some(rig) = Rig::new().await else { return };
    rig.server.plan(
        second_part,
        usize::MAX,
        Fault::Status(400, "<Error><Code>EntityTooLarge</Code></Error>"),
    );
    let (file, _) = rig.file(LARGE);
    let failed = rig.store.put_file("f", file, LARGE as u64).await.unwrap_err();
    assert!(failed.to_string().contains("EntityTooLarge"), "{failed}");
    rig.server.forget_plans();
    rig.server.plan(second_part, usize::MAX, Fault::Hang);
    let (file, _) = rig.file(LARGE);
    let store = rig.store.clone();
    let before = rig.server.count(second_part).0;
    let sending = tokio::spawn(async move { store.put_file("f", file, LARGE as u64).await });
    until(|| rig.server.count(second_part).0 > before).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    while rig.open_uploads().await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!rig.store.exists_at("f").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_goes_on_where_it_was_cut_and_waits_for_the_slow() {
    let Some(rig) = Rig::new().await else { return };
    let (file, sha256) = rig.file(LARGE);
    rig.store.put_file("f", file, LARGE as u64).await.unwrap();
    for fault in [Fault::CutAnswer, Fault::Slow, BUSY] {
        rig.server.plan(get, 3, fault.clone());
        let to = rig.place("got");
        let got = rig.store.get_file("f", &to, LARGE as u64, sha256).await;
        assert!(got.is_ok(), "{fault:?}: {got:?}");
        assert_eq!(digest(&to), sha256, "{fault:?}");
        std::fs::remove_file(to).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_byte_is_never_taken() {
    let Some(rig) = Rig::new().await else { return };
    let (file, sha256) = rig.file(LARGE);
    rig.store.put_file("f", file, LARGE as u64).await.unwrap();
    let to = rig.place("got");

    rig.server.plan(get, 1, Fault::FlipAnswer);
    rig.store.get_file("f", &to, LARGE as u64, sha256).await.unwrap();
    assert_eq!(digest(&to), sha256, "on the way once: asked again");
    std::fs::remove_file(&to).unwrap();

    rig.server.plan(get, usize::MAX, Fault::FlipAnswer);
    let damaged = rig.store.get_file("f", &to, LARGE as u64, sha256).await.unwrap_err();
    assert!(matches!(damaged, StoreError::Damaged { .. }), "{damaged:?}");
    assert_eq!(rig.left_in_dir(), [""; 0]);
    rig.server.forget_plans();

    rig.server.plan(put, 1, Fault::FlipRequest);
    let (file, sha256) = rig.file(1_000);
    rig.store.put_file("g", file, 1_000).await.unwrap();
    let damaged = rig.store.get_file("g", &to, 1_000, sha256).await.unwrap_err();
    assert!(
        matches!(damaged, StoreError::Damaged { .. }),
        "a store that does not check what it gets: {damaged:?}"
    );
    assert_eq!(rig.left_in_dir(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_list_loses_nothing() {
    let Some(rig) = Rig::new().await else { return };
    rig.store.put_at("d/old", Bytes::from_static(b"1")).await.unwrap();
    rig.server.plan(Asked::is_list, 2, Fault::Stale);
    let listed = rig.store.list("d").await.unwrap();
    assert_eq!(listed, [("d/old".to_owned(), 1)]);
    rig.store.delete(["d/old".to_owned()]).await.unwrap();
    rig.store.put_at("d/new", Bytes::from_static(b"2")).await.unwrap();
    let stale = rig.store.list("d").await.unwrap();
    assert_eq!(stale, listed, "the server says what was");
    // What it names may be gone, what is there may not be named: both are asked for themselves.
    assert!(matches!(rig.store.get_at("d/old").await, Err(StoreError::Missing { .. })));
    rig.store.delete(["d/old".to_owned()]).await.unwrap();
    assert_eq!(rig.store.get_at("d/new").await.unwrap(), Bytes::from_static(b"2"));
    assert_eq!(rig.store.list("d").await.unwrap(), [("d/new".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_absent_and_away_are_said_as_such() {
    let Some(rig) = Rig::new().await else { return };
    rig.server.plan(
        any,
        usize::MAX,
        Fault::Status(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
    );
    let denied = rig.store.check().await.unwrap_err();
    assert_eq!(rig.server.asked().len(), 1, "not tried again");
    let said = denied.to_string();
    assert!(
        said.contains("s3://bucket/some/prefix")
            && said.contains("refused")
            && said.contains("Access Denied"),
        "{said}"
    );
    assert!(
        !said.contains("testing-secret")
            && denied.hint().contains("AWS_ACCESS_KEY_ID")
            && !denied.is_passing()
    );
    let (file, sha256) = rig.file(LARGE);
    let refused = rig.store.put_file("f", file, LARGE as u64).await.unwrap_err();
    assert!(matches!(refused, StoreError::Denied { .. }), "{refused:?}");
    let refused = rig.store.get_file("f", &rig.place("got"), 10, sha256).await.unwrap_err();
    assert!(matches!(refused, StoreError::Denied { .. }) && !refused.is_lost(), "{refused:?}");
    rig.server.forget_plans();

    let absent = open(&rig.store.url().replace("//bucket", "//no-such-bucket"));
    let error = absent.check().await.unwrap_err();
    assert!(error.to_string().contains("bucket"), "{error}");
    let error = absent.get_at("k").await.unwrap_err();
    assert!(!error.is_lost(), "an absent bucket has lost nothing: {error:?}");

    rig.server.plan(any, usize::MAX, BUSY);
    let busy = rig.store.put_at("f", Bytes::from_static(b"1")).await.unwrap_err();
    assert!(busy.is_passing() && busy.to_string().contains("SlowDown"), "{busy:?}");
    // A port that was given and is closed again.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = open(&format!("s3://bucket?endpoint=http://{closed}")).get_at("k").await.unwrap_err();
    assert!(away.is_passing() && !away.is_lost() && away.to_string().contains("refused"), "{away:?}");
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
