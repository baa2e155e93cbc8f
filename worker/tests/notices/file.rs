//! A file.

use super::{PATIENCE, assert_goes, assert_stays, next, pace};
use muster_core::model::notice::{NoticeKind, NoticeSource::File};
use muster_worker::notice::{NoticeConfig, Notices};
use std::path::Path;

fn start(dir: &Path) -> Notices {
    let file = Some(dir.join("{worker}.notice"));
    Notices::start(&NoticeConfig { sources: Some(vec![File]), file, ..NoticeConfig::default() }, "w1", pace())
        .unwrap()
}

#[tokio::test]
async fn it_appears_changes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut notices = start(dir.path());
    // Another worker's.
    std::fs::write(dir.path().join("w2.notice"), "").unwrap();
    let file = dir.path().join("w1.notice");
    std::fs::write(&file, "").unwrap();
    let notice = next(&mut notices).await;
    assert_eq!((notice.source, notice.kind, notice.in_ms), (File, NoticeKind::Preemption, None));
    let new = dir.path().join("new");
    std::fs::write(&new, r#"{"in": "40s", "detail": "rack 7 goes down", "drill": true}"#).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let notice = next(&mut notices).await;
    assert_goes(&notice, File, 40_000);
    assert_eq!((notice.detail.as_str(), notice.drill), ("rack 7 goes down", true));
    std::fs::write(&new, r#"{"kind": "advice"}"#).unwrap();
    std::fs::rename(&new, &file).unwrap();
    assert_eq!(next(&mut notices).await.kind, NoticeKind::Advice);
    std::fs::remove_file(&file).unwrap();
    assert_stays(&next(&mut notices).await, File);
}

#[tokio::test]
async fn one_that_is_there_at_the_start_counts() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w1.notice"), r#"{"in": "40s"}"#).unwrap();
    assert_goes(&next(&mut start(dir.path())).await, File, 40_000);
}

#[tokio::test]
async fn one_that_cannot_be_read_still_says_that_the_machine_goes() {
    for contents in ["in 30 seconds", "{\"in\": 30}", "\0\0\0", "{\"in\": \"30s\""] {
        let dir = tempfile::tempdir().unwrap();
        let mut notices = start(dir.path());
        std::fs::write(dir.path().join("w1.notice"), contents).unwrap();
        let notice = next(&mut notices).await;
        assert_eq!((notice.kind, notice.in_ms), (NoticeKind::Preemption, None), "{contents:?}");
    }
}

#[tokio::test]
async fn what_is_no_file_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w1.notice");
    // Reading a fifo would wait for its writer.
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut notices = start(dir.path());
    let early = tokio::time::timeout(20 * pace().file, notices.next()).await;
    assert!(early.is_err(), "{early:?}");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    let notice = tokio::time::timeout(PATIENCE, notices.next()).await.unwrap();
    assert_eq!(notice.kind, NoticeKind::Preemption);
}
