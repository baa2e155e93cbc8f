//! `muster bench recover`: a member with many tasks starts; they are backed up while jobs are submitted, and restored.
//!
//! Of the tasks a fifth are explicit (jobs of 20,000, all pending), four fifths are the indices of one array of which half have ended through a
//! simulated worker and half are pending.

use crate::cli::Env;
use crate::client;
use crate::cluster::{Cluster, Daemon, free_address, until};
use crate::failover::Clients;
use crate::jobs;
use crate::report::{Recorder, median, percentile, say};
use crate::rolling::submissions;
use crate::simulated::{Conduct, Simulated};
use anyhow::{Context, Result, ensure};
use muster_core::view_doc::JobsDoc;
use muster_proto::api::{DrainRequest, ListJobsRequest};
use nix::sys::signal::Signal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
/// Of one job of explicit tasks.
const EXPLICIT: u32 = 20_000;
const WORKER: &str = "simulated";
/// Submissions are looked at for this long before the backups, and for at least as long as [`COVERED`] during them: 400 at one every 5 ms.
const QUIET: Duration = Duration::from_secs(10);
const COVERED: Duration = Duration::from_secs(2);
/// Slots of the simulated worker.
const SLOTS: u32 = 1_024;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench recover --tasks 1000000")]
pub struct RecoverArgs {
    /// Tasks that the cluster holds.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    tasks: u32,
    /// Cold starts of a member.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    starts: u32,
    /// Backups while jobs are submitted, at least.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    backups: u32,
    /// Restores into new clusters.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    restores: u32,
}

pub async fn run(args: RecoverArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let mut cluster = Cluster::start(&env.dir, MEMBERS, env.options.keep).await?;
    let indices = fill(&mut cluster, args.tasks).await?;
    cold_starts(&mut cluster, &args, record).await?;
    let file = backups(&cluster, &args, record).await?;
    restores(&cluster, &args, &file, indices, record).await?;
    record.note(format!(
        "{indices} tasks in {MEMBERS} members: a fifth explicit and pending, the rest one array, half of it ended; cold: SIGKILL, the \
         process anew, the files in the page cache"
    ));
    Ok(())
}

