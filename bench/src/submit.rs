//! `muster bench submit`: large jobs: seconds to acceptance, memory of the member above idle, bytes written an index.
//!
//! Each case has a member of its own, so that one does not pay for another. No worker: everything stays pending.

use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::jobs;
use crate::procfs;
use crate::report::{Recorder, say};
use crate::simulated::{Conduct, Simulated};
use anyhow::{Context, Result, bail, ensure};
use muster_core::view_doc::JobDoc;
use muster_proto::api::{DrainRequest, GetRequest};
use std::process::Stdio;
use std::time::Instant;

const MIB: f64 = (1 << 20) as f64;
const WORKER: &str = "simulated";

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench submit --running")]
pub struct SubmitArgs {
    /// Also let 900,000 of the 1,000,000 indices end, through a simulated worker.
    #[arg(long)]
    running: bool,
    /// Slots of the simulated worker.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    slots: u32,
}

pub async fn run(args: SubmitArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    for (name, count) in [("array_100k", 100_000), ("array_1m", 1_000_000)] {
        let cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
        let mut api = cluster.connect().await?;
        let idle = procfs::rss(cluster.member_pid())?;
        let job = jobs::array(count);
        let started = Instant::now();
        let reply = client::submit(&mut api, &job, false).await?;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(reply.indices == u64::from(count), "{} of {count} indices were accepted", reply.indices);
        say(&format!("{name}: {seconds:.3} s"));
        record.figure(format!("{name}_accepted"), seconds, "s");
        record.figure(format!("{name}_memory"), above(&cluster, idle)?, "MiB");
    }
    for (name, file) in [("explicit_100k", "job.json"), ("explicit_100k_yaml", "job.yaml")] {
        let text =
            if name == "explicit_100k" { jobs::explicit(100_000) } else { jobs::explicit_yaml(100_000) };
        explicit(name, file, &text, env, record).await?;
    }
    if args.running {
        running(&args, env, record).await?;
    }
    record.note("memory: resident memory of the one member above what it had before the submission; accepted: until it is on disk");
    record.note(
        "explicit: `muster submit FILE` from exec to exit, 100,000 tasks, a file of JSON and one of YAML",
    );
    Ok(())
}

fn above(cluster: &Cluster, idle: u64) -> Result<f64> {
    Ok(procfs::rss(cluster.member_pid())?.saturating_sub(idle) as f64 / MIB)
}

/// A file of 100,000 tasks through the command line.
async fn explicit(name: &str, file: &str, text: &str, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
    let idle = procfs::rss(cluster.member_pid())?;
    let path = cluster.path(file);
    std::fs::write(&path, text)?;
    let mut command = cluster.command();
    command.arg("submit").arg(&path).stdin(Stdio::null());
    let started = Instant::now();
    let output =
        tokio::task::spawn_blocking(move || command.output()).await?.context("cannot start this program")?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!(
            "`muster submit {file}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    say(&format!("{name}: {seconds:.3} s"));
    record.figure(format!("{name}_accepted"), seconds, "s");
    record.figure(format!("{name}_memory"), above(&cluster, idle)?, "MiB");
    Ok(())
}

/// 900,000 of 1,000,000 indices end; then the worker is drained, and what the member holds and wrote is read.
async fn running(args: &SubmitArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
    let mut api = cluster.connect().await?;
    let pid = cluster.member_pid();
    let idle = procfs::rss(pid)?;
    let mut worker =
        Simulated::start(WORKER, cluster.target(), &cluster.join_token_file(), args.slots, Conduct::Ends)
            .await?;
    let before = procfs::written(pid)?;
    let started = Instant::now();
    let job = client::submit(&mut api, &jobs::array(1_000_000), false).await?.job;
    for tenth in 1..=9 {
        worker.until_settled(tenth * 100_000).await?;
        say(&format!("running: {tenth}00,000 ended after {:.1} s", started.elapsed().as_secs_f64()));
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = 900_000.0 / seconds;
    let request = DrainRequest {
        request_id: client::request_id(),
        worker: WORKER.to_owned(),
        deadline_ms: None,
        reason: "bench".to_owned(),
        user: "bench".to_owned(),
    };
    api.drain(request).await.context("cannot drain")?;
    let ended = loop {
        let drained = client::workers(&mut api).await?.workers.iter().any(|worker| worker.state == "drained");
        if drained {
            let document = api.get_job(GetRequest { id: job.to_string() }).await?.into_inner().json;
            break serde_json::from_str::<JobDoc>(&document)?.counts.succeeded;
        }
        let settled = *worker.settled.borrow();
        tokio::select! {
            done = worker.until_settled(settled + 1) => done?,
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
        }
    };
    ensure!(ended >= 900_000, "{ended} indices succeeded");
    record.figure("running_rate", rate, "indices/s");
    record.figure("running_memory", above(&cluster, idle)?, "MiB");
    record.figure("running_bytes_per_index", (procfs::written(pid)? - before) as f64 / ended as f64, "bytes");
    record.note(format!(
        "running: {ended} of 1,000,000 indices ended through a simulated worker of {} slots, then drained",
        args.slots
    ));
    Ok(())
}
