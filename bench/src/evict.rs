//! `muster bench evict`: a worker is said to go, its task saves and goes on elsewhere; and what a commit costs the members.
//!
//! Two real workers and one task that counts steps, saves at SIGUSR1 and then ends with 85. Each round the worker that has the task gets a
//! notice by a call. Measured: the notice → the program of the next attempt runs on the other worker, and of it what saving took, from the
//! signal to the committed checkpoint. Reading it is left in what is beyond, for the state is small. Lost steps are those that the task had
//! counted when it saved and the next attempt did not begin from. Left out: a cloud that says it, and a store across a network.

use crate::cli::Env;
use crate::client::{self, Api};
use crate::cluster::Cluster;
use crate::report::{Recorder, median, percentile, say};
use crate::simulated::{Conduct, Simulated};
use anyhow::{Context, Result, ensure};
use muster_core::view_doc::{AttemptDoc, JobDoc};
use muster_proto::api::{DrainRequest, GetRequest, NoticeRequest};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster bench evict\n  muster bench evict --count 100 --notice 5 --commits 0"
)]
pub struct EvictArgs {
    /// Notices, one after the other.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Seconds of each notice.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    notice: u64,
    /// Commits by each of the attempts whose commits are timed; 0: none.
    #[arg(long, value_name = "N", default_value_t = 100)]
    commits: u64,
    /// Attempts that commit at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    attempts: u32,
}

pub async fn run(args: EvictArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    if args.commits > 0 {
        let mut ms = commits(&args, env).await?;
        ms.sort_by(f64::total_cmp);
        record.figure("commit_p50", percentile(&ms, 50), "ms");
        record.figure("commit_p99", percentile(&ms, 99), "ms");
        record.note(format!(
            "commit: the report that a checkpoint is stored → the answer that it is in the log of three members; {} attempts at once, {} commits, fsync on",
            args.attempts,
            ms.len()
        ));
    }
    let rounds = evictions(&args, env).await?;
    let of = |pick: fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(pick).collect() };
    record.figure("resumed_p50", median(&of(|r| r.resumed)), "s");
    record.figure("beyond_p50", median(&of(|r| r.resumed - r.saving)), "s");
    record.figure("saving_p50", median(&of(|r| r.saving)), "s");
    record.figure("lost_steps", of(|r| r.lost).iter().sum(), "steps");
    record.note(format!(
        "{} notices of {} s; resumed: the call → the program of the next attempt runs on the other worker; beyond: without saving (signal → committed)",
        args.count, args.notice
    ));
    Ok(())
}

/// Milliseconds of each commit.
async fn commits(args: &EvictArgs, env: &Env<'_>) -> Result<Vec<f64>> {
    let cluster = Cluster::start(&env.dir, 3, env.options.keep).await?;
    let token = cluster.join_token_file();
    let conduct = Conduct::Saves(args.commits);
    let mut worker = Simulated::start("saver", cluster.target(), &token, args.attempts, conduct).await?;
    let job = json!({"name": "save", "tasks": {"t": {"run": ["/bin/true"], "array": format!("0-{}", args.attempts - 1)}}});
    let mut api = cluster.connect().await?;
    client::submit(&mut api, &job.to_string(), false).await?;
    worker.until_settled(u64::from(args.attempts)).await?;
    Ok(worker.commits())
}

struct Round {
    resumed: f64,
    saving: f64,
    lost: f64,
}

/// Counts steps; a file says the time and the step when it was asked to save, and when the commit was acknowledged.
fn script(dir: &Path) -> String {
    format!(
        r#"step=${{MUSTER_RESUME_STEP:-0}}
from=$step
save=
now() {{ date +%s.%N; }}
trap save=1 USR1
echo "began $(now) $from" >> {dir}/$MUSTER_ATTEMPT
while :; do
    if [ "$save" ]; then
        echo "asked $(now) $step" >> {dir}/$MUSTER_ATTEMPT
        mkdir "$MUSTER_CHECKPOINT_DIR/$step" && echo $step > "$MUSTER_CHECKPOINT_DIR/$step/state" || exit 1
        muster checkpoint commit "$MUSTER_CHECKPOINT_DIR/$step" --step $step || exit 1
        echo "saved $(now) $step" >> {dir}/$MUSTER_ATTEMPT
        exit 85
    fi
    step=$((step + 1))
    sleep 0.01
done"#,
        dir = dir.display()
    )
}

