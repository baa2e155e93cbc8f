//! `muster bench plan`: the scheduler alone, in this process, on one core: a queue of tasks that ask for what those of the openb trace ask
//! for, planned onto workers with 8 GPUs each, cycle by cycle, each applied before the next. Only planning is counted.

use crate::report::{Recorder, say};
use anyhow::{Result, bail};
use muster_core::command::{Command, Request};
use muster_core::model::ids::TaskNo;
use muster_core::model::job_spec::{JobSpec, Run, TaskCommon, TaskSpec};
use muster_core::model::resources::{GpuAmount, GpuRequest, Resources};
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::model::worker::{Device, Incarnation, WorkerSpec};
use muster_core::reply::Reply;
use muster_core::scheduler::{Policy, View, plan};
use muster_core::spec::SpecBytes;
use muster_core::state::{Delta, Entry, State};
use std::collections::BTreeMap;
use std::time::Instant;

/// Tasks of one job.
const JOB: u64 = 100;

/// The 30 most frequent shapes of the trace's default list and, each as one shape, its tasks of 8 and of 4 GPUs: 86 % of it. How many,
/// milli-CPUs, MiB, GPUs, thousandths of each.
const SHAPES: [(u64, u64, u64, u32, u16); 32] = [
    (1047, 3152, 5600, 1, 810),
    (857, 11300, 49152, 1, 1000),
    (534, 11400, 48128, 1, 1000),
    (470, 3152, 5600, 1, 1000),
    (388, 11908, 47104, 1, 470),
    (364, 12500, 57344, 0, 0),
    (360, 8000, 30517, 1, 470),
    (284, 32000, 49152, 0, 0),
    (255, 18708, 64512, 1, 1000),
    (237, 11908, 47104, 1, 650),
    (195, 9810, 41560, 1, 1000),
    (163, 8000, 30517, 0, 0),
    (158, 15700, 58368, 1, 1000),
    (158, 12000, 24576, 1, 1000),
    (153, 11908, 47104, 1, 1000),
    (120, 15400, 51200, 0, 0),
    (111, 4000, 22888, 1, 320),
    (108, 16000, 32768, 1, 1000),
    (104, 8000, 16384, 1, 1000),
    (104, 4000, 24576, 1, 1000),
    (99, 12000, 16384, 1, 1000),
    (95, 16500, 51200, 0, 0),
    (93, 14200, 58368, 1, 1000),
    (84, 4000, 30517, 1, 230),
    (84, 24200, 93184, 1, 1000),
    (78, 4000, 15258, 1, 320),
    (75, 3152, 5600, 1, 590),
    (72, 8000, 30517, 1, 320),
    (72, 4152, 10600, 1, 550),
    (65, 11400, 77824, 1, 1000),
    (44, 88000, 327_680, 8, 1000),
    (15, 32200, 132_096, 4, 1000),
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench plan --workers 10000 --tasks 100000")]
pub struct PlanArgs {
    /// Workers, of 8 GPUs and 128 CPUs each.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    workers: u64,
    /// Ready tasks.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    tasks: u64,
}

/// # Errors
/// A state that refuses what was planned.
pub fn run(args: &PlanArgs, seed: u64, record: &mut Recorder) -> Result<()> {
    let base = measure(args.workers, args.tasks, seed)?;
    say(&format!("{} workers, {} tasks: {:.1} us a decision", args.workers, args.tasks, base.us));
    let workers = measure(args.workers * 2, args.tasks, seed)?;
    say(&format!("twice the workers: {:.1} us a decision", workers.us));
    let queue = measure(args.workers, args.tasks * 2, seed)?;
    say(&format!("twice the queue: {:.1} us a decision", queue.us));
    record.figure("decisions", 1e6 / base.us, "decisions/s");
    record.figure("us_per_decision", base.us, "us");
    record.figure("cycle_p99", base.cycle_p99_ms, "ms");
    record.figure("doubled_workers", workers.us / base.us, "ratio");
    record.figure("doubled_queue", queue.us / base.us, "ratio");
    record.note(format!(
        "{} of {} tasks were placed on {} workers; with twice the queue {} of {}; the first cycle of a new leader took {:.0} ms",
        base.placed,
        args.tasks,
        args.workers,
        queue.placed,
        args.tasks * 2,
        base.first_ms
    ));
    Ok(())
}

/// What one round of planning came to.
struct Measured {
    /// Of one placement.
    us: f64,
    cycle_p99_ms: f64,
    first_ms: f64,
    placed: usize,
}

/// A state and the leader's view of it.
struct Cluster {
    state: State,
    view: View,
    index: u64,
}

impl Cluster {
    fn apply(&mut self, command: &Command) -> (Reply, Delta) {
        self.index += 1;
        let stamp = Stamp { wall: Wall(self.index.cast_signed()), tick: Tick(self.index) };
        let applied = self.state.apply(Entry { index: self.index, stamp, command });
        (applied.reply, self.state.delta(&applied.changes))
    }
}

fn measure(workers: u64, tasks: u64, seed: u64) -> Result<Measured> {
    let mut cluster = Cluster { state: State::new(), view: View::default(), index: 0 };
    for number in 0..workers {
        let incarnation = Incarnation("bench".to_owned());
        let register = Command::Register { spec: Box::new(worker(number)), incarnation, held: Vec::new() };
        let (Reply::Registered { .. }, _) = cluster.apply(&register) else { bail!("a worker was refused") };
    }
    let mut chance = seed;
    for number in 0..tasks.div_ceil(JOB) {
        let request = Request { id: format!("bench-{number}"), user: "bench".to_owned() };
        let spec = SpecBytes::encode(&job(JOB.min(tasks - number * JOB), &mut chance));
        let submit = Command::Submit { request, spec, parts: 0, forecast_micro_usd: None };
        let (Reply::Submitted { .. }, _) = cluster.apply(&submit) else { bail!("a job was refused") };
    }
    cluster.view.learn(cluster.state.full_delta());
    let ids: Vec<_> = cluster.state.workers().map(|worker| worker.id).collect();
    ids.into_iter().for_each(|id| cluster.view.set_connected(id, true));
    let (mut cycles, mut placed) = (Vec::new(), 0);
    loop {
        let started = Instant::now();
        let plan = plan(&mut cluster.view, Tick(cluster.index), &Policy::default());
        let took = started.elapsed().as_secs_f64();
        if plan.placements.is_empty() {
            break;
        }
        cycles.push(took);
        placed += plan.placements.len();
        cluster.view.take(&plan.placements);
        let (reply, delta) = cluster.apply(&Command::ApplyPlan { placements: plan.placements });
        match reply {
            Reply::Placed { refused: 0, .. } => cluster.view.learn(delta),
            other => bail!("the state did not take the plan: {other:?}"),
        }
    }
    let total: f64 = cycles.iter().sum();
    let first_ms = cycles.first().copied().unwrap_or_default() * 1e3;
    cycles.sort_by(f64::total_cmp);
    let p99 = cycles.get((cycles.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    Ok(Measured { us: total * 1e6 / placed.max(1) as f64, cycle_p99_ms: p99 * 1e3, first_ms, placed })
}

fn worker(number: u64) -> WorkerSpec {
    let name = format!("w{number:06}");
    let device = |n: u32| Device {
        uuid: format!("{name}-{n}"),
        model: "H100-80GB".to_owned(),
        memory: 80 << 30,
        compute_capability: 90,
        simulated: true,
        ..Device::default()
    };
    WorkerSpec {
        cpu_milli: 128_000,
        memory: 1 << 40,
        disk: 1 << 42,
        devices: (0..8).map(device).collect(),
        name,
        ..WorkerSpec::default()
    }
}

/// A job of so many tasks, each of a shape drawn by its frequency.
fn job(tasks: u64, chance: &mut u64) -> JobSpec {
    let all: u64 = SHAPES.iter().map(|shape| shape.0).sum();
    let mut commons: Vec<TaskCommon> = Vec::new();
    let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
    let mut drawn = |commons: &mut Vec<TaskCommon>| {
        *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut left = (*chance >> 33) % all;
        let shape = SHAPES.iter().position(|shape| {
            let found = left < shape.0;
            left = left.saturating_sub(shape.0);
            found
        });
        let shape = shape.unwrap_or(0);
        *numbers.entry(shape).or_insert_with(|| {
            commons.push(TaskCommon { resources: resources(shape), ..TaskCommon::default() });
            commons.len() as u32 - 1
        })
    };
    let task = |(no, common): (u64, u32)| TaskSpec {
        name: format!("t{}", TaskNo(no as u32)).into(),
        run: Run::Exec(["true"].into_iter().collect()),
        needs: Box::default(),
        common,
        extra: None,
    };
    let tasks = (0..tasks).map(|no| (no, drawn(&mut commons))).map(task).collect();
    JobSpec {
        name: "bench".to_owned(),
        queue: "default".to_owned(),
        priority: 50,
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        workdir: None,
        params: BTreeMap::new(),
        compat_slurm: false,
        budget: None,
        commons,
        tasks,
    }
}

/// How many shapes there are.
pub fn shapes() -> usize {
    SHAPES.len()
}

/// What a task of the shape asks for.
pub fn resources(shape: usize) -> Resources {
    let (_, cpu_milli, mib, devices, milli) = SHAPES[shape];
    let amount =
        if milli < 1_000 && devices == 1 { GpuAmount::Fraction(milli) } else { GpuAmount::Whole(devices) };
    let gpus = (devices > 0).then(|| GpuRequest { amount, ..GpuRequest::default() });
    Resources { cpu_milli, memory: mib << 20, disk: 0, gpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_fits_is_placed_and_the_state_takes_it() {
        let measured = measure(40, 200, 1).expect("measured");
        assert_eq!(measured.placed, 200);
        let measured = measure(4, 200, 1).expect("measured");
        assert!((20..120).contains(&measured.placed), "{}", measured.placed);
    }
}
