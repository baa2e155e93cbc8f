//! `aws-asg` against our emulator: what moto lacks, and what goes wrong.

use crate::Key;
use muster_cloud_groups::Emulator;
use muster_drivers::{Driver, DriverError, Group, Phase};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A cloud with a group `gpu`, and a driver for it.
struct Rig {
    cloud: Emulator,
    asg: Arc<dyn Driver>,
    key: Key,
}

impl Rig {
    /// Machines are in service at once where `group` does not say otherwise.
    async fn new(group: Value) -> Self {
        let cloud = Emulator::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        cloud.put("asg/key", &json!({"id": ID, "secret": SECRET})).unwrap();
        cloud.put("asg/groups/gpu", &json!({"max": 200, "boots": "at_once", "template": "lt-1:3"})).unwrap();
        cloud.put("asg/groups/gpu", &group).unwrap();
        let key = Key::new(ID, SECRET);
        let asg = key.asg(&cloud.endpoint(), "");
        Self { cloud, asg, key }
    }

    async fn group(&self) -> Group {
        self.asg.describe().await.unwrap().unwrap()
    }

    async fn ids(&self) -> Vec<String> {
        self.group().await.instances.into_iter().map(|machine| machine.id).collect()
    }

    async fn phases(&self) -> Vec<Phase> {
        self.group().await.instances.iter().map(|machine| machine.phase).collect()
    }

    fn fault(&self, fault: Value) {
        self.cloud.put("faults", &fault).unwrap();
    }

    /// Calls by this name.
    fn called(&self, action: &str) -> usize {
        self.cloud.calls().iter().filter(|call| call.action == action).count()
    }
}

#[tokio::test]
async fn a_machine_is_held_until_its_checkpoint_is_in_and_then_let_go() {
    let rig = Rig::new(json!({"desired": 2, "hooks": {"muster": 60, "logs": 60}, "linger": true})).await;
    let ids = rig.ids().await;
    rig.asg.terminate(&ids[0], 1).await.unwrap();
    assert_eq!(rig.phases().await, [Phase::Held, Phase::InService]);
    // A new leader says it again.
    rig.asg.terminate(&ids[0], 2).await.unwrap();
    assert_eq!(rig.group().await.desired, 1);
    assert_eq!(rig.called("TerminateInstanceInAutoScalingGroup"), 1);
    for _ in 0..3 {
        rig.cloud.put("passed", &json!(50)).unwrap();
        rig.asg.hold(&ids[0]).await.unwrap();
    }
    assert_eq!(rig.phases().await, [Phase::Held, Phase::InService]);
    rig.asg.release(&ids[0]).await.unwrap();
    assert_eq!(rig.phases().await, [Phase::Going, Phase::InService]);
    // Late calls, for one that goes, one that stays and one that nobody knows.
    for id in [&ids[0], &ids[1], &"i-0".to_owned()] {
        rig.asg.hold(id).await.unwrap();
        rig.asg.release(id).await.unwrap();
    }
    assert_eq!(rig.phases().await, [Phase::Going, Phase::InService]);
}

#[tokio::test]
async fn without_a_heartbeat_aws_goes_on_by_itself() {
    let rig = Rig::new(json!({"desired": 1, "hooks": {"muster": 60}})).await;
    let ids = rig.ids().await;
    rig.cloud.put(&format!("asg/reclaim/{}", ids[0]), &Value::Null).unwrap();
    // Another one is started in its place, and nothing was asked for.
    let phases = rig.phases().await;
    assert_eq!(
        (phases.as_slice(), rig.group().await.desired),
        ([Phase::Held, Phase::InService].as_slice(), 1)
    );
    rig.cloud.put("passed", &json!(61)).unwrap();
    assert_eq!(rig.phases().await, [Phase::InService]);
}

