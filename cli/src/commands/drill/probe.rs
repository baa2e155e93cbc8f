//! Submissions while a drill goes on: one after the other, by the client that is shipped. All carry one request id, so that each goes
//! through the log and is acknowledged by a majority, and they make one job: `drill`, which fits nowhere and is cancelled at the end.

use crate::client::{Client, request_id, user};
use crate::failure::{Failure, UNREACHABLE};
use muster_proto::api::Mutation;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two of them.
const PACE: Duration = Duration::from_millis(100);

/// How they went.
#[derive(Debug, Default)]
pub struct Report {
    pub acknowledged: u64,
    pub failures: Vec<String>,
    /// Different jobs that were answered.
    pub jobs: BTreeSet<u64>,
    /// The longest time without an acknowledgement.
    pub gap: Duration,
}

/// Submits until `done`. `alone`: the one member may be away, and nobody can answer then.
pub async fn probe(mut client: Client, drill: &str, alone: bool, done: &Cell<bool>) -> Report {
    let id = request_id(None);
    let job = json!({
        "name": "drill",
        "labels": {"drill": drill},
        "tasks": {"probe": {"run": "true", "constraints": ["1 == 2"]}},
    })
    .to_string();
    let mut report = Report::default();
    let mut last = Instant::now();
    while !done.get() {
        match crate::client::submit::submit(&mut client, &job, None, &id, false).await {
            Ok(reply) => {
                report.acknowledged += 1;
                report.jobs.insert(reply.job);
                report.gap = report.gap.max(last.elapsed());
                last = Instant::now();
            }
            Err(failure) if alone && failure.exit == UNREACHABLE => {}
            Err(failure) => report.failures.push(failure.message),
        }
        tokio::time::sleep(PACE).await;
    }
    report.gap = report.gap.max(last.elapsed());
    for job in &report.jobs {
        if let Err(failure) = cancel(&mut client, *job).await {
            report.failures.push(failure.message);
        }
    }
    report
}

async fn cancel(client: &mut Client, job: u64) -> Result<(), Failure> {
    let request = Mutation { request_id: request_id(None), target: job.to_string(), user: user() };
    client.call(async |api| api.cancel(request.clone()).await).await.map(drop)
}
