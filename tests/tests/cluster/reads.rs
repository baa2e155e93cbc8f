//! Reads when a leader was stopped and another leads: what was acknowledged meanwhile is seen, or nothing is answered.

use crate::scaled;
use muster_proto::api::api_client::ApiClient;
use muster_proto::api::{GetRequest, SubmitPart};
use muster_proto::channel::{Bearer, dial_lazy};
use muster_tests::{Cluster, until, voters};
use nix::sys::signal::{Signal, kill};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

type Api = ApiClient<InterceptedService<Channel, Bearer>>;

/// Reads that wait in the stopped leader's sockets.
const READS: usize = 64;

#[test]
fn a_leader_that_was_stopped_answers_no_stale_read() {
    let cluster = Cluster::start(3, 0, &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..scaled(3, 40) {
        let (at, pid) = cluster.leader();
        let api = |member: usize| {
            let _inside = runtime.enter();
            let channel = dial_lazy(&cluster.member_address(member), None).unwrap();
            ApiClient::with_interceptor(channel, Bearer::new(&cluster.user_token()))
        };
        // Appends are on their way to both followers whenever the leader stops.
        let load = Load::start(&runtime, (0..8).map(|_| api(at)));
        until("a loaded leader", Duration::from_secs(60), || {
            (load.count() > 100).then_some(()).ok_or(load.count())
        });
        let reader = api(at);
        runtime.block_on(get(reader.clone(), 1)).expect("the connection stands");
        kill(pid, Signal::SIGSTOP).unwrap();
        let other = api((at + 1) % 3);
        let job = until("another leader", Duration::from_secs(60), || {
            let answer = runtime.block_on(submit(other.clone()));
            answer.map_err(|status| status.to_string())
        });
        let before = unread(&cluster.member_address(at));
        let reads: Vec<_> = (0..READS).map(|_| runtime.spawn(get(reader.clone(), job))).collect();
        until("reads that wait in its sockets", Duration::from_secs(60), || {
            let more = unread(&cluster.member_address(at)).saturating_sub(before);
            (more >= 16 * READS as u64).then_some(()).ok_or(more)
        });
        kill(pid, Signal::SIGCONT).unwrap();
        let answers: Vec<_> = reads.into_iter().map(|read| runtime.block_on(read).unwrap()).collect();
        let stale = answers.iter().filter(|a| a.as_ref().is_err_and(|s| s.code() == Code::NotFound)).count();
        let seen = answers.iter().filter(|a| a.is_ok()).count();
        assert_eq!(stale, 0, "round {round}: {stale} of {READS} reads do not know job {job}; {seen} do");
        drop(load);
        until("three members that follow", Duration::from_secs(60), || {
            let status = cluster.status()?;
            (voters(&status) == 3).then_some(()).ok_or(status.to_string())
        });
    }
}

async fn submit(mut api: Api) -> Result<u64, Status> {
    let job = br#"{"name": "j", "tasks": {"t": {"run": "true"}}}"#;
    let part = SubmitPart { job: job.to_vec().into(), user: "t".into(), hold: true, ..SubmitPart::default() };
    Ok(api.submit(tokio_stream::iter([part])).await?.into_inner().job)
}

async fn get(mut api: Api, job: u64) -> Result<(), Status> {
    api.get_job(GetRequest { id: job.to_string() }).await.map(|_| ())
}

/// Bytes that arrived for the process that listens at this address of loopback, on all its connections, and that it has not read.
fn unread(address: &str) -> u64 {
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let local = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let listens = words.get(3) == Some(&"0A");
        let (of, queues) = (words.get(1)?, words.get(4)?);
        let bytes = u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
        (*of == local && !listens).then_some(bytes)
    });
    queues.sum()
}

/// Submissions without end.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Load {
    fn start(runtime: &tokio::runtime::Runtime, apis: impl Iterator<Item = Api>) -> Self {
        let load = Self { stop: Arc::default(), count: Arc::default() };
        for api in apis {
            let (stop, count) = (load.stop.clone(), load.count.clone());
            runtime.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    // What fails while nobody leads is the next one's to try again.
                    if submit(api.clone()).await.is_ok() {
                        count.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
        load
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