async fn evictions(args: &EvictArgs, env: &Env<'_>) -> Result<Vec<Round>> {
    let mut cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
    cluster.start_worker(1).await?;
    cluster.start_worker(1).await?;
    let marks = cluster.path("marks");
    std::fs::create_dir(&marks)?;
    let checkpoint = json!({"signal": "SIGUSR1", "grace": "20s"});
    let job = json!({"name": "count", "tasks": {"t": {"run": script(&marks), "checkpoint": checkpoint}}});
    let mut api = cluster.connect().await?;
    let job = client::submit(&mut api, &job.to_string(), false).await?.job;
    let mut rounds = Vec::new();
    for number in 1..=args.count {
        let first = running(&mut api, job, number).await?;
        let began = mark(&marks, number, "began").await?;
        // Some work that could be lost.
        tokio::time::sleep(Duration::from_millis(100 + u64::from(number % 7) * 30)).await;
        let notice = NoticeRequest {
            request_id: client::request_id(),
            worker: first.worker.clone(),
            kind: "preemption".to_owned(),
            in_ms: Some(args.notice * 1_000),
            detail: "muster bench evict".to_owned(),
            ..NoticeRequest::default()
        };
        let said = wall();
        api.notice(notice.clone()).await.context("the notice was refused")?;
        let next = running(&mut api, job, number + 1).await?;
        ensure!(next.worker != first.worker, "attempt {} runs on {}, which goes", number + 1, next.worker);
        let (asked, at_step) = mark(&marks, number, "asked").await?;
        let (saved, _) = mark(&marks, number, "saved").await?;
        let (resumed, from) = mark(&marks, number + 1, "began").await?;
        ensure!(
            from > began.1,
            "attempt {} began from step {from}, the one before from {}",
            number + 1,
            began.1
        );
        let round = Round { resumed: resumed - said, saving: saved - asked, lost: at_step - from };
        say(&format!(
            "notice {number}: resumed after {:.2} s, {:.2} s of it saving, {} steps lost",
            round.resumed, round.saving, round.lost
        ));
        rounds.push(round);
        // The machine stays after all.
        let withdrawn = NoticeRequest {
            request_id: client::request_id(),
            kind: "withdrawn".to_owned(),
            in_ms: None,
            ..notice
        };
        api.notice(withdrawn).await.context("the notice was not withdrawn")?;
        let undrain = DrainRequest {
            request_id: client::request_id(),
            worker: first.worker,
            ..DrainRequest::default()
        };
        let _ = api.undrain(undrain).await;
    }
    Ok(rounds)
}

fn wall() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The newest mark of this name that the attempt left: when, and at which step.
async fn mark(dir: &Path, attempt: u32, name: &str) -> Result<(f64, f64)> {
    let from = Instant::now();
    loop {
        let text = std::fs::read_to_string(dir.join(attempt.to_string())).unwrap_or_default();
        let found = text.lines().rev().find_map(|line| {
            let mut words = line.split(' ');
            let (word, at, step) = (words.next()?, words.next()?, words.next()?);
            (word == name).then_some((at.parse().ok()?, step.parse().ok()?))
        });
        if let Some(found) = found {
            return Ok(found);
        }
        ensure!(
            from.elapsed() < LIMIT,
            "attempt {attempt} left no mark `{name}` within {} s",
            LIMIT.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn document(api: &mut Api, job: u64) -> Result<JobDoc> {
    Ok(serde_json::from_str(&api.get_job(GetRequest { id: job.to_string() }).await?.into_inner().json)?)
}

async fn running(api: &mut Api, job: u64, number: u32) -> Result<AttemptDoc> {
    let from = Instant::now();
    loop {
        let document = document(api, job).await?;
        let mut attempts = document.tasks.iter().flat_map(|task| &task.attempts);
        if let Some(found) = attempts.find(|attempt| attempt.number == number && attempt.state == "running") {
            return Ok(found.clone());
        }
        ensure!(
            from.elapsed() < LIMIT,
            "attempt {number} did not run within {} s: {}",
            LIMIT.as_secs(),
            serde_json::to_string(&document.timeline).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
