//! The sources of preemption notices against what they ask, over real sockets: emulated metadata services, a file, a private bus with
//! a logind of its own. Nothing here ever met a real cloud.

#![allow(clippy::print_stderr)] // a test that is skipped says why

mod aws;
mod azure;
mod faults;
mod file;
mod gcp;
mod systemd;
mod which;

use futures::FutureExt;
use muster_cloud_metadata::Emulator;
use muster_core::model::notice::{Notice, NoticeKind, NoticeSource};
use muster_worker::notice::{NoticeConfig, Notices, Pace};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// For whatever has to happen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fast, so that a test need not wait.
fn pace() -> Pace {
    Pace {
        answer: Duration::from_millis(500),
        aws: Duration::from_millis(20),
        gcp: Duration::from_millis(20),
        gcp_hang: Duration::from_secs(2),
        azure: Duration::from_millis(20),
        azure_first: Duration::from_millis(500),
        file: Duration::from_millis(10),
        systemd: Duration::from_millis(50),
    }
}

/// One machine of a cloud, `w1`, and its worker's sources.
struct Case {
    emulator: Emulator,
    notices: Notices,
}

impl Case {
    async fn new(source: NoticeSource, change: impl FnOnce(&mut NoticeConfig)) -> Self {
        let emulator = Emulator::start(([127, 0, 0, 1], 0).into()).await.expect("a port");
        let endpoint = emulator.endpoint("{worker}");
        let mut config = NoticeConfig {
            sources: Some(vec![source]),
            aws_endpoint: endpoint.clone(),
            gcp_endpoint: endpoint.clone(),
            azure_endpoint: endpoint,
            ..NoticeConfig::default()
        };
        change(&mut config);
        let notices = Notices::start(&config, "w1", pace()).expect("a sound configuration");
        Self { emulator, notices }
    }

    fn put(&self, what: &str, body: Value) {
        self.emulator.put("w1", what, &body).expect("something that can be set");
    }

    fn delete(&self, what: &str) {
        self.emulator.delete("w1", what).expect("something that can be taken back");
    }

    async fn next(&mut self) -> Notice {
        next(&mut self.notices).await
    }

    /// How many requests had this in their line, as `GET /path?query 200`.
    fn asked(&self, what: &str) -> usize {
        let seen = self.emulator.seen("w1");
        let lines = seen["requests"].as_array().expect("a list").iter().map(|request| {
            let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("method"), text("path"), request["status"])
        });
        lines.filter(|line| line.contains(what)).count()
    }

    /// Waits for `more` requests like this.
    async fn after(&self, what: &str, more: usize) {
        let enough = self.asked(what) + more;
        let asked = async {
            while self.asked(what) < enough {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = || self.emulator.seen("w1");
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("no more {what:?}: {}", seen()));
    }

    /// Nothing is told although it was asked about: it looked `more` times and said nothing.
    async fn nothing_after(&mut self, what: &str, more: usize) {
        self.after(what, more).await;
        assert_eq!(self.notices.next().now_or_never(), None);
    }
}

async fn next(notices: &mut Notices) -> Notice {
    timeout(PATIENCE, notices.next()).await.expect("a notice")
}

/// Kind and whether the time left is at most `ms`, and not far below: a busy machine may read it some seconds late.
#[track_caller]
fn assert_goes(notice: &Notice, source: NoticeSource, ms: u64) {
    assert_eq!((notice.source, notice.kind), (source, NoticeKind::Preemption), "{notice:?}");
    let left = notice.in_ms.expect("a known time");
    assert!(left <= ms && left + 25_000 > ms, "{notice:?} for {ms} ms");
}

#[track_caller]
fn assert_stays(notice: &Notice, source: NoticeSource) {
    assert_eq!((notice.source, notice.kind, notice.in_ms), (source, NoticeKind::Withdrawn, None));
}
