//! `azure-vmss` against the Azure Resource Manager as its documentation describes it.

use crate::faults::{self, fault, pass};
use muster_cloud_groups::azure::{self, Azure, Machine, ScaleSet};
use muster_cloud_groups::serve_json::{Call, Kind, Reply, Server};
use muster_drivers::{AzureVmss, AzureVmssConfig, Driver, DriverConfig, DriverError, Group, Instance, Phase};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

struct Rig {
    server: Server<Azure>,
    driver: Arc<AzureVmss>,
}

impl Rig {
    /// A scale set whose `size` machines run.
    async fn new(size: usize) -> Self {
        let server = Server::start(|url| Azure::new(url, "s-1", "Research", "gpu", size)).await.unwrap();
        let driver = Arc::new(AzureVmss::open(&config(&server), &|_| None).unwrap());
        Self { server, driver }
    }

    fn set<T>(&self, look: impl FnOnce(&mut ScaleSet) -> T) -> T {
        self.server.with(|azure| look(&mut azure.set))
    }

    fn id(&self, at: usize) -> String {
        self.set(|set| set.machines[at].vm_id.clone())
    }

    /// Calls that change something, since the last time.
    fn changes(&self) -> Vec<Call> {
        let mut calls = self.server.take_calls();
        calls.retain(|call| call.method != "GET");
        calls
    }

    /// What is being ended.
    fn ending(&self) -> BTreeSet<String> {
        let leaving = |machine: &&Machine| machine.provisioning == "Deleting";
        self.set(|set| set.machines.iter().filter(leaving).map(|machine| machine.vm_id.clone()).collect())
    }
}

fn config(server: &Server<Azure>) -> AzureVmssConfig {
    AzureVmssConfig {
        subscription: "s-1".into(),
        resource_group: "research".into(),
        group: "gpu".into(),
        endpoint: server.url(),
        token_endpoint: format!("{}/metadata/identity/oauth2/token", server.url()),
        client_id: String::new(),
    }
}

#[tokio::test]
async fn a_scale_set_is_described_page_by_page() {
    let rig = Rig::new(3).await;
    rig.set(|set| {
        set.page = 2;
        set.machines[0].protected = true;
        set.machines[1].power = Some("deallocated".into());
    });
    rig.driver.set_desired(5, 1).await.unwrap();

    let group = rig.driver.describe().await.unwrap().unwrap();

    let image = Some("microsoft-dsvm:ubuntu-hpc:2204:22.04.2024102301".to_owned());
    let instance = |at, phase, protected| Instance { id: rig.id(at), phase, protected, image: image.clone() };
    let instances = vec![
        instance(0, Phase::InService, true),
        instance(1, Phase::Going, false),
        instance(2, Phase::InService, false),
        instance(3, Phase::Booting, false),
        instance(4, Phase::Booting, false),
    ];
    assert_eq!(group, Group { desired: 5, max: 100, instances, ..Group::default() });
    let pages = rig.server.calls().into_iter().filter(|call| call.verb() == "virtualMachines").count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn a_listing_is_not_followed_to_another_server() {
    let rig = Rig::new(3).await;
    let other = Server::start(|url| Azure::new(url, "s-1", "research", "gpu", 0)).await.unwrap();
    rig.set(|set| {
        set.page = 2;
        set.next_link = Some(format!("{}/next", other.url()));
    });
    let error = rig.driver.describe().await.unwrap_err();
    assert!(matches!(error, DriverError::Garbled { .. }), "{error}");
    assert_eq!(other.arrivals(), 0);
}

#[tokio::test]
async fn a_listing_that_never_ends_is_given_up() {
    let rig = Rig::new(3).await;
    let path =
        "/subscriptions/s-1/resourceGroups/research/providers/Microsoft.Compute/virtualMachineScaleSets/gpu";
    let first = format!("{}{path}/virtualMachines?api-version=2024-07-01", rig.server.url());
    rig.set(|set| {
        set.page = 2;
        set.next_link = Some(first);
    });
    let error = rig.driver.describe().await.unwrap_err();
    assert!(matches!(error, DriverError::Garbled { .. }), "{error}");
}

#[tokio::test]
async fn a_larger_capacity_is_asked_for_once() {
    let rig = Rig::new(2).await;
    rig.driver.set_desired(5, 7).await.unwrap();
    let changes = rig.changes();
    let body = json!({ "sku": { "name": "Standard_ND96isr_H100_v5", "tier": "Standard", "capacity": 5 } });
    assert_eq!((changes.len(), changes[0].method.as_str(), &changes[0].body), (1, "PATCH", &body));

    rig.driver.set_desired(5, 7).await.unwrap();
    rig.driver.set_desired(5, 8).await.unwrap();

    assert_eq!(rig.changes(), []);
    assert_eq!(rig.set(|set| (set.capacity, set.machines.len())), (5, 5));
}

#[tokio::test]
async fn a_capacity_that_another_has_raised_meanwhile_is_not_lowered() {
    let rig = Rig::new(2).await;
    rig.driver.describe().await.unwrap();
    // Our look at the set is answered late, so that there is time for another between it and our change.
    fault(&rig.server, "virtualMachineScaleSets", Kind::Late(Duration::from_secs(5)));
    let calls = rig.server.arrivals();
    let ours = tokio::spawn({
        let driver = rig.driver.clone();
        async move { driver.set_desired(4, 1).await }
    });
    rig.server.arrived(calls + 1).await;
    rig.set(|set| set.resize(8));
    pass(Duration::from_secs(6)).await;

    let error = ours.await.unwrap().unwrap_err();

    assert!(matches!(error, DriverError::Refused { .. }), "{error}");
    assert_eq!(rig.set(|set| (set.capacity, set.chosen.len())), (8, 0));
}

#[tokio::test]
async fn more_than_the_set_can_have_is_refused() {
    let rig = Rig::new(2).await;
    let error = rig.driver.set_desired(101, 1).await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused { reason, .. } if reason.contains("OperationNotAllowed")));
    assert_eq!(rig.set(|set| set.capacity), 2);
}

