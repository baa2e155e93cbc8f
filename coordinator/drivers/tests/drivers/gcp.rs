//! `gcp-mig` against Compute Engine as its documentation describes it.

use crate::faults::{self, fault, pass};
use muster_cloud_groups::gcp::{self, Gcp, Group as Emulated};
use muster_cloud_groups::serve_json::{Call, Kind, Reply, Server};
use muster_drivers::{Driver, DriverConfig, DriverError, GcpMig, GcpMigConfig, Group, Instance, Phase};
use ring::signature::RsaKeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Made for these tests, and good for nothing else.
const KEY: &str = include_str!("service-account.pem");
const STRANGER: &str = include_str!("stranger.pem");
const EMAIL: &str = "muster@p-1.iam.gserviceaccount.com";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

struct Rig {
    server: Server<Gcp>,
    driver: Arc<GcpMig>,
}

impl Rig {
    /// A zonal group whose `size` machines run.
    async fn new(size: usize) -> Self {
        Self::at("zones/europe-west4-a", size).await
    }

    async fn at(place: &str, size: usize) -> Self {
        let server = Server::start(|_| Gcp::new("p-1")).await.unwrap();
        server.with(|gcp| gcp.add(place, "gpu-spot", size));
        let driver = Arc::new(GcpMig::open(&config(&server, place)).unwrap());
        Self { server, driver }
    }

    fn group<T>(&self, look: impl FnOnce(&mut Emulated) -> T) -> T {
        self.server.with(|gcp| look(gcp.group()))
    }

    /// The number of the machine at `at`.
    fn id(&self, at: usize) -> String {
        self.group(|group| group.machines[at].id.clone())
    }

    /// Calls that change something, since the last time.
    fn changes(&self) -> Vec<Call> {
        let mut calls = self.server.take_calls();
        calls.retain(|call| matches!(call.verb(), "resize" | "deleteInstances"));
        calls
    }

    /// What is being ended, by name.
    fn ending(&self) -> BTreeSet<String> {
        let ending = |group: &mut Emulated| {
            let leaving = group.machines.iter().filter(|machine| machine.action == "DELETING");
            leaving.map(|machine| machine.name.clone()).collect()
        };
        self.group(ending)
    }
}

fn config(server: &Server<Gcp>, place: &str) -> GcpMigConfig {
    let (zone, region) = match place.split_once('/').unwrap() {
        ("zones", zone) => (zone, ""),
        (_, region) => ("", region),
    };
    GcpMigConfig {
        project: "p-1".into(),
        zone: zone.into(),
        region: region.into(),
        group: "gpu-spot".into(),
        endpoint: server.url(),
        token_endpoint: format!(
            "{}/computeMetadata/v1/instance/service-accounts/default/token",
            server.url()
        ),
        credentials_file: String::new(),
    }
}

#[tokio::test]
async fn a_group_is_described_page_by_page() {
    let rig = Rig::new(3).await;
    rig.group(|group| {
        group.page = 2;
        group.machines[1].action = "DELETING".into();
    });
    rig.driver.set_desired(4, 1).await.unwrap();

    let group = rig.driver.describe().await.unwrap().unwrap();

    let instance = |id: String, phase| Instance { id, phase, protected: false, image: Some("gpu-7".into()) };
    let instances = vec![
        instance(rig.id(0), Phase::InService),
        instance(rig.id(1), Phase::Going),
        instance(rig.id(2), Phase::InService),
        instance("gpu-0007".into(), Phase::Booting),
        instance("gpu-0008".into(), Phase::Booting),
    ];
    assert_eq!(group, Group { desired: 4, max: u32::MAX, instances, ..Group::default() });
    let pages = rig.server.calls().into_iter().filter(|call| call.verb() == "listManagedInstances").count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_larger_group_is_asked_for_once() {
    let rig = Rig::new(2).await;
    rig.driver.set_desired(5, 7).await.unwrap();
    let changes = rig.changes();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].verb(), changes[0].parameter("size")), ("resize", Some("5")));

    rig.driver.set_desired(5, 7).await.unwrap();
    rig.driver.set_desired(5, 8).await.unwrap();

    assert_eq!(rig.changes(), []);
    assert_eq!(rig.group(|group| (group.target, group.machines.len())), (5, 5));
}

#[tokio::test]
async fn a_smaller_group_loses_only_machines_that_never_ran() {
    let rig = Rig::new(2).await;
    rig.driver.set_desired(5, 1).await.unwrap();
    // The first of the new ones runs already, the second is nearly there.
    rig.group(|group| {
        group.machines[2].status = Some("RUNNING".into());
        group.machines[3].status = Some("STAGING".into());
    });
    rig.changes();

    rig.driver.set_desired(4, 2).await.unwrap();

    assert_eq!(rig.ending(), BTreeSet::from(["gpu-0007".into()]), "the one that does not exist yet");
    rig.driver.set_desired(3, 3).await.unwrap();
    assert_eq!(rig.ending(), BTreeSet::from(["gpu-0006".into(), "gpu-0007".into()]));
    let verbs: Vec<String> = rig.changes().iter().map(|call| call.verb().to_owned()).collect();
    assert_eq!(verbs, ["deleteInstances", "deleteInstances"]);
    let (target, chosen) = rig.group(|group| (group.target, group.chosen.clone()));
    assert_eq!((target, chosen), (3, Vec::new()));
}