/// Returns how many there are.
async fn fill(cluster: &mut Cluster, tasks: u32) -> Result<u64> {
    let mut api = cluster.connect().await?;
    let started = Instant::now();
    let explicit = tasks / 5;
    for from in (0..explicit).step_by(EXPLICIT as usize) {
        client::submit(&mut api, &jobs::explicit(EXPLICIT.min(explicit - from)), true).await?;
    }
    let array = tasks - explicit;
    client::submit(&mut api, &jobs::array(array), false).await?;
    let mut worker =
        Simulated::start(WORKER, cluster.target(), &cluster.join_token_file(), SLOTS, Conduct::Ends).await?;
    worker.until_settled(u64::from(array / 2)).await?;
    let drain = DrainRequest {
        request_id: client::request_id(),
        worker: WORKER.to_owned(),
        deadline_ms: None,
        reason: "bench".to_owned(),
        user: "bench".to_owned(),
    };
    api.drain(drain).await.context("cannot drain")?;
    loop {
        if client::workers(&mut api).await?.workers.iter().any(|worker| worker.state == "drained") {
            break;
        }
        let settled = *worker.settled.borrow();
        tokio::select! {
            done = worker.until_settled(settled + 1) => done?,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    let total = indices(&mut api).await?;
    ensure!(total == u64::from(tasks), "the cluster holds {total} of {tasks} tasks");
    say(&format!("{total} tasks after {:.1} s", started.elapsed().as_secs_f64()));
    Ok(total)
}

async fn indices(api: &mut client::Api) -> Result<u64> {
    let document = api.list_jobs(ListJobsRequest::default()).await?.into_inner().json;
    Ok(serde_json::from_str::<JobsDoc>(&document)?.jobs.iter().map(|job| job.tasks.total).sum())
}

/// A follower: from the exec of its process to the first read that sees everything.
async fn cold_starts(cluster: &mut Cluster, args: &RecoverArgs, record: &mut Recorder) -> Result<()> {
    let mut seconds = Vec::new();
    for round in 1..=args.starts {
        let leader = cluster.leader().await?;
        let follower = leader % MEMBERS + 1;
        cluster.end_member(follower, Signal::SIGKILL).await?;
        let from = Instant::now();
        cluster.start_again(follower)?;
        cluster.until_serving(follower).await?;
        seconds.push(from.elapsed().as_secs_f64());
        say(&format!("cold start {round}: {:.2} s", seconds[seconds.len() - 1]));
    }
    record.figure("cold_start", median(&seconds), "s");
    record.figure("cold_start_longest", seconds.iter().copied().fold(0.0, f64::max), "s");
    Ok(())
}

/// A job is submitted every 5 ms: the p99 in ten seconds before, and while backups are taken.
async fn backups(cluster: &Cluster, args: &RecoverArgs, record: &mut Recorder) -> Result<std::path::PathBuf> {
    let pace = submissions(&Clients::of(cluster), &Arc::default(), None, Duration::from_millis(5));
    pace.until_flowing(Instant::now()).await?;
    let file = |round: u32| cluster.path(&format!("backup-{round}"));
    let (mut seconds, mut windows) = (Vec::new(), Vec::new());
    let before = Instant::now();
    tokio::time::sleep(QUIET).await;
    let mut covered = Duration::ZERO;
    // So many backups that a p99 of what was submitted meanwhile says something.
    for round in 1.. {
        if round > args.backups && covered >= COVERED {
            break;
        }
        let from = Instant::now();
        cluster.run(&["cluster", "backup", &file(round).display().to_string()]).await?;
        let to = Instant::now();
        say(&format!("backup {round}: {:.2} s", (to - from).as_secs_f64()));
        covered += to - from;
        seconds.push((to - from).as_secs_f64());
        windows.push((from, to));
    }
    pace.until_answered().await;
    ensure!(pace.failed().is_empty(), "a submission failed: {}", pace.failed().join(", "));
    let quiet = pace.latencies(before, before + QUIET);
    let mut during: Vec<f64> = windows.iter().flat_map(|(from, to)| pace.latencies(*from, *to)).collect();
    during.sort_by(f64::total_cmp);
    let bytes = std::fs::metadata(file(1))?.len();
    record.figure("backup", median(&seconds), "s");
    record.figure("backup_size", bytes as f64 / f64::from(1 << 20), "MiB");
    record.figure("submit_p99_before", percentile(&quiet, 99), "ms");
    record.figure("submit_p99_during", percentile(&during, 99), "ms");
    record.figure("submit_p99_ratio", percentile(&during, 99) / percentile(&quiet, 99), "ratio");
    record.note(format!("{} submissions before and {} during the backups", quiet.len(), during.len()));
    Ok(file(1))
}

/// A new cluster of one member: from the exec of `muster cluster restore` to the first read.
async fn restores(
    cluster: &Cluster,
    args: &RecoverArgs,
    file: &Path,
    expected: u64,
    record: &mut Recorder,
) -> Result<()> {
    let mut seconds = Vec::new();
    for round in 1..=args.restores {
        let (dir, address) = (cluster.path(&format!("restored-{round}")), free_address()?);
        let from = Instant::now();
        let (file, data) = (file.display().to_string(), dir.display().to_string());
        cluster.run(&["cluster", "restore", &file, "--data-dir", &data, "--listen", &address]).await?;
        let mut command = cluster.command();
        command.args(["coordinator", "--data-dir", &data, "--listen", &address]);
        let log = cluster.path(&format!("restored-{round}.log"));
        let mut member = [Daemon::start("the restored member", command, log)?];
        let token = std::fs::read_to_string(dir.join("secrets/user-token")).context("no user token")?;
        let target =
            client::Target { addresses: vec![address.clone()], token: token.trim().to_owned(), tls: None };
        let found = until("a restored member that serves reads", &mut member, async || {
            let mut api = client::connect_to(&target, &address).await.ok()?;
            indices(&mut api).await.ok()
        })
        .await?;
        seconds.push(from.elapsed().as_secs_f64());
        // Besides those that were submitted while the backup began.
        ensure!(found >= expected, "{found} of {expected} tasks came back");
        say(&format!("restore {round}: {:.2} s", seconds[seconds.len() - 1]));
    }
    record.figure("restore", median(&seconds), "s");
    Ok(())
}
