//! `muster bench herd`: ten thousand workers against three real members: what they cost at rest, and what the death of members and of
//! workers does to them.
//!
//! The workers live in this process, without programs. Their sessions, reconnects and rules are the product's own (`muster_worker`'s
//! session, `muster_agent`); only the shim is played, and what it would kill is counted. Left out: a network between them.
//!
//! Code map: `fleet` all workers · `worker` one of them · `tasks` what it runs · `tally` what was seen · `load` submissions at a pace ·
//! `failover`, `loss` what dies · `tls` a test authority.

mod failover;
mod fleet;
mod load;
mod loss;
mod tally;
mod tasks;
mod tls;
mod worker;

use crate::cli::Env;
use crate::client::{self, Api};
use crate::cluster::Cluster;
use crate::jobs;
use crate::procfs;
use crate::report::{Recorder, median, percentile, say};
use anyhow::{Context, Result, ensure};
use fleet::{BIG_SLOTS, Fleet, until};
use load::Load;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
const MIB: f64 = (1 << 20) as f64;
/// Registration, placement: what takes longer has not happened.
const LIMIT: Duration = Duration::from_secs(300);
/// How long members are watched at rest, and submissions to them.
const REST: Duration = Duration::from_secs(10);
/// Ten thousand tasks that were placed a moment ago are reported meanwhile.
const SETTLE: Duration = Duration::from_secs(3);
/// A submission this often.
const PACE: Duration = Duration::from_millis(20);
/// Workers that are lost in one moment, at most.
const LOST_MAX: usize = 250;
/// Files beside those of sessions.
const FILES: u64 = 500;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster bench herd\n  muster bench herd --workers 1000 --failovers 3 --small 0\n  muster bench herd --tls"
)]
pub struct HerdArgs {
    /// Workers, each with a session of its own.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    workers: u32,
    /// How often the leader is killed and started again.
    #[arg(long, value_name = "N", default_value_t = 20)]
    failovers: u32,
    /// The fleet that the loss of workers is compared with; 0: none.
    #[arg(long, value_name = "N", default_value_t = 10)]
    small: u32,
    /// Lost workers that are measured, for each fleet; 0: none.
    #[arg(long, value_name = "N", default_value_t = 200)]
    samples: u32,
    /// Let sessions of one member share N connections; 0: each has its own, as in the field.
    #[arg(long, value_name = "N", default_value_t = 0)]
    connections: u32,
    /// Mutual TLS, with the certificates of an authority made for this run.
    #[arg(long)]
    tls: bool,
}

pub async fn run(args: HerdArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let count = args.workers as usize;
    let samples = args.samples as usize;
    if args.connections == 0 {
        raise_files(u64::from(args.workers) + FILES)?;
    }
    // 1. Three members.
    let certify = |dir: &std::path::Path| args.tls.then(|| tls::certify(dir)).transpose();
    let mut cluster = Cluster::start_with(&env.dir, MEMBERS, env.options.keep, certify).await?;
    let mut api = cluster.connect().await?;
    let mut fleet = Fleet::new(cluster.target(), &cluster.join_token_file(), args.connections as usize)?;
    let empty = resident(&cluster)?;
    // 2. A small fleet, for comparison.
    let mut small = Vec::new();
    if args.small > 0 && samples > 0 {
        grow(&mut fleet, args.small as usize).await?;
        let lost = (args.small as usize - 1).min(BIG_SLOTS as usize);
        ensure!(lost > 0, "--small {} leaves nobody to lose", args.small);
        small = loss::measure(&fleet, &mut api, samples, lost).await?;
        percentiles(record, "loss_small", &small, "s");
    }
    // 3. All of them come at once.
    let took = grow(&mut fleet, count).await?;
    record.figure("register", took.as_secs_f64(), "s");
    say(&format!("{count} workers registered in {:.2} s: {} sessions", took.as_secs_f64(), fleet.spread()));
    // 4. At rest.
    rest(&cluster, &fleet, &empty, record).await?;
    // 5. Each runs a task; the room that is left takes submissions, and those that are lost.
    let lost = LOST_MAX.min(count / 4);
    let busy = count - 2 * lost;
    let held = hold(&fleet, &mut api, busy).await?;
    record.figure("placed", held.as_secs_f64(), "s");
    let load = Load::start(cluster.target(), jobs::single(), PACE)?;
    // The reports of the start are still on their way.
    tokio::time::sleep(SETTLE).await;
    let from = Instant::now();
    tokio::time::sleep(REST).await;
    let calm = load.samples().into_iter().filter(|sample| sample.began >= from);
    let calm: Vec<f64> = calm.map(|sample| sample.took.as_secs_f64() * 1e3).collect();
    percentiles(record, "submit_calm", &sorted(calm), "ms");
    // 6. Members die.
    if args.failovers > 0 {
        let (took, follower_lost) = failover::follower(&mut cluster, &fleet).await?;
        record.figure("follower_renewed", took, "s");
        let cost = failover::leaders(&mut cluster, &fleet, &load, args.failovers).await?;
        percentiles(record, "failover", &sorted(cost.gaps), "s");
        let renewed = sorted(cost.renewed);
        record.figure("renewed_p50", percentile(&renewed, 50), "s");
        record.figure("renewed_max", renewed.last().copied().unwrap_or(0.0), "s");
        percentiles(record, "submit_failover", &sorted(cost.submits), "ms");
        record.figure("false_losses", (cost.false_losses + follower_lost) as f64, "attempts and workers");
        record.figure("submits_failed", load.failed() as f64, "calls");
        record.note(format!(
            "{} failovers; sessions given up by workers as unheard: {}",
            args.failovers,
            fleet.tally.unheard.load(Relaxed)
        ));
    }
    drop(load);
    // 7. Workers die.
    if samples > 0 {
        let large = loss::measure(&fleet, &mut api, samples, lost).await?;
        percentiles(record, "loss", &large, "s");
        if !small.is_empty() {
            record.figure("loss_ratio", percentile(&large, 99) / percentile(&small, 99), "ratio");
        }
    }
    notes(&args, busy, lost, record);
    Ok(())
}