#[tokio::test]
async fn a_running_machine_is_never_ended_to_make_a_group_smaller() {
    let rig = Rig::new(3).await;
    rig.driver.set_desired(4, 1).await.unwrap();
    rig.changes();

    let error = rig.driver.set_desired(2, 2).await.unwrap_err();

    assert!(matches!(error, DriverError::Refused { .. }), "{error}");
    assert_eq!((rig.changes(), rig.ending()), (vec![], BTreeSet::new()), "not even the one that may go");
}

#[tokio::test]
async fn this_very_machine_is_ended_and_once() {
    let rig = Rig::new(3).await;
    let id = rig.id(1);

    rig.driver.terminate(&id, 4).await.unwrap();

    assert_eq!(rig.ending(), BTreeSet::from(["gpu-0002".into()]));
    let changes = rig.changes();
    let body = json!({
        "instances": ["zones/europe-west4-a/instances/gpu-0002"], "skipInstancesOnValidationError": true,
    });
    assert_eq!((changes.len(), &changes[0].body), (1, &body));
    // Again, before and after it is gone, and by another leader.
    rig.driver.terminate(&id, 4).await.unwrap();
    rig.group(Emulated::settle);
    GcpMig::open(&config(&rig.server, "zones/europe-west4-a")).unwrap().terminate(&id, 5).await.unwrap();
    assert_eq!(rig.changes(), []);
    let (target, left, chosen) = rig.group(|group| (group.target, group.machines.len(), group.chosen.len()));
    assert_eq!((target, left, chosen), (2, 2, 0));
}

#[tokio::test]
async fn a_machine_that_took_the_name_of_one_that_is_gone_stays() {
    let rig = Rig::new(2).await;
    let old = rig.id(0);
    rig.group(|group| {
        group.recreate("gpu-0001");
        group.settle();
    });

    rig.driver.terminate(&old, 4).await.unwrap();

    assert_eq!(rig.ending(), BTreeSet::new());
    assert_ne!(rig.id(0), old);
}

#[tokio::test]
async fn a_machine_of_a_regional_group_is_ended_in_its_zone() {
    let rig = Rig::at("regions/europe-west4", 2).await;
    let id = rig.id(1);
    rig.driver.terminate(&id, 4).await.unwrap();
    let changes = rig.changes();
    assert_eq!(changes[0].body["instances"], json!(["zones/europe-west4-b/instances/gpu-0002"]));
    assert_eq!(rig.ending().len(), 1);
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_done_once() {
    let rig = Rig::new(3).await;
    let id = rig.id(0);
    fault(&rig.server, "deleteInstances", Kind::Lost);
    let error = rig.driver.terminate(&id, 4).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    rig.driver.terminate(&id, 4).await.unwrap();
    assert_eq!(rig.group(|group| group.target), 2);
}

#[tokio::test]
async fn a_request_has_the_same_id_until_it_was_accepted() {
    let rig = Rig::new(3).await;
    fault(&rig.server, "resize", Kind::Answer(Reply::new(502, "")));
    rig.driver.set_desired(5, 9).await.unwrap_err();
    let other = GcpMig::open(&config(&rig.server, "zones/europe-west4-a")).unwrap();
    other.set_desired(5, 9).await.unwrap();
    rig.driver.set_desired(5, 9).await.unwrap();
    // Somebody makes the group smaller by hand.
    rig.group(|group| {
        group.machines.truncate(3);
        group.target = 3;
    });
    other.set_desired(5, 9).await.unwrap();

    let changes = rig.changes();
    let ids: Vec<_> = changes.iter().map(|call| call.parameter("requestId").unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
    assert_eq!(rig.group(|group| group.target), 5, "the second request was not taken for the first");
}

#[tokio::test]
async fn an_operation_that_fails_at_once_is_refused() {
    let rig = Rig::new(1).await;
    rig.group(|group| {
        group.operation_error = Some(("QUOTA_EXCEEDED".into(), "Quota 'GPUS' exceeded".into()))
    });
    let error = rig.driver.set_desired(2, 1).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Refused { reason, .. } if reason == "QUOTA_EXCEEDED Quota 'GPUS' exceeded")
    );
}

#[tokio::test]
async fn faults_are_told_apart() {
    let rig = Rig::new(1).await;
    faults::are_told_apart(&rig.server, rig.driver.clone(), "/compute/v1/").await;
    fault(
        &rig.server,
        "/compute/",
        Kind::Answer(gcp::error(403, "rateLimitExceeded", "Rate Limit Exceeded")),
    );
    assert!(matches!(rig.driver.describe().await, Err(DriverError::Throttled { .. })));
}