#[tokio::test]
async fn a_smaller_set_loses_only_machines_that_never_ran() {
    let rig = Rig::new(2).await;
    rig.driver.set_desired(6, 1).await.unwrap();
    rig.set(|set| {
        set.machines[2].power = Some("running".into());
        set.machines[4].provisioning = "Failed".into();
    });
    rig.changes();

    rig.driver.set_desired(3, 2).await.unwrap();

    assert_eq!(rig.ending(), BTreeSet::from([rig.id(3), rig.id(4), rig.id(5)]));
    let changes = rig.changes();
    assert_eq!((changes.len(), changes[0].verb()), (1, "delete"));
    assert_eq!(changes[0].body, json!({ "instanceIds": ["3", "4", "5"] }));
    assert_eq!(rig.set(|set| (set.capacity, set.chosen.len())), (3, 0));
}

#[tokio::test]
async fn a_running_machine_is_never_ended_to_make_a_set_smaller() {
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

    rig.driver.terminate(&id.to_ascii_uppercase(), 4).await.unwrap();

    assert_eq!(rig.ending(), BTreeSet::from([id.clone()]));
    let changes = rig.changes();
    assert_eq!((changes.len(), &changes[0].body), (1, &json!({ "instanceIds": ["1"] })));
    rig.driver.terminate(&id, 4).await.unwrap();
    rig.set(ScaleSet::settle);
    rig.driver.terminate(&id, 5).await.unwrap();
    assert_eq!(rig.changes(), []);
    assert_eq!(rig.set(|set| (set.capacity, set.machines.len(), set.chosen.len())), (2, 2, 0));
}

#[tokio::test]
async fn a_machine_that_took_the_instance_id_of_one_that_is_gone_stays() {
    let rig = Rig::new(2).await;
    let old = rig.id(0);
    rig.driver.terminate(&old, 1).await.unwrap();
    rig.set(ScaleSet::settle);
    rig.driver.set_desired(2, 2).await.unwrap();
    rig.set(ScaleSet::settle);
    assert!(
        rig.set(|set| set.machines.iter().any(|machine| machine.instance_id == "0" && machine.vm_id != old))
    );

    rig.driver.terminate(&old, 1).await.unwrap();

    assert_eq!(rig.ending(), BTreeSet::new());
}

#[tokio::test]
async fn machines_that_vanish_between_listing_and_end_are_passed_over() {
    let rig = Rig::new(0).await;
    rig.driver.set_desired(2, 1).await.unwrap();
    let gone = azure::error(
        400,
        "InvalidParameter",
        "The provided instanceId 0 is not an active Virtual Machine Scale Set VM instanceId.",
    );
    // The two together, then the first of them; the second is there.
    for _ in 0..2 {
        fault(&rig.server, "/delete", Kind::Answer(gone.clone()));
    }
    rig.driver.set_desired(0, 2).await.unwrap();
    let ids: Vec<_> = rig
        .changes()
        .iter()
        .filter(|call| call.verb() == "delete")
        .map(|call| call.body["instanceIds"].clone())
        .collect();
    assert_eq!(ids, [json!(["0", "1"]), json!(["0"]), json!(["1"])]);
    assert_eq!(rig.ending().len(), 1);
}

#[tokio::test]
async fn protection_is_set_where_it_is_not_yet() {
    let rig = Rig::new(3).await;
    rig.set(|set| set.machines[1].protected = true);
    let named = [rig.id(0), rig.id(1), "gone".to_owned()];

    rig.driver.protect(&named, true).await.unwrap();
    rig.driver.protect(&named, true).await.unwrap();

    let changes = rig.changes();
    assert_eq!((changes.len(), changes[0].method.as_str(), changes[0].verb()), (1, "PUT", "0"));
    let protected =
        || rig.set(|set| set.machines.iter().map(|machine| machine.protected).collect::<Vec<_>>());
    assert_eq!(protected(), [true, true, false]);
    rig.driver.protect(&named, false).await.unwrap();
    assert_eq!(protected(), [false, false, false]);
}