#[tokio::test]
async fn only_the_hook_that_is_ours_is_completed_where_it_is_named() {
    let rig = Rig::new(json!({"desired": 1, "hooks": {"muster": 60, "logs": 600}})).await;
    let asg = rig.key.asg(&rig.cloud.endpoint(), "muster");
    let ids = rig.ids().await;
    asg.terminate(&ids[0], 1).await.unwrap();
    asg.release(&ids[0]).await.unwrap();
    assert_eq!(rig.phases().await, [Phase::Held], "the other one is not ours");
    rig.cloud.put("passed", &json!(600)).unwrap();
    assert!(rig.phases().await.is_empty());
    assert_eq!(rig.called("DescribeLifecycleHooks"), 0);
    // A name that is wrong is heard of.
    let wrong = rig.key.asg(&rig.cloud.endpoint(), "mustard");
    let error = wrong.hold("i-0").await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused { reason, .. } if reason.contains("mustard")), "{error}");
}

#[tokio::test]
async fn fewer_machines_never_means_one_in_service() {
    let rig = Rig::new(json!({"desired": 3, "boots": "when_told"})).await;
    let ids = rig.ids().await;
    rig.cloud.put("asg/in-service", &json!([ids[0]])).unwrap();
    assert_eq!(rig.phases().await, [Phase::InService, Phase::Booting, Phase::Booting]);
    // The emulator would take the one in service first.
    rig.asg.set_desired(1, 1).await.unwrap();
    let group = rig.group().await;
    assert_eq!((group.desired, group.instances.len(), &group.instances[0].id), (1, 1, &ids[0]));
    assert!(group.instances[0].protected);
    let error = rig.asg.set_desired(0, 2).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason.contains("1 machines are in")),
        "{error}"
    );
    assert_eq!(rig.called("SetDesiredCapacity"), 1);
    // Protection does not keep one that is named.
    rig.asg.terminate(&ids[0], 3).await.unwrap();
    assert_eq!((rig.group().await.desired, rig.ids().await.len()), (0, 0));
}

#[tokio::test]
async fn a_number_that_is_set_already_is_not_set_again() {
    let rig = Rig::new(json!({"desired": 2})).await;
    rig.asg.set_desired(2, 1).await.unwrap();
    assert_eq!(rig.called("SetDesiredCapacity"), 0);
    // Somebody has changed it by hand.
    rig.cloud.put("asg/groups/gpu", &json!({"desired": 1})).unwrap();
    rig.asg.set_desired(2, 1).await.unwrap();
    assert_eq!((rig.called("SetDesiredCapacity"), rig.ids().await.len()), (1, 2));
}

#[tokio::test]
async fn bounds_of_the_group_are_said_in_its_own_words() {
    let rig = Rig::new(json!({"min": 1, "max": 4, "desired": 1})).await;
    let error = rig.asg.set_desired(5, 1).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason.contains("above max value 4")),
        "{error}"
    );
    let ids = rig.ids().await;
    let error = rig.asg.terminate(&ids[0], 2).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason.contains("minSize (1)")),
        "{error}"
    );
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_machine_of_another_group_is_not_ours_to_end() {
    let rig = Rig::new(json!({"desired": 1})).await;
    let other = json!({"max": 1, "desired": 1, "boots": "at_once"});
    rig.cloud.put("asg/groups/database", &other).unwrap();
    let seen = rig.cloud.seen();
    let (id, _) = seen["asg"]["database"]["instances"].as_object().unwrap().iter().next().unwrap();
    let error = rig.asg.terminate(id, 1).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused { reason, .. } if reason.contains("database")), "{error}");
    assert_eq!(rig.called("TerminateInstanceInAutoScalingGroup"), 0);
}

