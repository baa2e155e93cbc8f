//! AWS.

use super::{Case, assert_goes, assert_stays};
use muster_core::model::notice::{NoticeKind, NoticeSource::Aws};
use muster_worker::notice::Rebalance;
use serde_json::{Value, json};

const ACTION: &str = "spot/instance-action";

#[tokio::test]
async fn an_interruption_is_told_once_and_taken_back() {
    let mut case = Case::new(Aws, |_| {}).await;
    case.nothing_after(ACTION, 2).await;
    case.put("aws/instance-action", json!({"action": "terminate", "in_ms": 120_000}));
    let notice = case.next().await;
    assert_goes(&notice, Aws, 120_000);
    assert_eq!((notice.detail.as_str(), notice.drill), ("spot interruption: terminate", false));
    case.nothing_after(ACTION, 3).await;
    case.delete("aws/instance-action");
    assert_stays(&case.next().await, Aws);
}

#[tokio::test]
async fn the_services_clock_counts() {
    let mut case = Case::new(Aws, |_| {}).await;
    // An hour ahead of ours: by our own clock it would be an hour away.
    case.put("skew", json!(3_600_000));
    case.put("aws/instance-action", json!({"action": "stop", "in_ms": 90_000}));
    assert_goes(&case.next().await, Aws, 90_000);
}

#[tokio::test]
async fn what_is_over_is_now_and_sleep_comes_at_once() {
    let mut case = Case::new(Aws, |_| {}).await;
    case.put("aws/instance-action", json!({"action": "terminate", "in_ms": -60_000}));
    assert_eq!(case.next().await.in_ms, Some(0));
    let mut case = Case::new(Aws, |_| {}).await;
    case.put("aws/instance-action", json!({"action": "hibernate", "in_ms": 120_000}));
    assert_eq!(case.next().await.in_ms, Some(0));
}

#[tokio::test]
async fn only_tokens_are_used_and_renewed() {
    let mut case = Case::new(Aws, |_| {}).await;
    case.put("aws/token-ttl", json!(1));
    case.delete("aws/tokens");
    // Void before their time, then again and again before their end.
    case.after("PUT /latest/api/token 200", 3).await;
    case.delete("aws/token-ttl");
    case.delete("aws/tokens");
    case.put("aws/instance-action", json!({"action": "terminate", "in_ms": 120_000}));
    assert_goes(&case.next().await, Aws, 120_000);
    assert_eq!(case.asked("PUT /latest/api/token 4"), 0);
}

#[tokio::test]
async fn a_recommendation_is_advice_until_the_interruption() {
    let mut case = Case::new(Aws, |_| {}).await;
    case.put("aws/rebalance", Value::Null);
    let advice = case.next().await;
    assert_eq!((advice.source, advice.kind, advice.in_ms), (Aws, NoticeKind::Advice, None));
    case.put("aws/instance-action", json!({"action": "terminate", "in_ms": 120_000}));
    assert_goes(&case.next().await, Aws, 120_000);
    case.delete("aws/instance-action");
    assert_eq!(case.next().await.kind, NoticeKind::Advice);
}

#[tokio::test]
async fn a_recommendation_can_be_ignored() {
    let mut case = Case::new(Aws, |config| config.rebalance = Rebalance::Ignore).await;
    case.put("aws/rebalance", Value::Null);
    case.nothing_after(ACTION, 3).await;
    assert_eq!(case.asked("rebalance"), 0);
}

#[tokio::test]
async fn an_autoscaling_group_that_terminates_says_no_time() {
    let mut case = Case::new(Aws, |_| {}).await;
    case.put("aws/lifecycle", json!("InService"));
    case.nothing_after("target-lifecycle-state 200", 2).await;
    case.put("aws/lifecycle", json!("Terminated"));
    let notice = case.next().await;
    assert_eq!((notice.kind, notice.in_ms), (NoticeKind::Preemption, None));
    case.put("aws/lifecycle", json!("InService"));
    assert_stays(&case.next().await, Aws);
}
