//! `muster bench scale-in`: machines that are taken away again and again while tasks run and save on them; how much of their work is lost.
//!
//! Real: state, leader, scheduler, decision, agents. Modelled: the log, the network, processes, the provider, time. Each round the pool may have one
//! machine less: the leader chooses one, drains it, its tasks are asked to save, end once the log has their checkpoint, and only then is its
//! machine ended; then the pool may have one more again. In every tenth round another leader is elected in the middle of it.
//!
//! Code map: `cluster` the world · `machine` one worker and its processes. Left out: faults (the simulator's part).

mod cluster;
mod machine;

use crate::report::{Recorder, percentile, say};
use anyhow::{Result, bail};
use cluster::{Cluster, Habits, Tally};

/// Machines of the pool, of eight GPUs each, all in use.
const MACHINES: u32 = 4;
/// A scale-in that is not over after so long, virtual ms, is a bug.
const LIMIT_MS: u64 = 30 * 60_000;
/// Rounds from one change of leaders to the next.
const ELECTION_EVERY: u64 = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench scale-in --count 1000")]
pub struct ScaleInArgs {
    /// Machines that are taken away, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    count: u64,
}

/// # Errors
/// A machine that is not ended, or tasks that do not run again.
pub fn run(args: &ScaleInArgs, seed: u64, record: &mut Recorder) -> Result<()> {
    let tally = scale_ins(args.count, seed, Habits::default())?;
    let mut took = tally.took_ms.clone();
    took.sort_unstable();
    let seconds: Vec<f64> = took.iter().map(|ms| *ms as f64 / 1e3).collect();
    record.figure("scale_ins", tally.terminated as f64, "machines");
    record.figure("evicted", tally.evicted as f64, "attempts");
    record.figure("lost", tally.lost_gpu_ms as f64 / 1e3, "GPU s");
    record.figure("ended_with_work", tally.ended_busy as f64, "machines");
    record.figure("drain_p50", percentile(&seconds, 50), "s, virtual");
    record.figure("drain_p99", percentile(&seconds, 99), "s, virtual");
    record.note(format!(
        "unsaved when they were asked to stop: {:.0} GPU s; {} changes of leaders in the middle",
        tally.at_risk_gpu_ms as f64 / 1e3,
        tally.elections
    ));
    Ok(())
}

/// So many rounds.
fn scale_ins(count: u64, seed: u64, habits: Habits) -> Result<Tally> {
    let mut cluster = Cluster::new(seed, habits, MACHINES)?;
    if !cluster.run_until(LIMIT_MS, |c| c.is_whole(MACHINES)) {
        bail!("the tasks do not run {} s after the start", LIMIT_MS / 1_000);
    }
    for round in 0..count {
        cluster.set_max(MACHINES - 1);
        if round % ELECTION_EVERY == ELECTION_EVERY - 1 {
            cluster.plan_election();
        }
        if !cluster.run_until(LIMIT_MS, |c| c.tally.terminated > round) {
            bail!("scale-in {} is not over after {} s: {}", round + 1, LIMIT_MS / 1_000, cluster.describe());
        }
        cluster.set_max(MACHINES);
        if !cluster.run_until(LIMIT_MS, |c| c.is_whole(MACHINES)) {
            bail!("after scale-in {} the tasks do not run again: {}", round + 1, cluster.describe());
        }
        cluster.rest();
        if (round + 1) % 100 == 0 {
            say(&format!(
                "{} scale-ins: {} attempts evicted, {} GPU ms lost",
                round + 1,
                cluster.tally.evicted,
                cluster.tally.lost_gpu_ms
            ));
        }
    }
    Ok(cluster.tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_saves_when_it_is_asked_loses_nothing() {
        let tally = scale_ins(12, 1, Habits::default()).expect("scale-ins");
        assert_eq!((tally.terminated, tally.lost_gpu_ms, tally.ended_busy), (12, 0, 0));
        assert!(tally.evicted >= 12 && tally.at_risk_gpu_ms > 0 && tally.elections == 1, "{tally:?}");
    }

    #[test]
    fn what_does_not_save_when_it_is_asked_loses_what_it_did_since() {
        let habits = Habits { saves_at_stop: false, ..Habits::default() };
        let tally = scale_ins(3, 1, habits).expect("scale-ins");
        assert_eq!(tally.lost_gpu_ms, tally.at_risk_gpu_ms);
        assert!(tally.lost_gpu_ms > 0);
    }

    #[test]
    fn a_save_that_takes_longer_than_the_grace_is_lost() {
        let habits = Habits { grace_ms: 2_000, save_ms: (20_000, 25_000), ..Habits::default() };
        let tally = scale_ins(3, 1, habits).expect("scale-ins");
        assert!(tally.lost_gpu_ms > 0, "{tally:?}");
    }
}
