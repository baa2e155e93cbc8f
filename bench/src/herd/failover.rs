//! Members die under the herd: the leader again and again, and a follower with its share of the sessions. No lease may end for it.

use super::fleet::{Fleet, until};
use super::load::Load;
use crate::client::{self, Target};
use crate::cluster::Cluster;
use crate::report::say;
use anyhow::{Context, Result};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Far above every target: what takes longer has not happened.
const LIMIT: Duration = Duration::from_secs(60);
/// After a failover, calls are watched at least this long: the reconnects fall into it.
const AFTER: Duration = Duration::from_secs(3);

/// What the failovers cost.
#[derive(Debug, Default)]
pub struct Cost {
    /// SIGKILL of the leader → next acknowledged write, seconds.
    pub gaps: Vec<f64>,
    /// That write → every lease renewed by the new leader, seconds.
    pub renewed: Vec<f64>,
    /// Submissions that began between that write and `renewed`, or in the three seconds after it: milliseconds.
    pub submits: Vec<f64>,
    /// Attempts that ended or were made again, and workers that went `lost`.
    pub false_losses: u64,
}

/// Who leads, by its number from 1.
///
/// # Errors
/// Nobody answers.
pub async fn leader(target: &Target) -> Result<usize> {
    let mut api = client::connect(target).await?;
    let status = client::cluster_status(&mut api).await?;
    usize::try_from(status.leader.context("no leader")?).context("a member's id")
}

/// Kills the leader and starts it again, `times`.
///
/// # Errors
/// A cluster that does not come back.
pub async fn leaders(cluster: &mut Cluster, fleet: &Fleet, load: &Load, times: u32) -> Result<Cost> {
    let mut cost = Cost::default();
    for round in 1..=times {
        let (harm, before) = (fleet.tally.harm(), lost(cluster.target()).await?);
        let leader = leader(cluster.target()).await?;
        let term = fleet.workers.iter().map(|worker| worker.term.load(Relaxed)).max().unwrap_or(0);
        let spread = fleet.spread();
        // 1. It dies.
        let killed = Instant::now();
        cluster.kill_member(leader)?;
        let ready = until("an acknowledged write", LIMIT, || load.acknowledged_since(killed)).await?;
        // 2. The next one renews every lease.
        fleet
            .until_all("a renewal by the new leader", LIMIT, |worker| worker.term.load(Relaxed) > term)
            .await?;
        let last = fleet.workers.iter().map(|worker| worker.term_at.load(Relaxed)).max().unwrap_or(0);
        let renewed = Duration::from_micros(last.saturating_sub(fleet.tally.micros_at(ready)));
        let until = ready + AFTER.max(renewed);
        tokio::time::sleep_until(until.into()).await;
        // 3. It comes back, and nobody was lost meanwhile.
        cluster.restart_member(leader).await?;
        let lost =
            lost(cluster.target()).await?.saturating_sub(before) + fleet.tally.harm().saturating_sub(harm);
        let during = load.samples().into_iter().filter(|s| (ready..until).contains(&s.began));
        cost.submits.extend(during.map(|sample| sample.took.as_secs_f64() * 1e3));
        cost.gaps.push((ready - killed).as_secs_f64());
        cost.renewed.push(renewed.as_secs_f64());
        cost.false_losses += lost;
        say(&format!(
            "failover {round}: sessions {spread}, member {leader} killed: next write after {:.2} s, all renewed {:.2} s later, {lost} lost",
            (ready - killed).as_secs_f64(),
            renewed.as_secs_f64()
        ));
    }
    Ok(cost)
}

/// Kills the follower with the most sessions: seconds until each of them is renewed through another member, and false losses.
///
/// # Errors
/// Sessions that do not come back.
pub async fn follower(cluster: &mut Cluster, fleet: &Fleet) -> Result<(f64, u64)> {
    let (harm, before) = (fleet.tally.harm(), lost(cluster.target()).await?);
    let leader = leader(cluster.target()).await? - 1;
    let sessions =
        |member: usize| fleet.workers.iter().filter(move |w| w.member.load(Relaxed) == member as u64);
    let others = (0..cluster.target().addresses.len()).filter(|member| *member != leader);
    let follower = others.max_by_key(|member| sessions(*member).count()).context("no follower")?;
    let theirs: Vec<usize> = sessions(follower).map(|worker| worker.number).collect();
    let killed = fleet.tally.micros();
    cluster.kill_member(follower + 1)?;
    let is_theirs = |number: usize| theirs.binary_search(&number).is_ok();
    let took = fleet
        .until_all("its session at another member", LIMIT, |w| !is_theirs(w.number) || w.is_back(killed))
        .await?;
    cluster.restart_member(follower + 1).await?;
    let lost = lost(cluster.target()).await?.saturating_sub(before) + fleet.tally.harm().saturating_sub(harm);
    say(&format!(
        "member {} killed, a follower with {} sessions: all renewed elsewhere after {:.2} s, {lost} lost",
        follower + 1,
        theirs.len(),
        took.as_secs_f64()
    ));
    Ok((took.as_secs_f64(), lost))
}

/// Workers that are `lost` now, those included that were to be.
async fn lost(target: &Target) -> Result<u64> {
    let mut api = client::connect(target).await?;
    let workers = client::workers(&mut api).await?.workers;
    Ok(workers.iter().filter(|worker| worker.state == "lost").count() as u64)
}
