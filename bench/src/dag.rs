//! `muster bench dag`: how fast readiness travels through a graph of tasks that do nothing.

use crate::cli::Env;
use crate::client;
use crate::cluster::Cluster;
use crate::jobs;
use crate::report::{Recorder, median, say};
use anyhow::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench dag --layers 100 --width 50")]
pub struct DagArgs {
    /// Layers of the first graph.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    layers: u32,
    /// Tasks of a layer.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    width: u32,
    /// Parents of a task, drawn from the layer before.
    #[arg(long, value_name = "N", default_value_t = 3)]
    parents: u32,
    /// Tasks between the first and the last of the second graph.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=90_000))]
    fan: u32,
    /// Cores that the worker offers: tasks at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Repetitions; the median is the result.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

pub async fn run(args: DagArgs, env: &Env<'_>, record: &mut Recorder) -> Result<()> {
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
    client::run_job(&mut api, &jobs::array(args.slots.min(64))).await?;
    let graphs = [
        ("layers", jobs::layers(args.layers, args.width, args.parents, env.options.seed)),
        ("fan", jobs::fan(args.fan)),
    ];
    for (name, job) in graphs {
        let mut seconds = Vec::new();
        for _ in 0..args.runs {
            seconds.push(client::run_job(&mut api, &job).await?);
            say(&format!("{name}: {:.2} s", seconds[seconds.len() - 1]));
        }
        record.figure(name, median(&seconds), "s");
    }
    record.note(format!(
        "layers: {} × {} tasks with {} parents; fan: 1 → {} → 1; {} slots, median of {} runs, submission to finish",
        args.layers, args.width, args.parents, args.fan, args.slots, args.runs
    ));
    record.note(format!("cgroup backend: {}", client::isolation(&mut api).await?));
    Ok(())
}
