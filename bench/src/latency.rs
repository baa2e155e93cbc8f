//! `muster bench latency`: one command on an idle cluster, by the command line and by a client that is already connected.

use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::jobs;
use crate::report::{Recorder, percentile};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs before the first that counts.
const WARM_UP: u32 = 5;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench latency -n 200")]
pub struct LatencyArgs {
    /// How often each is run.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
}

pub async fn run(args: LatencyArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let own = match &env.target {
        Some(_) => None,
        None => {
            let mut cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
            cluster.start_worker(4).await?;
            Some(cluster)
        }
    };
    let target = own.as_ref().map(Cluster::target).or(env.target.as_ref()).cloned().unwrap_or_default();
    let mut api = client::connect(&target).await?;
    if target.tls.is_some() {
        record.note("a cluster with TLS: only the connected client is measured");
    } else {
        let mut walls = Vec::new();
        for round in 0..args.count + WARM_UP {
            let mut command = match &own {
                Some(cluster) => cluster.command(),
                None => Command::new("/proc/self/exe"),
            };
            if own.is_none() {
                command.env("MUSTER_ADDRESS", target.addresses.join(",")).env("MUSTER_TOKEN", &target.token);
            }
            command
                .args(["run", "--", "/bin/true"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            let ms = tokio::task::spawn_blocking(move || timed(&mut command)).await??;
            if round >= WARM_UP {
                walls.push(ms);
            }
        }
        figures(record, "run", walls);
    }
    let job = jobs::single();
    let mut walls = Vec::new();
    for round in 0..args.count + WARM_UP {
        let seconds = client::run_job(&mut api, &job).await?;
        if round >= WARM_UP {
            walls.push(seconds * 1000.0);
        }
    }
    figures(record, "connected", walls);
    record.note(format!("cgroup backend: {}", client::isolation(&mut api).await?));
    record.note(format!(
        "run: `muster run -- /bin/true` from exec to exit; {} runs each, one after the other",
        args.count
    ));
    Ok(())
}

fn timed(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let output = command.output().context("cannot start this program")?;
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    if !output.status.success() {
        bail!(
            "`muster run -- /bin/true` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(ms)
}

fn figures(record: &mut Recorder, name: &str, mut ms: Vec<f64>) {
    ms.sort_by(f64::total_cmp);
    for percent in [50, 99] {
        record.figure(format!("{name}_p{percent}"), percentile(&ms, percent), "ms");
    }
}