#[tokio::test]
async fn a_group_that_is_not_there_is_said() {
    let rig = Rig::new(1).await;
    let nowhere = GcpMigConfig { group: "gpu".into(), ..config(&rig.server, "zones/europe-west4-b") };
    let error = GcpMig::open(&nowhere).unwrap().describe().await.unwrap_err();
    assert!(matches!(error, DriverError::NoGroup { .. }), "{error}");
}

#[tokio::test]
async fn who_may_not_is_told_without_the_token() {
    let rig = Rig::new(1).await;
    rig.server.with(|gcp| gcp.tokens.forbidden = true);
    let error = rig.driver.describe().await.unwrap_err();
    faults::shows_no_secret(rig.driver.as_ref(), &error);
}

#[tokio::test]
async fn a_token_is_kept_renewed_before_its_end_and_when_it_is_revoked() {
    let rig = Rig::new(1).await;
    let given = || rig.server.with(|gcp| gcp.tokens.given);
    rig.driver.describe().await.unwrap();
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 1);
    // A minute and a half, then half a minute before its end.
    pass(Duration::from_secs(3599 - 90)).await;
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 1);
    pass(Duration::from_secs(60)).await;
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 2);
    rig.server.with(|gcp| gcp.tokens.revoke());
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 3);
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_said() {
    let rig = Rig::new(1).await;
    fault(&rig.server, "/computeMetadata/", Kind::Answer(Reply::new(503, "")));
    assert!(matches!(rig.driver.describe().await, Err(DriverError::Unavailable { .. })));
    fault(&rig.server, "/computeMetadata/", Kind::Answer(Reply::new(404, "")));
    assert!(matches!(rig.driver.describe().await, Err(DriverError::Denied { .. })));
    fault(&rig.server, "/computeMetadata/", Kind::Junk);
    assert!(matches!(rig.driver.describe().await, Err(DriverError::Garbled { .. })));
    rig.driver.describe().await.unwrap();
}

#[tokio::test]
async fn a_service_account_signs_for_its_tokens() {
    let rig = Rig::new(1).await;
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    rig.server.with(|gcp| gcp.tokens.trust(EMAIL, TOKEN_URI, pair.public().as_ref()));
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, text: String| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let config = GcpMigConfig {
            token_endpoint: format!("{}/oauth2/token", rig.server.url()),
            credentials_file: file.to_str().unwrap().to_owned(),
            ..config(&rig.server, "zones/europe-west4-a")
        };
        GcpMig::open(&config)
    };
    let key = |pem: &str| {
        json!({
            "type": "service_account", "project_id": "p-1", "private_key_id": "1f", "private_key": pem,
            "client_email": EMAIL, "client_id": "1", "token_uri": TOKEN_URI,
        })
        .to_string()
    };

    let driver = open("good.json", key(KEY)).unwrap();
    driver.describe().await.unwrap();
    assert_eq!(rig.server.with(|gcp| gcp.tokens.given), 1);

    let stranger = open("stranger.json", key(STRANGER)).unwrap();
    let error = stranger.describe().await.unwrap_err();
    assert!(
        matches!(&error, DriverError::Denied { reason, .. } if reason.contains("invalid_grant")),
        "{error}"
    );
    assert!(error.to_string().contains("(hidden)") && !error.to_string().contains("eyJ"), "{error}");

    for (name, text) in [
        ("cut.json", key(&KEY[..400])),
        ("user.json", key(KEY).replace("service_account", "authorized_user")),
        ("none.json", "{}".to_owned()),
    ] {
        let error = open(name, text).unwrap_err();
        assert!(matches!(error, DriverError::Denied { .. }), "{error}");
        assert!(error.to_string().contains(name) && !error.to_string().contains("PRIVATE"), "{error}");
    }
    let missing = GcpMigConfig {
        credentials_file: dir.path().join("missing.json").to_str().unwrap().to_owned(),
        ..config(&rig.server, "zones/europe-west4-a")
    };
    assert!(matches!(GcpMig::open(&missing), Err(DriverError::Denied { .. })));
}

#[test]
fn a_pool_names_its_group() {
    let text = json!({ "kind": "gcp-mig", "project": "p", "region": "r", "group": "g" });
    let config: DriverConfig = serde_json::from_value(text).unwrap();
    assert_eq!(config.group_key().as_deref(), Some("gcp-mig p/r/g"));
    assert_eq!(muster_drivers::open(&config, "pool").unwrap().unwrap().kind(), "gcp-mig");
    let unknown = json!({ "kind": "gcp-mig", "project": "p", "zone": "z", "group": "g", "groups": 1 });
    serde_json::from_value::<DriverConfig>(unknown).unwrap_err();
}
