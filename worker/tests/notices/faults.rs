//! What a source hears that is no answer: it survives, says nothing for it, takes nothing back for it, and is there when the service is.

use super::{Case, assert_goes, next, pace};
use futures::FutureExt;
use muster_core::model::notice::NoticeSource::{self, Aws, Azure, Gcp};
use muster_worker::notice::{NoticeConfig, Notices};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Duration, sleep, timeout};

/// A source, what a notice is to its service, the time left, and a request that it makes.
fn clouds() -> [(NoticeSource, &'static str, Value, u64, &'static str); 3] {
    [
        (Aws, "aws/instance-action", json!({"action": "stop", "in_ms": 120_000}), 120_000, "/latest/"),
        (Gcp, "gcp/preempted", json!(true), 30_000, "/computeMetadata/v1/instance/preempted"),
        (
            Azure,
            "azure/events/e1",
            json!({"type": "Preempt", "in_ms": 60_000}),
            60_000,
            "/metadata/scheduledevents",
        ),
    ]
}

fn faults() -> [Value; 10] {
    [
        json!({"kind": "status", "status": 500}),
        json!({"kind": "status", "status": 503}),
        json!({"kind": "status", "status": 429}),
        json!({"kind": "status", "status": 301}),
        json!({"kind": "status", "status": 403}),
        json!({"kind": "junk"}),
        json!({"kind": "large"}),
        json!({"kind": "slow"}),
        json!({"kind": "cut"}),
        json!({"kind": "hang"}),
    ]
}

#[tokio::test]
async fn a_service_that_is_broken_is_asked_until_it_is_well() {
    for (source, what, body, ms, path) in clouds() {
        for fault in faults() {
            let mut case = Case::new(source, |_| {}).await;
            case.put("fault", fault.clone());
            case.put(what, body.clone());
            case.after(path, 1).await;
            assert_eq!(case.notices.next().now_or_never(), None, "{source:?} {fault}");
            case.delete("fault");
            assert_goes(&case.next().await, source, ms);
        }
    }
}

#[tokio::test]
async fn what_was_told_stands_while_the_service_is_broken() {
    for (source, what, body, ms, path) in clouds() {
        for fault in faults() {
            let mut case = Case::new(source, |_| {}).await;
            case.put(what, body.clone());
            assert_goes(&case.next().await, source, ms);
            case.put("fault", fault.clone());
            case.after(path, 1).await;
            assert_eq!(case.notices.next().now_or_never(), None, "{source:?} {fault}");
            case.delete("fault");
            // It is well again and says the same.
            case.nothing_after(path, 1).await;
        }
    }
}

#[tokio::test]
async fn a_lost_token_is_asked_for_again() {
    let mut case = Case::new(Aws, |_| {}).await;
    case.put("fault", json!({"kind": "hang", "path": "/latest/api/token"}));
    case.delete("aws/tokens");
    case.put("aws/instance-action", json!({"action": "stop", "in_ms": 120_000}));
    case.after("/latest/api/token", 2).await;
    case.delete("fault");
    assert_goes(&case.next().await, Aws, 120_000);
}

/// A server that answers every connection with these bytes and ends it.
async fn raw(bytes: &'static [u8]) -> (String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let served = count.clone();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
            served.fetch_add(1, Ordering::Relaxed);
        }
    });
    (format!("http://{address}"), count, server)
}

fn start(source: NoticeSource, endpoint: &str) -> Notices {
    let endpoint = endpoint.to_owned();
    let config = NoticeConfig {
        sources: Some(vec![source]),
        aws_endpoint: endpoint.clone(),
        gcp_endpoint: endpoint.clone(),
        azure_endpoint: endpoint,
        ..NoticeConfig::default()
    };
    Notices::start(&config, "w1", pace()).unwrap()
}

#[tokio::test]
async fn what_is_no_metadata_service_is_not_believed() {
    let answers: [&[u8]; 6] = [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n",
        // Somebody's portal says yes to everything, and is no metadata server.
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nTRUE",
        b"HTTP/1.1 302 Found\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n",
    ];
    for source in [Aws, Gcp, Azure] {
        for bytes in answers {
            let (endpoint, count, server) = raw(bytes).await;
            let mut notices = start(source, &endpoint);
            let asked = async {
                while count.load(Ordering::Relaxed) < 6 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(super::PATIENCE, asked).await.unwrap();
            assert_eq!(notices.next().now_or_never(), None, "{source:?} {}", String::from_utf8_lossy(bytes));
            server.abort();
        }
    }
}

#[tokio::test]
async fn a_service_that_comes_late_is_found() {
    for (source, what, body, ms, _) in clouds() {
        // A port where nobody listens yet.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut notices = start(source, &format!("http://{address}/{{worker}}"));
        let early = timeout(5 * pace().aws, notices.next()).await;
        assert!(early.is_err(), "{early:?}");
        let emulator = muster_cloud_metadata::Emulator::start(address).await.unwrap();
        emulator.put("w1", what, &body).unwrap();
        assert_goes(&next(&mut notices).await, source, ms);
    }
}
