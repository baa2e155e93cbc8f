//! `muster bench rolling`: submissions by the client that the command line uses, while all members are restarted one after the other.

use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::failover::Clients;
use crate::jobs;
use crate::pace::Pace;
use crate::report::{Recorder, percentile, say};
use anyhow::{Result, ensure};
use muster_core::view_doc::JobsDoc;
use muster_proto::api::{ListJobsRequest, SubmitPart};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench rolling --submissions 10000")]
pub struct RollingArgs {
    /// Jobs of one task, each a call of its own.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    submissions: u32,
    /// Milliseconds between the beginnings of two of them.
    #[arg(long, value_name = "MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    every: u64,
}

pub async fn run(args: RollingArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let mut cluster = Cluster::start(&env.dir, MEMBERS, env.options.keep).await?;
    let count = args.submissions as usize;
    let ids: Arc<Mutex<Vec<u64>>> = Arc::default();
    let clients = Clients::of(&cluster);
    let started = Instant::now();
    let pace = submissions(&clients, &ids, Some(count), Duration::from_millis(args.every));
    let mut restarts = Vec::new();
    for number in 1..=MEMBERS {
        // One at each quarter of the submissions.
        reached(count * number / (MEMBERS + 1), || pace.begun()).await;
        let from = Instant::now();
        cluster.end_member(number, Signal::SIGTERM).await?;
        cluster.start_again(number)?;
        cluster.until_serving(number).await?;
        restarts.push(from.elapsed().as_secs_f64() * 1000.0);
        say(&format!("member {number} was away for {:.0} ms", restarts[number - 1]));
    }
    reached(count, || pace.ended()).await;
    let failed = pace.failed();
    let ms = pace.latencies(started, Instant::now());
    // Every acknowledged one is there, once.
    let acknowledged: BTreeSet<u64> = ids.lock().iter().copied().collect();
    ensure!(acknowledged.len() == ids.lock().len(), "two submissions were given the same job");
    let document = cluster.connect().await?.list_jobs(ListJobsRequest::default()).await?.into_inner().json;
    let known = serde_json::from_str::<JobsDoc>(&document)?;
    let known: BTreeSet<u64> = known.jobs.iter().map(|job| job.id).collect();
    record.figure("failed", failed.len() as f64, "submissions");
    record.figure("lost", acknowledged.difference(&known).count() as f64, "submissions");
    record.figure(
        "unasked",
        known.difference(&acknowledged).count().saturating_sub(failed.len()) as f64,
        "jobs",
    );
    record.figure("submit_p50", percentile(&ms, 50), "ms");
    record.figure("submit_p99", percentile(&ms, 99), "ms");
    record.figure("submit_longest", ms.last().copied().unwrap_or_default(), "ms");
    record.figure("restart_longest", restarts.iter().copied().fold(0.0, f64::max), "ms");
    if let Some(error) = failed.first() {
        record.note(format!("the first that failed: {error}"));
    }
    record.note(format!(
        "{count} submissions, one every {} ms; each of {MEMBERS} members got SIGTERM once and was started again",
        args.every
    ));
    Ok(())
}

/// Submits a job of one task every `every`; `ids` are those that were acknowledged.
pub(crate) fn submissions(
    clients: &Clients,
    ids: &Arc<Mutex<Vec<u64>>>,
    count: Option<usize>,
    every: Duration,
) -> Pace {
    let (clients, ids, job) = (clients.clone(), ids.clone(), jobs::single());
    Pace::start(every, count, move |_| {
        let (clients, ids) = (clients.clone(), ids.clone());
        let part = SubmitPart {
            job: job.clone().into_bytes().into(),
            request_id: client::request_id(),
            user: "bench".to_owned(),
            ..SubmitPart::default()
        };
        async move {
            let reply =
                clients.call(async |api| api.submit(tokio_stream::iter([part.clone()])).await).await?;
            ids.lock().push(reply.job);
            Ok(())
        }
    })
}

async fn reached(count: usize, now: impl Fn() -> usize) {
    while now() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
