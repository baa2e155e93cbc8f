//! Worker loss → task started elsewhere. The machines of many workers go at once, each with a task of its own, and without a word: no
//! connection is closed, so only the lease tells. Measured from there to the start of the next attempt on another worker.

use super::fleet::{Fleet, until};
use super::tasks::HOLD;
use super::worker::Mode;
use crate::client::{self, Api};
use crate::report::say;
use anyhow::{Context, Result, ensure};
use muster_core::model::ids::JobId;
use muster_proto::api::Mutation;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Far above every target: what takes longer has not happened.
const LIMIT: Duration = Duration::from_secs(60);

/// An array whose indices hold their slots.
#[must_use]
pub fn holding(count: usize) -> String {
    let range = format!("0-{}", count.saturating_sub(1));
    json!({"name": "hold", "tasks": {"t": {"run": HOLD, "array": range}}}).to_string()
}

/// Rounds until there are `samples`, each of `lost` workers; seconds, sorted.
///
/// # Errors
/// A task that is not started again.
pub async fn measure(fleet: &Fleet, api: &mut Api, samples: usize, lost: usize) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    while seconds.len() < samples {
        let round = round(fleet, api, lost).await?;
        say(&format!(
            "{} workers of {} lost: tasks started elsewhere after {:.1} to {:.1} s",
            lost,
            fleet.workers.len(),
            round.iter().copied().fold(f64::MAX, f64::min),
            round.iter().copied().fold(0.0, f64::max)
        ));
        seconds.extend(round);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

async fn round(fleet: &Fleet, api: &mut Api, lost: usize) -> Result<Vec<f64>> {
    // 1. Each of them runs a task of its own.
    let before = fleet.holds();
    let job = client::submit(api, &holding(lost), false).await?.job;
    let id = JobId(job);
    let first = until("every task running", LIMIT, || {
        let launches = fleet.tally.launches(id);
        (launches.len() == lost).then_some(launches)
    })
    .await?;
    let victims: BTreeSet<usize> = first.iter().map(|(launch, _)| launch.worker).collect();
    ensure!(victims.len() == lost, "{lost} tasks run on {} workers", victims.len());
    let victims: Vec<usize> = victims.into_iter().collect();
    // 2. They are gone.
    let gone = Instant::now();
    fleet.set(&victims, Mode::Gone);
    let next = until("every task started elsewhere", LIMIT, || {
        let mut launches = fleet.tally.launches(id);
        launches.retain(|(launch, _)| launch.number > 1);
        (launches.len() >= lost).then_some(launches)
    })
    .await?;
    ensure!(
        next.iter().all(|(launch, _)| !victims.contains(&launch.worker)),
        "a task was started again on the worker that is gone"
    );
    let seconds = next.iter().map(|(_, at)| at.duration_since(gone).as_secs_f64()).collect();
    // 3. As before: the job is cancelled, the machines come back as others.
    let cancel =
        Mutation { target: job.to_string(), request_id: client::request_id(), ..Mutation::default() };
    api.cancel(cancel).await.context("cannot cancel")?;
    until("every task ended", LIMIT, || (fleet.holds() <= before).then_some(())).await?;
    let back = fleet.tally.micros();
    fleet.set(&victims, Mode::Run);
    let is_victim = |number: usize| victims.binary_search(&number).is_ok();
    fleet.until_all("its return", LIMIT, |worker| !is_victim(worker.number) || worker.is_back(back)).await?;
    Ok(seconds)
}
