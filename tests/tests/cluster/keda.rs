//! KEDA's client against real members: made from the interface that KEDA publishes, with what KEDA sends.

use muster_proto::channel::dial_lazy;
use muster_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use muster_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, IsActiveResponse, MetricSpec, MetricValue, ScaledObjectRef,
};
use muster_tests::{Cluster, until};
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

const WITHIN: Duration = Duration::from_secs(60);

/// Machines go at once where nothing runs: the test waits for it.
const POOLS: &str = r#"
[[pool]]
name = "spot"
max = 4
usd_per_hour = 2.5
template = { cpus = 2, memory = "2GiB" }
scale_in_cooldown = "1s"
"#;

const JOB: &str =
    "name: waits\ntasks:\n  one:\n    run: sleep 600\n    resources: {cpus: 2}\n    array: 0-2\n";

fn token(cluster: &Cluster) -> String {
    let contexts = std::fs::read_to_string(cluster.cli.config_dir.join("contexts.toml")).unwrap();
    let line = contexts.lines().find_map(|line| line.strip_prefix("token = ")).expect("a token");
    line.trim_matches('"').to_owned()
}

fn object(pairs: &[(&str, &str)]) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "muster-worker".into(),
        namespace: "gpu".into(),
        scaler_metadata: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

/// The next word of a stream.
async fn next(stream: &mut Streaming<IsActiveResponse>) -> Result<bool, Status> {
    let message = timeout(WITHIN, stream.message()).await.expect("in time")?;
    Ok(message.expect("the stream stays open").result)
}

#[test]
fn a_pool_wakes_and_sleeps_by_what_waits_over_the_death_of_the_leader() {
    let mut cluster = Cluster::start_configured(3, POOLS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (leader, _) = cluster.leader();
    let member = |at: usize| {
        let _inside = runtime.enter();
        ExternalScalerClient::new(dial_lazy(&cluster.member_address(at), None).unwrap())
    };
    // A follower: it asks the leader, whoever that is.
    let mut keda: ExternalScalerClient<Channel> = member((leader + 1) % 3);
    let token = token(&cluster);
    let of = object(&[("scalerAddress", "x:1"), ("pool", "spot"), ("tokenFromEnv", &token)]);
    until("signals", WITHIN, || {
        runtime.block_on(keda.is_active(of.clone())).map_err(|status| status.to_string())
    });

    // Nobody without a token; no other pool.
    let stranger = runtime.block_on(keda.is_active(object(&[("pool", "spot")]))).unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let unknown =
        runtime.block_on(keda.is_active(object(&[("pool", "h100"), ("token", &token)]))).unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "no pool \"h100\"; there is spot"));

    let mut active = runtime.block_on(keda.stream_is_active(of.clone())).unwrap().into_inner();
    let mut specs = runtime.block_on(keda.stream_metric_spec(of.clone())).unwrap().into_inner();
    assert!(!runtime.block_on(next(&mut active)).unwrap(), "nothing waits");
    let spec =
        MetricSpec { metric_name: "muster-spot-desired".into(), target_size: 1, target_size_float: 1.0 };
    let spec = GetMetricSpecResponse { metric_specs: vec![spec] };
    assert_eq!(runtime.block_on(keda.get_metric_spec(of.clone())).unwrap().into_inner(), spec);
    assert_eq!(runtime.block_on(specs.message()).unwrap(), Some(spec));

    // Three indices of two CPUs each are three machines of two CPUs.
    let job = cluster.submit(&cluster.file("waits.yaml", JOB));
    assert!(runtime.block_on(next(&mut active)).unwrap(), "something waits");
    let ask =
        GetMetricsRequest { scaled_object_ref: Some(of.clone()), metric_name: "muster-spot-desired".into() };
    let wanted =
        MetricValue { metric_name: "muster-spot-desired".into(), metric_value: 3, metric_value_float: 3.0 };
    until("three machines wanted", WITHIN, || {
        let metrics = runtime.block_on(keda.get_metrics(ask.clone())).map_err(|status| status.to_string())?;
        let values = metrics.into_inner().metric_values;
        (values == [wanted.clone()]).then_some(()).ok_or(format!("{values:?}"))
    });
    let doc = cluster.cli.json(&["autoscale", "signals", "--pool", "spot"]).unwrap();
    assert_eq!(
        (doc["pools"][0]["desired"].as_u64(), doc["pools"][0]["usd_per_hour"].as_f64()),
        (Some(3), Some(2.5))
    );

    // The leader dies: the stream goes on, and says the next change; nothing was said meanwhile.
    cluster.kill_member(leader);
    until("signals of another leader", WITHIN, || {
        runtime.block_on(keda.get_metrics(ask.clone())).map_err(|status| status.to_string())
    });
    let _ = cluster.cli.run(&["cancel", &job.to_string()]).ok();
    assert!(!runtime.block_on(next(&mut active)).unwrap(), "nothing waits any more");
}