#[tokio::test]
async fn a_machine_that_vanished_is_no_error() {
    let rig = Rig::new(json!({"desired": 2, "hooks": {"muster": 60}})).await;
    let ids = rig.ids().await;
    rig.cloud.delete(&format!("asg/instances/{}", ids[0])).unwrap();
    rig.asg.terminate(&ids[0], 1).await.unwrap();
    rig.asg.hold(&ids[0]).await.unwrap();
    rig.asg.release(&ids[0]).await.unwrap();
    rig.asg.protect(&ids, true).await.unwrap();
    let group = rig.group().await;
    // The one that AWS started in its place is not among those that were named.
    assert_eq!(group.desired, 2);
    assert_eq!(group.instances.iter().map(|i| i.protected).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn protection_goes_in_batches_and_only_where_it_is_due() {
    let rig = Rig::new(json!({"desired": 120})).await;
    let ids = rig.ids().await;
    rig.asg.protect(&ids, true).await.unwrap();
    assert!(rig.group().await.instances.iter().all(|machine| machine.protected));
    assert_eq!(rig.called("SetInstanceProtection"), 3);
    rig.asg.protect(&ids, true).await.unwrap();
    assert_eq!(rig.called("SetInstanceProtection"), 3);
    rig.asg.protect(&ids[..1], false).await.unwrap();
    assert_eq!(rig.group().await.instances.iter().filter(|machine| !machine.protected).count(), 1);
}

#[tokio::test]
async fn an_empty_page_is_not_the_end() {
    let rig = Rig::new(json!({"desired": 1, "tags": {"muster:label:class": "a<100>", "owner": "x"}})).await;
    rig.cloud.put("asg/empty-pages", &json!(2)).unwrap();
    let group = rig.group().await;
    assert_eq!(rig.called("DescribeAutoScalingGroups"), 3);
    assert_eq!(group.labels, [("class".to_owned(), "a<100>".to_owned())].into());
    assert_eq!(group.instances[0].image.as_deref(), Some("lt-1:3"));
    rig.cloud.put("asg/empty-pages", &json!(1000)).unwrap();
    assert!(matches!(rig.asg.describe().await, Err(DriverError::Garbled { .. })));
}

#[tokio::test]
async fn what_goes_wrong_at_the_other_end_is_told_apart() {
    let rig = Rig::new(json!({"desired": 1})).await;
    let once = |mut fault: Value| {
        fault["times"] = json!(1);
        rig.fault(fault);
    };
    once(json!({"kind": "throttle"}));
    assert!(matches!(rig.asg.describe().await, Err(DriverError::Throttled { after: None, .. })));
    once(json!({"kind": "throttle", "after_s": 7}));
    let seven = Some(Duration::from_secs(7));
    assert!(matches!(rig.asg.describe().await, Err(DriverError::Throttled { after, .. }) if after == seven));
    for fault in [
        json!({"kind": "error", "status": 500, "code": "InternalFailure", "message": "oh"}),
        json!({"kind": "error", "status": 500, "code": "ResourceContention"}),
        json!({"kind": "html", "status": 502}),
        json!({"kind": "lost"}),
    ] {
        once(fault.clone());
        let error = rig.asg.describe().await.unwrap_err();
        assert!(matches!(error, DriverError::Unavailable { .. }) && error.is_transient(), "{fault}: {error}");
    }
    for fault in [json!({"kind": "junk"}), json!({"kind": "html", "status": 404})] {
        once(fault.clone());
        let error = rig.asg.describe().await.unwrap_err();
        assert!(matches!(error, DriverError::Garbled { .. }), "{fault}: {error}");
    }
    once(json!({"kind": "error", "status": 400, "code": "ScalingActivityInProgress", "message": "busy"}));
    assert!(matches!(rig.asg.describe().await, Err(DriverError::Refused { reason, .. }) if reason == "busy"));
    once(json!({"kind": "error", "status": 403, "code": "RequestTimeTooSkewed"}));
    let error = rig.asg.describe().await.unwrap_err();
    assert!(matches!(&error, DriverError::Denied { reason, .. } if reason.contains("clock")), "{error}");
    once(
        json!({"kind": "error", "status": 403, "code": "AccessDenied", "message": "User: u is not authorized"}),
    );
    let error = rig.asg.describe().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Denied { reason, .. } if reason.contains("not authorized")),
        "{error}"
    );
    // The client does not try again by itself, and lives on.
    assert_eq!(rig.called("DescribeAutoScalingGroups"), 11);
    assert_eq!(rig.group().await.desired, 1);
}

