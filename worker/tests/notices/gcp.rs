//! Google.

use super::{Case, assert_goes, assert_stays};
use muster_core::model::duration::Millis;
use muster_core::model::notice::NoticeSource::Gcp;
use serde_json::json;

const WAITS: &str = "instance/preempted?wait_for_change=true&last_etag=";

#[tokio::test]
async fn a_preemption_is_told_in_the_middle_of_a_wait() {
    let mut case = Case::new(Gcp, |_| {}).await;
    case.nothing_after("instance/preempted 200", 1).await;
    case.put("gcp/preempted", json!(true));
    let notice = case.next().await;
    assert_goes(&notice, Gcp, 30_000);
    assert_eq!(notice.detail, "the machine is being preempted");
    // The same value at the end of a wait is no second notice.
    case.nothing_after(WAITS, 1).await;
    case.put("gcp/preempted", json!(false));
    assert_stays(&case.next().await, Gcp);
    assert_eq!(case.asked(" 403"), 0);
}

#[tokio::test]
async fn a_longer_notice_is_the_operators_word() {
    let mut case = Case::new(Gcp, |config| config.gcp_notice = Millis(120_000)).await;
    case.put("gcp/preempted", json!(true));
    assert_goes(&case.next().await, Gcp, 120_000);
}

#[tokio::test]
async fn maintenance_that_ends_the_machine_is_a_notice_and_a_move_is_none() {
    let mut case = Case::new(Gcp, |_| {}).await;
    case.put("gcp/maintenance-event", json!("MIGRATE_ON_HOST_MAINTENANCE"));
    case.nothing_after("instance/maintenance-event", 2).await;
    case.put("gcp/maintenance-event", json!("TERMINATE_ON_HOST_MAINTENANCE"));
    assert_goes(&case.next().await, Gcp, 60_000);
    // The nearer of two counts, and the other one is left when it goes.
    case.put("gcp/preempted", json!(true));
    assert_goes(&case.next().await, Gcp, 30_000);
    case.put("gcp/preempted", json!(false));
    assert_eq!(case.next().await.detail, "maintenance of the host ends the machine");
    case.delete("gcp/maintenance-event");
    assert_stays(&case.next().await, Gcp);
}
