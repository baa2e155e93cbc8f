//! What may be typed after `muster bench`, and the one function that runs it.

use crate::client::Target;
use crate::machine::Machine;
use crate::ranges::Ranges;
use crate::report::{Recorder, Report};
use crate::{
    apply, autoscale, dag, decide, dispatch, evict, failover, gangs, herd, latency, plan, raft, readopt,
    recover, replay_args, rolling, scale_in, store, submit,
};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measures this version on this machine, each verb on a temporary cluster of its own.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster bench dispatch\n  muster bench raft --output json\n  muster bench apply --check"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    options: Options,
}

/// What all verbs share.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How to print the figures.
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    /// What chance is drawn from.
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where the temporary cluster lies; a tmpfs would hide what fsync costs. Default: the system's temporary directory.
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Exit with 1 when a figure is outside its expected range (bench/ranges/).
    #[arg(long, global = true)]
    pub check: bool,
    /// Leave the cluster's directory and its logs behind, and say where.
    #[arg(long, global = true)]
    pub keep: bool,
}

/// How figures are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns, for people.
    Table,
    /// The document, for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tasks that exec /bin/true through one worker, beside a bare loop of spawn and wait.
    Dispatch(dispatch::DispatchArgs),
    /// One command from start to exit, and through a client that is already connected.
    Latency(latency::LatencyArgs),
    /// Layers of tasks with random parents, and one task before and after thousands.
    Dag(dag::DagArgs),
    /// Large submissions: time to acceptance, memory and bytes written.
    Submit(submit::SubmitArgs),
    /// Commands applied by the core alone, on one core.
    Apply(apply::ApplyArgs),
    /// Gangs of 2 to 128 workers on a topology of three levels: time of one plan.
    Gangs(gangs::GangsArgs),
    /// Acknowledged small commands a second through three members, beside etcd where it is installed.
    Raft(raft::RaftArgs),
    /// Thousands of workers without programs: at rest, when members die, and when many of them are lost.
    Herd(herd::HerdArgs),
    /// The leader is killed again and again: how long nothing is acknowledged, beside etcd where it is installed.
    Failover(failover::FailoverArgs),
    /// Submissions while all three members are restarted one after the other.
    Rolling(rolling::RollingArgs),
    /// Cold start, online backup and restore of a cluster with a million tasks.
    Recover(recover::RecoverArgs),
    /// A worker's agent is killed and started again while its tasks run.
    Readopt(readopt::ReadoptArgs),
    /// Preemption notices: how long until the task goes on elsewhere, and what a commit of a checkpoint costs.
    Evict(evict::EvictArgs),
    /// The scheduler alone: decisions a second with 10,000 workers of 8 GPUs and 100,000 ready tasks.
    Plan(plan::PlanArgs),
    /// What a stream of tasks costs and waits when Muster says which machines are there, beside other rules: on published traces.
    Autoscale(autoscale::AutoscaleArgs),
    /// One autoscaling decision for 10,000 waiting tasks over 50 pools: how long it takes.
    Decide(decide::DecideArgs),
    /// 1,000 machines are taken away while tasks run and save on them: how much work is lost.
    ScaleIn(scale_in::ScaleInArgs),
    /// Files to the store and back, beside cp or one plain stream.
    Store(store::StoreArgs),
    /// A published trace: of GPU tasks, and how many GPUs stay unused; or of spot availability, and what work on it costs and loses.
    Replay(replay_args::ReplayArgs),
}

/// What a benchmark printed, and whether it may end with success.
#[derive(Debug)]
pub struct Finished {
    /// For stdout.
    pub text: String,
    /// False when `--check` found a figure outside its range.
    pub passed: bool,
}

