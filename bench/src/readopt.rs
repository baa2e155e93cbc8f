//! `muster bench readopt`: the agent is killed and started again while tasks run; they have to go on under the next one.

use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::report::{Recorder, say};
use anyhow::{Context, Result};
use muster_core::model::lease::LEADER_LEASE_MS;
use muster_core::view_doc::JobDoc;
use muster_proto::api::GetRequest;
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench readopt --tasks 100")]
pub struct ReadoptArgs {
    /// Tasks that run when the agent is killed.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    tasks: u32,
    /// How often, each with tasks of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
}

pub async fn run(args: ReadoptArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let mut cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
    cluster.start_worker(args.tasks).await?;
    let (mut adopted, mut restarted, mut away) = (0, 0, Vec::new());
    for round in 1..=args.runs {
        let found = once(&mut cluster, args.tasks, round).await?;
        say(&format!(
            "run {round}: {} of {} re-adopted, {} restarted",
            found.adopted, args.tasks, found.restarted
        ));
        adopted += found.adopted;
        restarted += found.restarted;
        away.push(found.away);
    }
    let tasks = f64::from(args.tasks * args.runs);
    record.figure("adopted_share", f64::from(adopted) / tasks, "ratio");
    record.figure("restarted", f64::from(restarted), "tasks");
    record.figure("agent_away", away.iter().copied().fold(0.0, f64::max), "ms");
    record.note(format!(
        "{} tasks in {} runs; adopted: the same process goes on for longer than a lease and its own attempt, the first, succeeds",
        tasks, args.runs
    ));
    Ok(())
}

struct Round {
    adopted: u32,
    restarted: u32,
    away: f64,
}

async fn once(cluster: &mut Cluster, tasks: u32, round: u32) -> Result<Round> {
    let (marks, go) = (cluster.path(&format!("marks-{round}")), cluster.path(&format!("go-{round}")));
    std::fs::create_dir(&marks)?;
    // Each process leaves one file, named by its pid: a second one of an index is a restart.
    let script = format!(
        "touch {}/$MUSTER_INDEX-$$; while [ ! -e {} ]; do sleep 0.5; done",
        marks.display(),
        go.display()
    );
    let job = json!({
        "name": "readopt",
        "tasks": {"t": {"run": script, "array": format!("0-{}", tasks - 1), "retry": {"attempts": 4}}},
    });
    let mut api = cluster.connect().await?;
    let job = client::submit(&mut api, &job.to_string(), false).await?.job;
    until(async || Ok(document(&mut api, job).await?.counts.running == u64::from(tasks))).await?;
    let before = processes(&marks)?;
    let from = Instant::now();
    cluster.end_worker(1, Signal::SIGKILL).await?;
    cluster.start_worker_again(1, tasks).await?;
    let away = from.elapsed().as_secs_f64() * 1000.0;
    // Were the leases not renewed by the new agent, the shim would kill and the leader would grant again within this time.
    tokio::time::sleep(Duration::from_millis(LEADER_LEASE_MS + 1_000)).await;
    let after = processes(&marks)?;
    std::fs::write(&go, "")?;
    client::until_succeeded(&mut api, job).await?;
    let ended = document(&mut api, job).await?;
    let attempts = ended.tasks.iter().flat_map(|task| &task.attempts);
    let again = attempts.filter(|attempt| attempt.number > 1).count();
    let restarted = after.difference(&before).count().max(again);
    Ok(Round {
        adopted: tasks.saturating_sub(u32::try_from(restarted)?),
        restarted: u32::try_from(restarted)?,
        away,
    })
}

fn processes(marks: &std::path::Path) -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(marks).with_context(|| format!("cannot read {}", marks.display()))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

async fn document(api: &mut client::Api, job: u64) -> Result<JobDoc> {
    Ok(serde_json::from_str(&api.get_job(GetRequest { id: job.to_string() }).await?.into_inner().json)?)
}

async fn until(mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let from = Instant::now();
    while !reached().await? {
        anyhow::ensure!(from.elapsed() < Duration::from_secs(60), "the tasks did not run within 60 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
