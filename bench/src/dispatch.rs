//! `muster bench dispatch`: an array of tasks that exec `/bin/true` through one worker, beside the bare loop.

use crate::bare;
use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::jobs;
use crate::report::{Recorder, median, say};
use anyhow::Result;

/// Threads of the bare loop.
const BARE_THREADS: usize = 2;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench dispatch --tasks 10000 --slots 64")]
pub struct DispatchArgs {
    /// Indices of the array, each an exec of /bin/true.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: u32,
    /// Cores that the worker offers: tasks at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Repetitions; the median is the result.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

pub async fn run(args: DispatchArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
    let own = match &env.target {
        Some(_) => None,
        None => {
            let mut cluster = Cluster::start(&env.dir, 1, env.options.keep).await?;
            cluster.start_worker(args.slots).await?;
            Some(cluster)
        }
    };
    let target = own.as_ref().map(Cluster::target).or(env.target.as_ref()).cloned().unwrap_or_default();
    let mut api = client::connect(&target).await?;
    // The first task of a worker starts its shim; that is not what is measured.
    client::run_job(&mut api, &jobs::array(args.slots.min(64))).await?;
    let job = jobs::array(args.tasks);
    let count = f64::from(args.tasks);
    let (mut rates, mut bare_rates, mut shares, mut cpus, mut bare_cpus) =
        (vec![], vec![], vec![], vec![], vec![]);
    for round in 1..=args.runs {
        let bare =
            tokio::task::spawn_blocking(move || bare::spawn_and_wait(args.tasks, BARE_THREADS)).await??;
        let before = own.as_ref().map(Cluster::cpu_ms).transpose()?;
        let seconds = client::run_job(&mut api, &job).await?;
        let after = own.as_ref().map(Cluster::cpu_ms).transpose()?;
        rates.push(count / seconds);
        bare_rates.push(count / bare.seconds);
        shares.push(bare.seconds / seconds);
        bare_cpus.push(bare.cpu_ms / count);
        if let (Some(before), Some(after)) = (before, after) {
            cpus.push((after - before) / count);
        }
        say(&format!("run {round}: {:.0} tasks/s, bare {:.0}/s", count / seconds, count / bare.seconds));
    }
    record.figure("tasks", median(&rates), "tasks/s");
    record.figure("bare_loop", median(&bare_rates), "spawns/s");
    record.figure("share_of_bare_loop", median(&shares), "ratio");
    if !cpus.is_empty() {
        record.figure("cpu_per_task", median(&cpus), "ms");
    }
    record.figure("bare_cpu_per_task", median(&bare_cpus), "ms");
    record.note(format!("cgroup backend: {}", client::isolation(&mut api).await?));
    record
        .note(format!("{} tasks, {} slots, median of {} runs, fsync on", args.tasks, args.slots, args.runs));
    Ok(())
}