/// Adds workers and waits until the lease of each is renewed.
async fn grow(fleet: &mut Fleet, count: usize) -> Result<Duration> {
    let tokens = fleet.join(count).await?;
    let began = Instant::now();
    fleet.start(tokens);
    fleet.until_all("its first renewal", LIMIT, |worker| worker.renewed_at.load(Relaxed) > 0).await?;
    Ok(began.elapsed())
}

/// What members and sessions cost while nothing happens.
async fn rest(cluster: &Cluster, fleet: &Fleet, empty: &[f64], record: &mut Recorder) -> Result<()> {
    let leader = failover::leader(cluster.target()).await?;
    let cpu = || -> Result<Vec<f64>> {
        let one = |pid| Ok(procfs::cpu_ms(pid)?.unwrap_or(0.0));
        cluster.member_pids().into_iter().map(one).collect()
    };
    let (before, renewals, began) = (cpu()?, fleet.tally.renewals.load(Relaxed), Instant::now());
    tokio::time::sleep(REST).await;
    let seconds = began.elapsed().as_secs_f64();
    let after = cpu()?;
    let memory = resident(cluster)?;
    for member in 1..=MEMBERS {
        let role = if member == leader { "leader" } else { "follower" };
        let cores = (after[member - 1] - before[member - 1]) / 1e3 / seconds;
        say(&format!(
            "member {member} ({role}) at rest: {cores:.2} cores, {:.0} MiB ({:.0} MiB without workers)",
            memory[member - 1],
            empty[member - 1]
        ));
    }
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let leading = (after[leader - 1] - before[leader - 1]) / 1e3 / seconds;
    record.figure("leader_cpu", leading, "cores");
    let all = after.iter().zip(&before).map(|(after, before)| after - before).sum::<f64>() / 1e3 / seconds;
    record.figure("members_cpu", all, "cores");
    record.figure("member_memory_max", most(&mut memory.iter().copied()), "MiB");
    let above = memory.iter().zip(empty).map(|(memory, empty)| memory - empty).sum::<f64>();
    record.figure("memory_per_worker", above * 1024.0 / fleet.workers.len() as f64, "KiB");
    record.figure("heartbeats", (fleet.tally.renewals.load(Relaxed) - renewals) as f64 / seconds, "1/s");
    Ok(())
}

/// Resident MiB of each member.
fn resident(cluster: &Cluster) -> Result<Vec<f64>> {
    cluster.member_pids().into_iter().map(|pid| Ok(procfs::rss(pid)? as f64 / MIB)).collect()
}

/// Gives `busy` workers a task that holds its slot.
async fn hold(fleet: &Fleet, api: &mut Api, busy: usize) -> Result<Duration> {
    let began = Instant::now();
    client::submit(api, &loss::holding(busy), false).await?;
    until("a task on every worker that is to be busy", LIMIT, || {
        (fleet.holds() >= busy as u64).then_some(())
    })
    .await?;
    say(&format!("{busy} tasks placed and running after {:.2} s", began.elapsed().as_secs_f64()));
    Ok(began.elapsed())
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn percentiles(record: &mut Recorder, name: &str, sorted: &[f64], unit: &'static str) {
    say(&format!(
        "{name}: p50 {:.3} {unit}, p99 {:.3} {unit}, {} samples",
        median(sorted),
        percentile(sorted, 99),
        sorted.len()
    ));
    record.figure(format!("{name}_p50"), median(sorted), unit);
    record.figure(format!("{name}_p99"), percentile(sorted, 99), unit);
}

fn notes(args: &HerdArgs, busy: usize, lost: usize, record: &mut Recorder) {
    let connections = match args.connections {
        0 => "a connection for each session".to_owned(),
        count => format!("{count} connections to each member, shared by sessions"),
    };
    let tls = if args.tls { "mutual TLS" } else { "no TLS" };
    record.note(format!(
        "{} workers in one process, {busy} with a task while members die; {connections}, {tls}, fsync on",
        args.workers
    ));
    record.note(format!(
        "submit: one every {} ms whether answered or not; failover: those that began after the next leader's first write",
        PACE.as_millis()
    ));
    record.note(format!(
        "loss: machines gone without a word, {lost} of {} in one moment, to the start of the next attempt elsewhere",
        args.workers
    ));
}

/// Each session is an open file here and at a member.
fn raise_files(needed: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        hard >= needed,
        "{needed} open files are needed, at most {hard} are allowed (ulimit -Hn)\nhint: give --connections 4, and sessions share connections"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).context("cannot raise the limit of open files")
}