/// Runs one benchmark; `target` is a cluster that is there already (`--context`), else a temporary one is made.
///
/// # Errors
/// A cluster that does not start or a job that does not succeed: a benchmark never reports figures of a run that failed.
pub fn run(args: BenchArgs, target: Option<Target>) -> Result<Finished> {
    let BenchArgs { verb, options } = args;
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let name = verb.name();
    if target.is_some() && !verb.takes_a_cluster() {
        bail!(
            "`muster bench {name}` measures processes that it starts itself; leave --context and --address out"
        );
    }
    if let Verb::Replay(args) = &verb {
        return Ok(Finished { text: replay_args::run(args, &options)?, passed: true });
    }
    if let Verb::Autoscale(args) = &verb {
        return Ok(Finished { text: autoscale::run(args, &options)?, passed: true });
    }
    let machine = Machine::read(&dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    let mut recorder = Recorder::new();
    if machine.filesystem == "tmpfs" {
        recorder
            .note("the data directories are on tmpfs: fsync costs nothing there; choose a disk with --dir");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let env = Env { options: &options, target, dir };
    match verb {
        Verb::Dispatch(args) => runtime.block_on(dispatch::run(args, &env, &mut recorder)),
        Verb::Latency(args) => runtime.block_on(latency::run(args, &env, &mut recorder)),
        Verb::Dag(args) => runtime.block_on(dag::run(args, &env, &mut recorder)),
        Verb::Submit(args) => runtime.block_on(submit::run(args, &env, &mut recorder)),
        Verb::Apply(args) => apply::run(args, &mut recorder),
        Verb::Gangs(args) => gangs::run(args, options.seed, &mut recorder),
        Verb::Raft(args) => runtime.block_on(raft::run(args, &env, &mut recorder)),
        Verb::Herd(args) => runtime.block_on(herd::run(args, &env, &mut recorder)),
        Verb::Failover(args) => local.block_on(&runtime, failover::run(args, &env, &mut recorder)),
        Verb::Rolling(args) => local.block_on(&runtime, rolling::run(args, &env, &mut recorder)),
        Verb::Recover(args) => local.block_on(&runtime, recover::run(args, &env, &mut recorder)),
        Verb::Readopt(args) => runtime.block_on(readopt::run(args, &env, &mut recorder)),
        Verb::Evict(args) => runtime.block_on(evict::run(args, &env, &mut recorder)),
        Verb::Plan(args) => plan::run(&args, options.seed, &mut recorder),
        Verb::Store(args) => runtime.block_on(store::run(args, &env, &mut recorder)),
        Verb::Decide(args) => decide::run(&args, options.seed, &mut recorder),
        Verb::ScaleIn(args) => scale_in::run(&args, options.seed, &mut recorder),
        Verb::Replay(_) | Verb::Autoscale(_) => Ok(()),
    }?;
    let ranges = Ranges::of(name)?;
    let report = Report::new(name, options.seed, machine, recorder, &ranges);
    let passed = !options.check || report.is_expected();
    let text = match options.output {
        Output::Table => report.table(),
        Output::Json => report.json()?,
    };
    Ok(Finished { text, passed })
}

/// What a verb runs in.
pub struct Env<'a> {
    pub options: &'a Options,
    /// A cluster that is there already.
    pub target: Option<Target>,
    /// Where temporary clusters lie.
    pub dir: PathBuf,
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Dispatch(_) => "dispatch",
            Self::Latency(_) => "latency",
            Self::Dag(_) => "dag",
            Self::Submit(_) => "submit",
            Self::Apply(_) => "apply",
            Self::Gangs(_) => "gangs",
            Self::Raft(_) => "raft",
            Self::Herd(_) => "herd",
            Self::Failover(_) => "failover",
            Self::Rolling(_) => "rolling",
            Self::Recover(_) => "recover",
            Self::Readopt(_) => "readopt",
            Self::Evict(_) => "evict",
            Self::Plan(_) => "plan",
            Self::Store(_) => "store",
            Self::Replay(_) => "replay",
            Self::Autoscale(_) => "autoscale",
            Self::Decide(_) => "decide",
            Self::ScaleIn(_) => "scale-in",
        }
    }

    fn takes_a_cluster(&self) -> bool {
        matches!(self, Self::Dispatch(_) | Self::Latency(_) | Self::Dag(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
        let line = Line::try_parse_from(["x", "dispatch", "--tasks", "10", "--check", "-o", "json"]);
        assert!(line.is_ok_and(|line| line.bench.options.check && line.bench.options.output == Output::Json));
    }
}
