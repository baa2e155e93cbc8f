//! Signals and KEDA over real sockets, at members that lead, that follow, and that led once. What is reckoned is played by hand: no pool is
//! configured, so that no leader reckons anything itself.

use super::{Running, start};
use crate::config::CoordinatorConfig;
use crate::raft::Role;
use muster_core::view_doc::{PoolSignalDoc, PoolsDoc, SignalsDoc};
use muster_proto::api::api_client::ApiClient;
use muster_proto::api::{Document, GetRequest, ListRequest, SignalsRequest};
use muster_proto::channel::{Bearer, dial_lazy};
use muster_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use muster_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, MetricSpec, MetricValue, ScaledObjectRef,
};
use std::path::Path;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

type Client = ApiClient<InterceptedService<Channel, Bearer>>;
type Keda = ExternalScalerClient<Channel>;

fn first(dir: &Path) -> CoordinatorConfig {
    CoordinatorConfig {
        data_dir: dir.join("c1"),
        listen: "127.0.0.1:0".parse().expect("address"),
        bootstrap: true,
        ..CoordinatorConfig::default()
    }
}

async fn three(dir: &Path) -> Vec<Running> {
    let mut members = vec![start(first(dir)).await.expect("first")];
    for n in 2..=3_usize {
        let config = CoordinatorConfig {
            data_dir: dir.join(format!("c{n}")),
            bootstrap: false,
            join: vec![members[0].advertised.clone()],
            join_token_file: Some(dir.join("c1/join-token")),
            ..first(dir)
        };
        members.push(start(config).await.expect("join"));
        let mut status = members[0].node_status();
        let votes = status.wait_for(|s| s.members.iter().filter(|m| m.voter).count() == n);
        votes.await.expect("promoted");
    }
    members
}

fn client(member: &Running) -> Client {
    let channel = dial_lazy(&member.advertised, None).expect("address");
    ApiClient::with_interceptor(channel, Bearer::new(&member.user_token))
}

fn keda(member: &Running) -> Keda {
    ExternalScalerClient::new(dial_lazy(&member.advertised, None).expect("address"))
}

/// The position of the member that leads and the term; waits until it is known.
async fn leader(members: &[Running]) -> (usize, u64) {
    let mut status = members[0].node_status();
    let known = status.wait_for(|status| status.leader.is_some()).await.expect("runs").clone();
    let (id, _) = known.leader.expect("some");
    let at = members.iter().position(|member| member.member == id).expect("one of these");
    let mut status = members[at].node_status();
    let leads = status.wait_for(|status| status.role == Role::Leader).await.expect("runs").clone();
    (at, leads.term)
}

fn reckoned(term: u64, version: u64, desired: u32) -> SignalsDoc {
    let pool = PoolSignalDoc { pool: "spot".into(), desired, max: 8, ..PoolSignalDoc::default() };
    let at = Some("2026-11-27T00:00:00.000Z".to_owned());
    SignalsDoc { pools: vec![pool], version, term, at, unmet: Vec::new() }
}

async fn signals(client: &mut Client, after: Option<(u64, u64)>, wait_ms: u64) -> Result<SignalsDoc, Status> {
    let term = after.map(|(term, _)| term);
    let version = after.map(|(_, version)| version);
    let Document { json } = client.get_signals(SignalsRequest { term, version, wait_ms }).await?.into_inner();
    Ok(serde_json::from_str(&json).expect("document"))
}

