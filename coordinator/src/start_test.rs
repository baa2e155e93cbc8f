//! Whole members in one process, over real sockets and disks, with a worker that is played by hand.

use super::{CoordinatorConfig, Running, start};
use bytes::Bytes;
use muster_core::command::{Report, ReportKind};
use muster_core::leader::instruction::Instruction;
use muster_core::model::attempt::Outcome;
use muster_core::model::lease::RENEW_MS;
use muster_core::model::worker::WorkerSpec;
use muster_core::view_doc::{ClusterDoc, JobDoc, JobsDoc, WorkersDoc};
use muster_proto::api::api_client::ApiClient;
use muster_proto::api::{
    GetRequest, ListJobsRequest, ListRequest, LogsRequest, Mutation, SubmitPart, SubmitReply, WatchRequest,
};
use muster_proto::channel::{Bearer, dial_lazy};
use muster_proto::convert::{pack, unpack};
use muster_proto::worker::worker_api_client::WorkerApiClient;
use muster_proto::worker::{
    Heartbeat, JoinRequest, LogData, Register, Reports, WorkerMessage, member_message, worker_message,
};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

type Client = ApiClient<InterceptedService<Channel, Bearer>>;

fn first(dir: &Path) -> CoordinatorConfig {
    CoordinatorConfig {
        data_dir: dir.join("c1"),
        listen: "127.0.0.1:0".parse().expect("address"),
        bootstrap: true,
        ..CoordinatorConfig::default()
    }
}

fn client(member: &Running) -> Client {
    let channel = dial_lazy(&member.advertised, None).expect("address");
    ApiClient::with_interceptor(channel, Bearer::new(&member.user_token))
}

async fn submit(client: &mut Client, id: &str, job: &str) -> Result<SubmitReply, tonic::Status> {
    let part = SubmitPart {
        request_id: id.into(),
        job: Bytes::copy_from_slice(job.as_bytes()),
        ..SubmitPart::default()
    };
    Ok(client.submit(tokio_stream::iter([part])).await?.into_inner())
}

async fn list(client: &mut Client) -> JobsDoc {
    let json = client.list_jobs(ListJobsRequest::default()).await.expect("list").into_inner().json;
    serde_json::from_str(&json).expect("document")
}

const HELLO: &str = r#"{"name": "hello", "tasks": {"say": {"run": "echo hi"}}}"#;