#[tokio::test]
async fn an_answer_that_was_lost_ends_no_second_machine() {
    let rig = Rig::new(json!({"desired": 3, "hooks": {"muster": 60}})).await;
    let ids = rig.ids().await;
    rig.fault(json!({"kind": "lost", "action": "TerminateInstance", "times": 1}));
    assert!(matches!(rig.asg.terminate(&ids[0], 1).await, Err(DriverError::Unavailable { .. })));
    rig.asg.terminate(&ids[0], 1).await.unwrap();
    assert_eq!(rig.group().await.desired, 2);
    assert_eq!(rig.phases().await, [Phase::Held, Phase::InService, Phase::InService]);
}

#[tokio::test]
async fn no_answer_is_given_up() {
    let rig = Rig::new(json!({"desired": 1})).await;
    rig.fault(json!({"kind": "hang"}));
    let asg = crate::driver(json!({
        "kind": "aws-asg", "group": "gpu", "region": "eu-west-1", "endpoint": rig.cloud.endpoint(), "timeout": "1s",
        "credentials_file": rig.key.file.path(),
    }));
    assert!(matches!(asg.describe().await, Err(DriverError::TimedOut { seconds: 1, .. })));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let key = Key::new(ID, SECRET);
    let error = key.asg(&format!("http://{address}"), "").describe().await.unwrap_err();
    assert!(matches!(error, DriverError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_is_refused_is_named_nowhere_and_read_again() {
    let mut rig = Rig::new(json!({"desired": 1})).await;
    let new = "AKIDROTATED";
    rig.cloud.put("asg/key", &json!({"id": new, "secret": SECRET})).unwrap();
    let unknown = rig.asg.describe().await.unwrap_err();
    // Another secret for the same key: AWS answers with all that was signed.
    rig.cloud.put("asg/key", &json!({"id": ID, "secret": "another"})).unwrap();
    let mismatch = rig.asg.describe().await.unwrap_err();
    for error in [unknown, mismatch] {
        let said = format!("{error} {error:?} {} {:?}", error.hint(), rig.asg);
        assert!(matches!(error, DriverError::Denied { .. }), "{error}");
        assert!(!said.contains(ID) && !said.contains(SECRET) && !said.contains("Canonical"), "{said}");
    }
    // An administrator puts the new key into the file.
    rig.cloud.put("asg/key", &json!({"id": new, "secret": "another"})).unwrap();
    rig.key.id = new.into();
    rig.key.secret = "another".into();
    rig.key.write();
    assert_eq!(rig.group().await.desired, 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_had_is_said_so_without_what_is_in_its_file() {
    let rig = Rig::new(json!({"desired": 1})).await;
    for text in [
        String::new(),
        format!("[other]\naws_access_key_id = {ID}\naws_secret_access_key = {SECRET}\n"),
        format!("[default]\naws_access_key_id = {ID}\n"),
        format!("[default]\n{ID} {SECRET}\n"),
    ] {
        std::fs::write(rig.key.file.path(), &text).unwrap();
        let error = rig.asg.describe().await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(matches!(error, DriverError::Denied { .. }) && !error.is_transient(), "{text:?}: {error}");
        assert!(!said.contains(ID) && !said.contains(SECRET), "{text:?}: {said}");
        assert_eq!(rig.cloud.calls(), []);
    }
    let missing = json!({"kind": "aws-asg", "group": "gpu", "region": "eu-west-1", "credentials_file": "/no/such/file"});
    let error = muster_drivers::open(&serde_json::from_value(missing).unwrap(), "gpu").unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}
