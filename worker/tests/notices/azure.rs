//! Azure.

use super::{Case, assert_goes, assert_stays};
use muster_core::model::notice::{NoticeKind, NoticeSource::Azure};
use serde_json::json;

const EVENTS: &str = "GET /metadata/scheduledevents?api-version=2020-07-01 200";
const STARTS: &str = "POST /metadata/scheduledevents?api-version=2020-07-01";

#[tokio::test]
async fn an_event_of_this_machine_is_told_and_taken_back() {
    let mut case = Case::new(Azure, |_| {}).await;
    case.put("azure/name", json!("GPU-vm_7"));
    case.put("azure/events/e0", json!({"type": "Preempt", "in_ms": 30_000, "resources": ["gpu-vm_8"]}));
    case.nothing_after(EVENTS, 3).await;
    case.put("azure/events/e1", json!({"type": "Preempt", "in_ms": 30_000, "resources": ["gpu-vm_7"]}));
    let notice = case.next().await;
    assert_goes(&notice, Azure, 30_000);
    assert_eq!(notice.detail, "scheduled event Preempt");
    case.put("azure/events/e1", json!({"type": "Preempt", "resources": ["gpu-vm_7"], "status": "Started"}));
    assert_eq!(case.next().await.in_ms, Some(0));
    case.delete("azure/events/e1");
    assert_stays(&case.next().await, Azure);
    assert_eq!(case.asked(" 400"), 0);
}

#[tokio::test]
async fn each_kind_of_event_has_its_meaning() {
    for kind in ["Terminate", "Redeploy", "Reboot", "Preempt"] {
        let mut case = Case::new(Azure, |_| {}).await;
        case.put("azure/events/e1", json!({"type": kind, "in_ms": 600_000}));
        assert_goes(&case.next().await, Azure, 600_000);
    }
    let mut case = Case::new(Azure, |_| {}).await;
    case.put("azure/events/e1", json!({"type": "Freeze", "in_ms": 900_000}));
    assert_eq!(case.next().await.kind, NoticeKind::Advice);
}

#[tokio::test]
async fn azure_is_told_to_go_ahead_once_nothing_runs() {
    let mut case = Case::new(Azure, |_| {}).await;
    case.put("azure/events/e1", json!({"type": "Preempt", "in_ms": 30_000}));
    assert_goes(&case.next().await, Azure, 30_000);
    // Somebody's too: beginning it would begin it for them.
    case.put("azure/events/e2", json!({"type": "Reboot", "in_ms": 900_000, "resources": ["w1", "w2"]}));
    case.after(EVENTS, 3).await;
    assert_eq!(case.asked(STARTS), 0);
    case.notices.evicted(true);
    case.after(STARTS, 1).await;
    case.after(EVENTS, 3).await;
    assert_eq!(case.emulator.seen("w1")["acknowledged"], json!(["e1"]));
}

#[tokio::test]
async fn azure_waits_for_its_time_where_the_operator_says_so() {
    let mut case = Case::new(Azure, |config| config.azure_acknowledge = false).await;
    case.put("azure/events/e1", json!({"type": "Preempt", "in_ms": 30_000}));
    assert_goes(&case.next().await, Azure, 30_000);
    case.notices.evicted(true);
    case.after(EVENTS, 3).await;
    assert_eq!(case.asked(STARTS), 0);
}

#[tokio::test]
async fn without_a_name_nothing_is_ours() {
    let case = Case::new(Azure, |_| {}).await;
    case.put("fault", json!({"kind": "status", "path": "compute/name"}));
    let mut fresh = muster_worker::notice::Notices::start(
        &muster_worker::notice::NoticeConfig {
            sources: Some(vec![Azure]),
            azure_endpoint: case.emulator.endpoint("w1"),
            ..Default::default()
        },
        "w1",
        super::pace(),
    )
    .unwrap();
    case.put("azure/events/e1", json!({"type": "Preempt", "in_ms": 30_000}));
    case.after("compute/name?api-version=2021-02-01&format=text 500", 3).await;
    assert_eq!(futures::FutureExt::now_or_never(fresh.next()), None);
    case.delete("fault");
    assert_goes(&super::next(&mut fresh).await, Azure, 30_000);
}