fn object(pairs: &[(&str, &str)]) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "workers".into(),
        namespace: "default".into(),
        scaler_metadata: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_says_what_the_leader_reckoned_and_no_other_term_does() {
    let dir = tempfile::tempdir().expect("dir");
    let mut members = three(dir.path()).await;
    let (at, term) = leader(&members).await;
    let other = (at + 1) % 3;
    let (mut here, mut there) = (client(&members[at]), client(&members[other]));

    // Without a pool and before anything is reckoned: empty, and it says so.
    let empty = SignalsDoc { term, ..SignalsDoc::default() };
    assert_eq!(signals(&mut here, None, 0).await.expect("leader"), empty);
    assert_eq!(signals(&mut there, None, 0).await.expect("follower"), empty);
    // What a member reckoned while it led, in a term that is over, it never says again.
    members[at].leader.signals().publish(reckoned(term - 1, 9, 7));
    assert_eq!(signals(&mut there, None, 0).await.expect("old"), empty);

    // Reckoned: at once, and to those who wait as soon as it changes.
    members[at].leader.signals().publish(reckoned(term, 1, 2));
    assert_eq!(signals(&mut there, None, 0).await.expect("known"), reckoned(term, 1, 2));
    assert_eq!(signals(&mut here, Some((term, 0)), 60_000).await.expect("known"), reckoned(term, 1, 2));
    assert_eq!(signals(&mut there, Some((term, 1)), 1).await.expect("unchanged"), reckoned(term, 1, 2));
    let (mut a, mut b) = (here.clone(), there.clone());
    let waiting = tokio::spawn(async move {
        tokio::join!(signals(&mut a, Some((term, 1)), 60_000), signals(&mut b, Some((term, 1)), 60_000))
    });
    members[at].leader.signals().publish(reckoned(term, 2, 3));
    let (a, b) = waiting.await.expect("both");
    assert_eq!((a.expect("leader"), b.expect("follower")), (reckoned(term, 2, 3), reckoned(term, 2, 3)));
    let json = there.list_pools(ListRequest {}).await.expect("pools").into_inner().json;
    let none = "neither configured nor named by a worker";
    assert_eq!(serde_json::from_str::<PoolsDoc>(&json).expect("document"), PoolsDoc::default(), "{none}");
    let unknown = there.get_pool(GetRequest { id: "h100".into() }).await.expect_err("unknown");
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "no pool \"h100\"; there is none"));

    // A wait outlives the leader: the next one is asked, and says what it reckoned itself.
    let mut patient = there.clone();
    let waiting = tokio::spawn(async move { signals(&mut patient, Some((term, 2)), 60_000).await });
    for (n, member) in members.iter().enumerate().filter(|(n, _)| *n != at) {
        member.leader.signals().publish(reckoned(term, 40 + n as u64, 99));
    }
    members.remove(at).stop().await;
    let mut status = members[0].node_status();
    status.wait_for(|now| now.term > term && now.leader.is_some()).await.expect("elected");
    let (next, later) = leader(&members).await;
    assert!(!waiting.is_finished());
    members[next].leader.signals().publish(reckoned(later, 1, 5));
    assert_eq!(waiting.await.expect("ended").expect("signals"), reckoned(later, 1, 5));
    for member in members {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_said() {
    let dir = tempfile::tempdir().expect("dir");
    let mut members = three(dir.path()).await;
    let (at, term) = leader(&members).await;
    members[at].leader.signals().publish(reckoned(term, 1, 2));
    let last = members.remove(at);
    for member in members {
        member.stop().await;
    }
    // It believes for a moment that it leads, and was told nothing else.
    let error = signals(&mut client(&last), None, 0).await.expect_err("alone");
    assert_eq!(error.code(), Code::Unavailable);
    let waited = signals(&mut client(&last), Some((term, 1)), 2_000).await.expect_err("alone");
    assert_eq!(waited.code(), Code::Unavailable);
    let mut of = object(&[("pool", "spot"), ("token", &last.user_token)]);
    assert_eq!(keda(&last).is_active(of.clone()).await.expect_err("alone").code(), Code::Unavailable);
    of.scaler_metadata.insert("token".into(), "wrong".into());
    assert_eq!(keda(&last).is_active(of).await.expect_err("stranger").code(), Code::Unauthenticated);
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_is_answered_by_token_and_told_of_changes() {
    let dir = tempfile::tempdir().expect("dir");
    let member = start(first(dir.path())).await.expect("start");
    let (_, term) = leader(std::slice::from_ref(&member)).await;
    let mut keda = keda(&member);
    let token = member.user_token.clone();
    let with = |more: &[(&str, &str)]| object(&[&[("token", token.as_str())], more].concat());

    // Default deny, whatever is asked.
    let strangers = [object(&[("pool", "spot")]), object(&[("pool", "spot"), ("token", "mu.admin.00")])];
    for of in strangers {
        let asked = GetMetricsRequest { scaled_object_ref: Some(of.clone()), ..GetMetricsRequest::default() };
        let refused = [
            keda.is_active(of.clone()).await.expect_err("refused"),
            keda.get_metric_spec(of.clone()).await.expect_err("refused"),
            keda.get_metrics(asked).await.expect_err("refused"),
            keda.stream_is_active(of.clone()).await.expect_err("refused"),
            keda.stream_metric_spec(of).await.expect_err("refused"),
        ];
        assert!(refused.iter().all(|status| status.code() == Code::Unauthenticated), "{refused:?}");
    }

    let spot = with(&[("pool", "spot"), ("target", "2.5")]);
    let spec =
        MetricSpec { metric_name: "muster-spot-desired".into(), target_size: 3, target_size_float: 2.5 };
    let spec = GetMetricSpecResponse { metric_specs: vec![spec] };
    let unknown = keda.is_active(spot.clone()).await.expect_err("no pools");
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "no pool \"spot\"; there is none"));

    member.leader.signals().publish(reckoned(term, 1, 2));
    let unknown = keda.get_metric_spec(with(&[("pool", "h100")])).await.expect_err("unknown");
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "no pool \"h100\"; there is spot"));
    let bad = keda.is_active(with(&[("value", "load")])).await.expect_err("no pool");
    assert_eq!(bad.code(), Code::InvalidArgument);
    let asked = GetMetricsRequest {
        scaled_object_ref: Some(spot.clone()),
        metric_name: "muster-spot-desired".into(),
    };
    let value =
        MetricValue { metric_name: "muster-spot-desired".into(), metric_value: 2, metric_value_float: 2.0 };
    let metrics = keda.get_metrics(asked.clone()).await.expect("metrics").into_inner();
    assert_eq!(metrics.metric_values, [value]);
    assert_eq!(keda.get_metric_spec(spot.clone()).await.expect("spec").into_inner(), spec);
    let other = GetMetricsRequest { metric_name: "muster-spot-load".into(), ..asked };
    assert_eq!(keda.get_metrics(other).await.expect_err("other").code(), Code::InvalidArgument);
    let none = GetMetricsRequest::default();
    assert_eq!(keda.get_metrics(none).await.expect_err("none").code(), Code::Unauthenticated);

    // The token of a variable, and of the header.
    let of_variable = object(&[("pool", "spot"), ("tokenFromEnv", &token)]);
    assert!(keda.is_active(of_variable).await.expect("variable").into_inner().result);
    let mut of_header = Request::new(object(&[("pool", "spot")]));
    of_header.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ascii"));
    assert!(keda.is_active(of_header).await.expect("header").into_inner().result);

    // Streams: as it is, and then each change; the target's stays open.
    let mut active = keda.stream_is_active(spot.clone()).await.expect("stream").into_inner();
    let mut specs = keda.stream_metric_spec(spot.clone()).await.expect("stream").into_inner();
    assert_eq!(specs.message().await.expect("first"), Some(spec));
    assert!(active.message().await.expect("first").expect("one").result);
    // 2 to 3 is no change of this; 0 and 1 are.
    for (version, desired) in [(2, 3), (3, 0)] {
        member.leader.signals().publish(reckoned(term, version, desired));
    }
    assert!(!active.message().await.expect("asleep").expect("one").result);
    member.leader.signals().publish(reckoned(term, 4, 1));
    assert!(active.message().await.expect("awake").expect("one").result);
    // A pool that is there no more ends the stream.
    let mut both = reckoned(term, 5, 1);
    both.pools.push(PoolSignalDoc { pool: "old".into(), desired: 1, ..PoolSignalDoc::default() });
    member.leader.signals().publish(both);
    let mut old = keda.stream_is_active(with(&[("pool", "old")])).await.expect("stream").into_inner();
    assert!(old.message().await.expect("first").expect("one").result);
    member.leader.signals().publish(reckoned(term, 6, 1));
    let ended = old.message().await.expect_err("gone");
    assert_eq!((ended.code(), ended.message()), (Code::NotFound, "no pool \"old\"; there is spot"));
    let open = tokio::time::timeout(Duration::ZERO, specs.message());
    assert!(open.await.is_err(), "the stream of targets stays open");
    drop(active);
    member.stop().await;
}