/// Plays one worker: starts nothing, says "hi" on stdout for every attempt and ends it with `code`.
async fn play_worker(member: &Running, join_token: &str, code: i32) -> tokio::task::JoinHandle<()> {
    let channel = dial_lazy(&member.advertised, None).expect("address");
    let mut joining = WorkerApiClient::with_interceptor(channel.clone(), Bearer::new(join_token));
    let joined = joining.join(JoinRequest { name: "w1".into() }).await.expect("join").into_inner();
    assert_eq!(joined.cluster_id, member.cluster_id);
    let mut client = WorkerApiClient::with_interceptor(channel, Bearer::new(&joined.token));
    let (send, receive) = mpsc::unbounded_channel();
    let say = move |kind| send.send(WorkerMessage { kind: Some(kind) }).expect("session");
    let spec = WorkerSpec {
        name: "w1".into(),
        cpu_milli: 4_000,
        memory: 1 << 30,
        disk: 1 << 30,
        ..WorkerSpec::default()
    };
    say(worker_message::Kind::Register(Register {
        spec: pack(&spec),
        incarnation: "i1".into(),
        held: vec![],
    }));
    let mut inbound =
        client.session(UnboundedReceiverStream::new(receive)).await.expect("session").into_inner();
    tokio::spawn(async move {
        let (mut seq, mut beats) = (0, tokio::time::interval(Duration::from_millis(RENEW_MS)));
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                _ = beats.tick(), if seq > 0 => {
                    seq += 1;
                    say(worker_message::Kind::Heartbeat(Heartbeat { seq, held: vec![] }));
                    continue;
                }
            };
            let Ok(Some(message)) = message else { return };
            match message.kind {
                Some(member_message::Kind::Registered(_)) => {
                    seq += 1;
                    say(worker_message::Kind::Heartbeat(Heartbeat { seq, held: vec![] }));
                }
                Some(member_message::Kind::Instructions(packed)) => {
                    for instruction in unpack::<Vec<Instruction>>(&packed.instructions).expect("instructions")
                    {
                        if let Instruction::Start(order) = instruction {
                            let ended = ReportKind::Ended {
                                outcome: Outcome::Exit(code),
                                artifacts: vec![],
                                ran_ms: 1,
                            };
                            for kind in [ReportKind::Running, ended] {
                                let reports =
                                    vec![Report { token: order.token, rank: order.rank, at: order.at, kind }];
                                say(worker_message::Kind::Reports(Reports { reports: pack(&reports) }));
                            }
                        }
                    }
                }
                Some(member_message::Kind::Log(log)) if !log.cancel => {
                    let bytes = if log.stderr { Bytes::new() } else { Bytes::from_static(b"hi\n") };
                    say(worker_message::Kind::Log(LogData {
                        id: log.id,
                        offset: 0,
                        bytes,
                        end: true,
                        ..LogData::default()
                    }));
                }
                _ => {}
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_its_output_is_followed_and_a_restart_forgets_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let member = start(first(dir.path())).await.expect("start");
    let join_token = std::fs::read_to_string(dir.path().join("c1/join-token")).expect("token");
    let mut user = client(&member);
    let worker = play_worker(&member, join_token.trim(), 7).await;

    let made = submit(&mut user, "r1", HELLO).await.expect("submit");
    assert_eq!((made.job, made.tasks, made.indices, made.name.as_str()), (1, 1, 1, "hello"));
    let query = LogsRequest { job: 1, follow: true, both: true, ..LogsRequest::default() };
    let mut logs = user.logs(query).await.expect("logs").into_inner();
    let (mut text, mut end) = (Vec::new(), None);
    while let Some(chunk) = logs.message().await.expect("chunk") {
        text.extend_from_slice(&chunk.bytes);
        if chunk.terminal {
            end = Some((chunk.state, chunk.exit_code));
        }
    }
    assert_eq!((text.as_slice(), end), (&b"hi\n"[..], Some(("failed".into(), 7))));
    let mut events = user.watch(WatchRequest { job: 1 }).await.expect("watch").into_inner();
    let event = events.message().await.expect("event").expect("one");
    assert_eq!((event.state.as_str(), event.terminal, event.exit_code), ("failed", true, 7));
    let json = user.get_job(GetRequest { id: "1".into() }).await.expect("show").into_inner().json;
    let doc: JobDoc = serde_json::from_str(&json).expect("document");
    let attempt = &doc.tasks[0].attempts[0];
    assert_eq!(
        (attempt.cause.as_deref(), attempt.worker.as_str(), attempt.number),
        (Some("exit(7)"), "w1", 1)
    );

    // The same request id is the same job; another payload under it is refused.
    assert_eq!(submit(&mut user, "r1", HELLO).await.expect("again").job, 1);
    let reused = submit(&mut user, "r1", &HELLO.replace("hello", "other")).await.expect_err("reused");
    assert_eq!(reused.metadata().get("muster-code").expect("code"), "REQUEST_ID_REUSED");
    // What no worker could ever run is refused, with the numbers.
    let large = HELLO.replace("\"run\"", "\"resources\": {\"cpus\": 16}, \"run\"");
    let impossible = submit(&mut user, "r2", &large).await.expect_err("impossible");
    assert_eq!(impossible.metadata().get("muster-code").expect("code"), "RESOURCE_IMPOSSIBLE");
    assert!(
        impossible.message().contains("\"say\" asks for 16 cpus; the largest worker, \"w1\", has 4"),
        "{}",
        impossible.message()
    );
    // Default deny.
    let channel = dial_lazy(&member.advertised, None).expect("address");
    for token in ["", "wrong", join_token.trim()] {
        let mut stranger = ApiClient::with_interceptor(channel.clone(), Bearer::new(token));
        let refused = stranger.list_workers(ListRequest {}).await.expect_err("refused");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    member.stop().await;
    worker.await.expect("the session ended");
    let member = start(first(dir.path())).await.expect("restart");
    let mut user = client(&member);
    assert_eq!(list(&mut user).await.jobs.len(), 1);
    assert_eq!(submit(&mut user, "r3", HELLO).await.expect("submit").job, 2);
    let json = user.list_workers(ListRequest {}).await.expect("workers").into_inner().json;
    let workers: WorkersDoc = serde_json::from_str(&json).expect("document");
    assert_eq!(workers.workers[0].name, "w1");
    assert_eq!(
        user.cancel(Mutation { target: "2.say".into(), ..Mutation::default() })
            .await
            .expect("cancel")
            .into_inner()
            .indices,
        1
    );
    let unknown = user
        .cancel(Mutation { target: "2.nothing".into(), ..Mutation::default() })
        .await
        .expect_err("unknown");
    assert_eq!(unknown.metadata().get("muster-code").expect("code"), "TASK_NOT_FOUND");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_take_any_call_and_outlive_their_leader() {
    let dir = tempfile::tempdir().expect("dir");
    let mut members = vec![start(first(dir.path())).await.expect("first")];
    for n in 2..=3_u64 {
        let config = CoordinatorConfig {
            data_dir: dir.path().join(format!("c{n}")),
            bootstrap: false,
            join: vec![members[0].advertised.clone()],
            join_token_file: Some(dir.path().join("c1/join-token")),
            ..first(dir.path())
        };
        let member = start(config).await.expect("join");
        assert_eq!(member.member, n);
        members.push(member);
        let mut status = members[0].node_status();
        status
            .wait_for(|s| s.members.iter().filter(|m| m.voter).count() as u64 == n)
            .await
            .expect("promoted");
    }
    // A follower carries a write to the leader and reads it back; a worker's session is relayed.
    let join_token = std::fs::read_to_string(dir.path().join("c1/join-token")).expect("token");
    let mut user = client(&members[1]);
    let worker = play_worker(&members[2], join_token.trim(), 0).await;
    assert_eq!(submit(&mut user, "r1", HELLO).await.expect("submit").job, 1);
    let query = LogsRequest { job: 1, follow: true, ..LogsRequest::default() };
    let mut logs = user.logs(query).await.expect("logs").into_inner();
    let mut text = Vec::new();
    while let Some(chunk) = logs.message().await.expect("chunk") {
        text.extend_from_slice(&chunk.bytes);
    }
    assert_eq!(text, b"hi\n");
    // Without the leader the others go on, and know all that was acknowledged.
    members.remove(0).stop().await;
    assert_eq!(submit(&mut user, "r1", HELLO).await.expect("same id").job, 1);
    assert_eq!(submit(&mut user, "r2", HELLO).await.expect("submit").job, 2);
    // The session of the worker at a member that lives outlives the leader: nobody registered again.
    let mut events = user.watch(WatchRequest { job: 2 }).await.expect("watch").into_inner();
    while let Some(event) = events.message().await.expect("event") {
        if event.terminal {
            assert_eq!(event.state, "succeeded");
            break;
        }
    }
    assert!(!worker.is_finished());
    assert_eq!(list(&mut client(&members[1])).await.jobs.len(), 2);
    let json = user.cluster_status(ListRequest {}).await.expect("status").into_inner().json;
    let cluster: ClusterDoc = serde_json::from_str(&json).expect("document");
    assert_eq!(cluster.members.len(), 3);
    assert!(cluster.leader.is_some_and(|id| id != 1), "{cluster:?}");
    for member in members {
        member.stop().await;
    }
    worker.await.expect("the session ended with its member");
}

#[tokio::test]
async fn a_directory_of_another_cluster_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    start(first(dir.path())).await.expect("start").stop().await;
    let other = dir.path().join("other");
    let foreign = start(first(&other)).await.expect("start");
    let config = CoordinatorConfig {
        bootstrap: false,
        join: vec![foreign.advertised.clone()],
        join_token_file: Some(other.join("c1/join-token")),
        ..first(dir.path())
    };
    let error = start(config).await.err().expect("refused");
    assert!(error.to_string().contains("belongs to cluster"), "{error}");
    let fresh =
        CoordinatorConfig { bootstrap: false, data_dir: dir.path().join("fresh"), ..first(dir.path()) };
    let error = start(fresh).await.err().expect("refused");
    assert!(error.hint().contains("--bootstrap"), "{error}");
    foreign.stop().await;
}