#[tokio::test]
async fn a_flexible_set_is_refused_by_its_name() {
    let rig = Rig::new(1).await;
    rig.set(|set| set.mode = "Flexible".into());
    let error = rig.driver.describe().await.unwrap_err();
    assert!(matches!(&error, DriverError::Refused { reason, .. } if reason.contains("Flexible")), "{error}");
    assert!(rig.driver.set_desired(2, 1).await.is_err());
    assert_eq!(rig.changes(), []);
}

#[tokio::test]
async fn a_set_that_another_changes_refuses() {
    let rig = Rig::new(1).await;
    rig.set(|set| set.busy = true);
    assert!(matches!(rig.driver.set_desired(2, 1).await, Err(DriverError::Refused { .. })));
}

#[tokio::test]
async fn faults_are_told_apart() {
    let rig = Rig::new(1).await;
    faults::are_told_apart(&rig.server, rig.driver.clone(), "/virtualMachineScaleSets/").await;
}

#[tokio::test]
async fn who_may_not_is_told_without_the_token() {
    let rig = Rig::new(1).await;
    rig.server.with(|azure| azure.tokens.forbidden = true);
    let error = rig.driver.describe().await.unwrap_err();
    faults::shows_no_secret(rig.driver.as_ref(), &error);
}

#[tokio::test]
async fn a_token_is_kept_renewed_before_its_end_and_when_it_is_revoked() {
    let rig = Rig::new(1).await;
    let given = || rig.server.with(|azure| azure.tokens.given);
    rig.driver.describe().await.unwrap();
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 1);
    pass(Duration::from_secs(3599 - 30)).await;
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 2);
    rig.server.with(|azure| azure.tokens.revoke());
    rig.driver.describe().await.unwrap();
    assert_eq!(given(), 3);
}

#[tokio::test]
async fn an_identity_is_named_where_there_is_more_than_one() {
    let rig = Rig::new(1).await;
    rig.server.with(|azure| azure.tokens.client_id = Some("id-7".into()));
    assert!(matches!(rig.driver.describe().await, Err(DriverError::Denied { .. })));
    let config = AzureVmssConfig { client_id: "id-7".into(), ..config(&rig.server) };
    AzureVmss::open(&config, &|_| None).unwrap().describe().await.unwrap();
    // The metadata service is being renewed.
    let driver = AzureVmss::open(&config, &|_| None).unwrap();
    fault(&rig.server, "/metadata/", Kind::Answer(Reply::new(410, "")));
    assert!(matches!(driver.describe().await, Err(DriverError::Unavailable { .. })));
}

#[tokio::test]
async fn a_service_principal_is_taken_from_the_environment() {
    let rig = Rig::new(1).await;
    let principal = ("t-1".to_owned(), "c-1".to_owned(), "se/cret+secret=&".to_owned());
    rig.server.with(|azure| azure.tokens.principal = Some(principal));
    let config = AzureVmssConfig { token_endpoint: String::new(), ..config(&rig.server) };
    let authority = rig.server.url();
    let open = |secret: &str, tenant: &str| {
        let variable = |name: &str| match name {
            "AZURE_TENANT_ID" => Some(tenant.to_owned()),
            "AZURE_CLIENT_ID" => Some("c-1".to_owned()),
            "AZURE_CLIENT_SECRET" => Some(secret.to_owned()),
            "AZURE_AUTHORITY_HOST" => Some(authority.clone()),
            _ => None,
        };
        AzureVmss::open(&config, &variable)
    };
    open("se/cret+secret=&", "t-1").unwrap().describe().await.unwrap();
    let driver = open("another secret", "t-1").unwrap();
    let error = driver.describe().await.unwrap_err();
    assert!(error.to_string().contains("AADSTS7000215"), "{error}");
    let DriverError::Denied { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("(hidden)") && !reason.contains("another secret"), "{reason}");
    assert!(!format!("{driver:?}").contains("another secret"));
    assert!(matches!(open("another secret", ""), Err(DriverError::Denied { .. })));
}

#[test]
fn a_pool_names_its_group() {
    let text = json!({ "kind": "azure-vmss", "subscription": "S", "resource_group": "R", "group": "G" });
    let config: DriverConfig = serde_json::from_value(text).unwrap();
    assert_eq!(config.group_key().as_deref(), Some("azure-vmss s/r/g"));
    let unknown =
        json!({ "kind": "azure-vmss", "subscription": "S", "resource_group": "R", "group": "G", "x": 1 });
    serde_json::from_value::<DriverConfig>(unknown).unwrap_err();
}
