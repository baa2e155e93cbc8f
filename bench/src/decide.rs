//! `muster bench decide`: how long one autoscaling decision takes: thousands of tasks that wait, each of its own job and of a shape of the openb
//! trace, over tens of pools with machines at work in each. In this process, on one core.

use crate::plan::{resources, shapes};
use crate::replay::Chance;
use crate::report::{Recorder, percentile, say};
use anyhow::{Result, ensure};
use muster_core::autoscale::{
    GroupSeen, InstanceSeen, Machine, MachineState, Situation, Waiting, decide, kind,
};
use muster_core::model::fleet::{Fleet, PoolScale, PoolSpec};
use muster_core::model::ids::{JobId, TaskNo, WorkerId};
use muster_core::model::resources::Resources;
use muster_core::model::time::Tick;
use muster_core::model::worker::{Device, WorkerSpec};
use muster_core::state::Used;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

/// Decisions, the first of which are not counted.
const ROUNDS: usize = 220;
const WARM: usize = 20;
/// Machines at work or idle in each pool.
const MACHINES: u64 = 10;
const NOW: Tick = Tick(3_600_000);
const MODELS: [&str; 5] = ["T4-16GB", "V100-16GB", "A100-40GB", "A100-80GB", "H100-80GB"];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench decide --tasks 10000 --pools 50")]
pub struct DecideArgs {
    /// Tasks that wait.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    tasks: u64,
    /// Pools, with ten machines each.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pools: u64,
}

/// # Errors
/// A decision that buys nothing.
pub fn run(args: &DecideArgs, seed: u64, record: &mut Recorder) -> Result<()> {
    let base = measure(args.tasks, args.pools, seed)?;
    say(&format!(
        "{} tasks, {} pools: {:.2} ms at p50, {:.2} at p99",
        args.tasks, args.pools, base.p50, base.p99
    ));
    let tasks = measure(args.tasks * 2, args.pools, seed)?;
    say(&format!("twice the tasks: {:.2} ms at p50", tasks.p50));
    let pools = measure(args.tasks, args.pools * 2, seed)?;
    say(&format!("twice the pools: {:.2} ms at p50", pools.p50));
    record.figure("decide_p50", base.p50, "ms");
    record.figure("decide_p99", base.p99, "ms");
    record.figure("doubled_tasks", tasks.p50 / base.p50, "ratio");
    record.figure("doubled_pools", pools.p50 / base.p50, "ratio");
    record.note(format!(
        "{} machines were bought in {} of {} pools for {} tasks of {} shapes; {} can be served by none",
        base.bought,
        base.growing,
        args.pools,
        args.tasks,
        shapes(),
        base.unmet
    ));
    Ok(())
}

/// What one size came to.
struct Measured {
    /// Of one decision, ms.
    p50: f64,
    p99: f64,
    bought: u32,
    growing: usize,
    unmet: u64,
}

/// What a situation borrows.
struct Cluster {
    fleet: Fleet,
    scales: BTreeMap<String, PoolScale>,
    specs: Vec<(WorkerSpec, u64)>,
    /// By pool, machine by machine.
    used: Vec<Used>,
    asks: Vec<Resources>,
}

impl Cluster {
    fn new(tasks: u64, pools: u64, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut cluster = Self {
            fleet: Fleet::default(),
            scales: BTreeMap::new(),
            specs: Vec::new(),
            used: Vec::new(),
            asks: Vec::new(),
        };
        for number in 0..pools {
            let spec = worker(number);
            let pool = PoolSpec {
                max: 10_000,
                spot: number % 2 == 1,
                micro_usd_per_hour: Some(1_000_000 * spec.devices.len() as u64 + number),
                template: Some(Box::new(spec.clone())),
                driven: true,
                ..PoolSpec::default()
            };
            let scale = PoolScale { desired: MACHINES as u32, generation: 1, ..PoolScale::default() };
            cluster.fleet.pools.insert(spec.pool.clone(), pool);
            cluster.scales.insert(spec.pool.clone(), scale);
            let number = kind(&spec);
            for machine in 0..MACHINES {
                // One of the ten has nothing to do.
                let cpu_milli = if machine == 0 { 0 } else { spec.cpu_milli };
                cluster.used.push(Used { cpu_milli, ..Used::default() });
            }
            cluster.specs.push((spec, number));
        }
        cluster.asks = (0..tasks).map(|_| resources(chance.below(shapes()))).collect();
        cluster
    }

