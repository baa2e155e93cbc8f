//! Which machine a worker is on, as its cloud says it.

use muster_cloud_metadata::Emulator;
use muster_core::model::notice::NoticeSource::{self, Aws, Azure, Gcp};
use muster_worker::WorkerConfig;
use muster_worker::notice::{NoticeConfig, Which};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const BOOT: &str = "8c0a5b6e-7a6b-4a0e-9b57-1d9f5f0f7a11";

fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
}

/// A worker `w1` that keeps its files in `dir`.
fn worker(emulator: &Emulator, dir: &Path, sources: &[NoticeSource]) -> WorkerConfig {
    let endpoint = emulator.endpoint("{worker}");
    let notice = NoticeConfig {
        sources: Some(sources.to_vec()),
        aws_endpoint: endpoint.clone(),
        gcp_endpoint: endpoint.clone(),
        azure_endpoint: endpoint,
        ..NoticeConfig::default()
    };
    WorkerConfig { data_dir: dir.to_owned(), notice, ..WorkerConfig::default() }
}

async fn emulator() -> Emulator {
    Emulator::start(([127, 0, 0, 1], 0).into()).await.expect("a port")
}

async fn said(config: &WorkerConfig) -> BTreeMap<String, String> {
    Which::with(config, "w1", BOOT, Some("4711".into())).labels().await
}

fn asked(emulator: &Emulator) -> usize {
    emulator.seen("w1")["requests"].as_array().expect("a list").len()
}

#[tokio::test]
async fn each_cloud_names_its_machine() {
    let emulator = emulator().await;
    let put = |what: &str, body: Value| emulator.put("w1", what, &body).expect("something that can be set");
    put("aws/machine", json!({"id": "i-0123456789abcdef0", "image": "ami-0abc", "zone": "eu-west-1b"}));
    put(
        "gcp/machine",
        json!({"id": "4567", "image": "projects/p/global/images/v42", "zone": "projects/1/zones/us-central1-f"}),
    );
    put(
        "azure/compute",
        json!({
            "vmId": "02AAB8A4-74EF-476E-8182-F6D2BA4166A6", "location": "westeurope", "zone": "3",
            "storageProfile": {"imageReference": {"id": "", "publisher": "P", "offer": "O", "sku": "S", "version": "1.2"}},
        }),
    );
    let table = [
        (
            Aws,
            labels(&[("instance_id", "i-0123456789abcdef0"), ("image", "ami-0abc"), ("zone", "eu-west-1b")]),
        ),
        (
            Gcp,
            labels(&[
                ("instance_id", "4567"),
                ("image", "projects/p/global/images/v42"),
                ("zone", "us-central1-f"),
            ]),
        ),
        (
            Azure,
            labels(&[
                ("instance_id", "02aab8a4-74ef-476e-8182-f6d2ba4166a6"),
                ("image", "P:O:S:1.2"),
                ("zone", "westeurope-3"),
            ]),
        ),
    ];
    for (cloud, expected) in table {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(said(&worker(&emulator, dir.path(), &[cloud])).await, expected, "{cloud:?}");
    }
}

#[tokio::test]
async fn what_a_machine_does_not_have_is_no_label() {
    let emulator = emulator().await;
    let put = |what: &str, body: Value| emulator.put("w1", what, &body).expect("something that can be set");
    put("aws/machine", json!({"id": "i-1"}));
    put("gcp/machine", json!({"id": "2", "image": ""}));
    put(
        "azure/compute",
        json!({"vmId": "3", "location": "westeurope", "zone": "", "storageProfile": {"imageReference": {"offer": "O"}}}),
    );
    for (cloud, id) in [(Aws, "i-1"), (Gcp, "2"), (Azure, "3")] {
        let dir = tempfile::tempdir().expect("a directory");
        let said = said(&worker(&emulator, dir.path(), &[cloud])).await;
        assert_eq!(said, labels(&[("instance_id", id)]), "{cloud:?}");
    }
}

#[tokio::test]
async fn whoever_gives_all_of_them_is_not_asked_for() {
    let emulator = emulator().await;
    let dir = tempfile::tempdir().expect("a directory");
    let given = labels(&[("instance_id", "mine"), ("image", "mine"), ("zone", "mine")]);
    let config = WorkerConfig { labels: given, ..worker(&emulator, dir.path(), &[Aws]) };
    assert_eq!(said(&config).await, BTreeMap::new());
    assert_eq!(asked(&emulator), 0);
}

#[tokio::test]
async fn an_agent_that_starts_again_says_the_same_without_asking() {
    let emulator = emulator().await;
    let dir = tempfile::tempdir().expect("a directory");
    let config = worker(&emulator, dir.path(), &[Gcp]);
    let first = said(&config).await;
    let before = asked(&emulator);
    emulator.put("w1", "fault", &json!({"kind": "status", "status": 500})).expect("a fault");
    assert!(first.contains_key("instance_id"), "{first:?}");
    assert_eq!((said(&config).await, asked(&emulator)), (first, before));
    // The directory of another machine, in an image that was made of it: nothing of it is believed.
    let elsewhere = Which::with(&config, "w1", "another boot", None);
    assert_eq!(elsewhere.labels().await, BTreeMap::new());
}

#[tokio::test]
async fn of_several_clouds_the_one_that_answers_is_meant() {
    let emulator = emulator().await;
    let dir = tempfile::tempdir().expect("a directory");
    emulator
        .put("w1", "fault", &json!({"kind": "status", "status": 404, "path": "/latest/"}))
        .expect("a fault");
    let said = said(&worker(&emulator, dir.path(), &[Aws, Gcp])).await;
    assert_eq!(said["zone"], "us-central1-a");
}

/// Whatever a service does instead of answering, the worker starts without the labels.
#[tokio::test]
async fn a_service_that_does_not_say_it_is_gone_without() {
    let emulator = emulator().await;
    let kinds = ["hang", "slow", "junk", "large", "cut", "status"];
    for fault in kinds.map(|kind| json!({"kind": kind, "status": 503})) {
        emulator.put("w1", "fault", &fault).expect("a fault");
        let one = async |cloud| {
            let dir = tempfile::tempdir().expect("a directory");
            said(&worker(&emulator, dir.path(), &[cloud])).await
        };
        let all = tokio::join!(one(Aws), one(Gcp), one(Azure));
        assert_eq!(all, Default::default(), "{fault}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = worker(&emulator, dir.path(), &[Aws]);
    config.notice.aws_endpoint = "http://127.0.0.1:1".into();
    assert_eq!(said(&config).await, BTreeMap::new(), "nobody listens");
}

#[tokio::test]
async fn without_a_cloud_a_job_of_slurm_is_the_machine() {
    let emulator = emulator().await;
    let dir = tempfile::tempdir().expect("a directory");
    let config = worker(&emulator, dir.path(), &[NoticeSource::Sigterm]);
    assert_eq!(said(&config).await, labels(&[("instance_id", "4711")]));
    let none = Which::with(&config, "w1", BOOT, None).labels().await;
    let odd = Which::with(&config, "w1", BOOT, Some("a b".into())).labels().await;
    assert_eq!((none, odd), (BTreeMap::new(), BTreeMap::new()));
}