    fn situation(&self) -> Situation<'_> {
        let machines = self.used.iter().enumerate().map(|(n, used)| {
            let (spec, kind) = &self.specs[n / MACHINES as usize];
            Machine {
                id: WorkerId(n as u64 + 1),
                spec,
                kind: *kind,
                used,
                state: MachineState::Ready,
                leaves: false,
                idle_since: (used.cpu_milli == 0).then_some(Tick(0)),
                at_risk_ms: 0,
                free_at: None,
                joined: Tick(0),
                image: None,
            }
        });
        let waiting = self.asks.iter().enumerate().map(|(n, resources)| Waiting {
            job: JobId(n as u64 + 1),
            task: TaskNo(0),
            resources,
            constraints: Cow::Borrowed(&[]),
            gang: None,
            count: 1,
            run_ms: None,
            since: Tick(n as u64),
        });
        let groups = self.specs.iter().enumerate().map(|(pool, (spec, _))| {
            let instance = |n: u64| InstanceSeen {
                lost: None,
                id: format!("i-{pool}-{n}"),
                worker: Some(WorkerId(pool as u64 * MACHINES + n + 1)),
                since: Tick(0),
                booting: false,
                held: false,
                going: false,
                protected: false,
                image: None,
            };
            let instances = (0..MACHINES).map(instance).collect();
            let seen = GroupSeen { at: NOW, desired: MACHINES as u32, min: 0, max: 10_000, instances };
            (spec.pool.clone(), seen)
        });
        Situation {
            now: NOW,
            fleet: &self.fleet,
            scales: &self.scales,
            machines: machines.collect(),
            waiting: waiting.collect(),
            groups: groups.collect(),
            boots: BTreeMap::new(),
            troubles: BTreeMap::new(),
        }
    }
}

fn measure(tasks: u64, pools: u64, seed: u64) -> Result<Measured> {
    let cluster = Cluster::new(tasks, pools, seed);
    let situation = cluster.situation();
    let decision = decide(&situation);
    let mut took: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(decide(std::hint::black_box(&situation)));
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let mut counted = took.split_off(WARM);
    counted.sort_by(f64::total_cmp);
    let more: Vec<u32> = decision
        .pools
        .iter()
        .map(|pool| pool.desired.saturating_sub(pool.current + pool.booting))
        .filter(|n| *n > 0)
        .collect();
    ensure!(!more.is_empty(), "no machine was asked for, of {pools} pools for {tasks} tasks");
    Ok(Measured {
        p50: percentile(&counted, 50),
        p99: percentile(&counted, 99),
        bought: more.iter().sum(),
        growing: more.len(),
        unmet: decision.unmet.iter().map(|unmet| unmet.count).sum(),
    })
}

/// A worker of the pool: of five models and of 1, 2, 4 and 8 GPUs.
fn worker(pool: u64) -> WorkerSpec {
    let gpus = 1 << (pool % 4);
    let model = MODELS[(pool / 4) as usize % MODELS.len()];
    let device = |n: u64| Device {
        uuid: format!("p{pool:03}-{n}"),
        model: model.to_owned(),
        memory: 80 << 30,
        compute_capability: 80,
        simulated: true,
        ..Device::default()
    };
    WorkerSpec {
        name: format!("p{pool:03}"),
        pool: format!("p{pool:03}"),
        spot: pool % 2 == 1,
        cpu_milli: gpus * 16_000,
        memory: gpus << 37,
        disk: 1 << 42,
        devices: (0..gpus).map(device).collect(),
        ..WorkerSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_bought_for_all_that_any_pool_could_take() {
        let measured = measure(200, 8, 1).expect("measured");
        assert!(measured.bought > 50, "{} machines for 200 tasks", measured.bought);
        assert_eq!(measured.unmet, 0);
    }
}
