//! `muster bench gangs`: how long the scheduler takes to find the workers of one gang, in this process, on one core.
//!
//! Racks of 16 workers, blocks of 8 racks, zones of 4 blocks; half of the workers, drawn by chance, are full. A gang of each size waits
//! alone, prefers one rack, then one block, then one zone, or requires one of them, and is planned. Whether it has to be placed is
//! counted here: it is, exactly when enough workers with room share what is required.

use crate::report::{Recorder, median, say};
use anyhow::{Result, bail, ensure};
use muster_core::command::{Command, Placement, Request};
use muster_core::model::ids::{IndexRef, TaskNo, WorkerId};
use muster_core::model::placement::Seat;
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::model::worker::{Incarnation, WorkerSpec};
use muster_core::reply::Reply;
use muster_core::scheduler::{Policy, View, plan};
use muster_core::spec::{Format, SpecBytes, load};
use muster_core::state::{Entry, State};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

const RACK: u32 = 16;
const BLOCK: u32 = 8 * RACK;
const ZONE: u32 = 4 * BLOCK;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench gangs --workers 10000")]
pub struct GangsArgs {
    /// Workers of the cluster.
    #[arg(long, value_name = "N", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    workers: u32,
    /// Repetitions of each size; the median is the result.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
}

pub fn run(args: GangsArgs, seed: u64, record: &mut Recorder) -> Result<()> {
    let (mut placed, mut refused) = (0, 0);
    for size in [2, 4, 8, 16, 32, 64, 128] {
        for (name, topology, domain) in [
            ("prefer", "{prefer: [rack, block, zone]}", None),
            (
                "require",
                if size <= RACK / 2 { "{require: rack}" } else { "{require: block, prefer: rack}" },
                Some(if size <= RACK / 2 { RACK } else { BLOCK }),
            ),
        ] {
            let mut took = Vec::new();
            for run in 0..args.runs {
                let mut bench = Bench::new(args.workers, seed + u64::from(run))?;
                let fits = bench.fits(size, domain);
                let (micros, is_placed) = bench.plan(size, topology)?;
                ensure!(
                    fits == is_placed,
                    "a gang of {size} that {topology}: fits {fits}, placed {is_placed}"
                );
                if is_placed {
                    took.push(micros);
                    placed += 1;
                } else {
                    refused += 1;
                }
            }
            if !took.is_empty() {
                record.figure(format!("{name}_{size}"), median(&took), "us");
                say(&format!(
                    "{name} {size}: {:.0} us, {} of {} placed",
                    median(&took),
                    took.len(),
                    args.runs
                ));
            }
        }
    }
    record.note(format!(
        "{} workers, half of them full; median of {} runs; {placed} gangs were placed, for {refused} no set of workers existed",
        args.workers, args.runs
    ));
    Ok(())
}

struct Bench {
    state: State,
    index: u64,
    /// Workers with room, counted from 0.
    free: BTreeSet<u32>,
}

impl Bench {
    fn new(workers: u32, seed: u64) -> Result<Self> {
        let mut bench = Self { state: State::new(), index: 0, free: BTreeSet::new() };
        for n in 0..workers {
            let label = |name: &str, size: u32| (name.to_owned(), format!("{name}{}", n / size));
            let spec = WorkerSpec {
                name: format!("w{n}"),
                cpu_milli: 1_000,
                labels: BTreeMap::from([label("rack", RACK), label("block", BLOCK), label("zone", ZONE)]),
                ..WorkerSpec::default()
            };
            let incarnation = Incarnation("bench".to_owned());
            bench.apply(&Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
        }
        let mut chance = StdRng::seed_from_u64(seed);
        bench.free = (0..workers).filter(|_| chance.random_bool(0.5)).collect();
        let full: Vec<u32> = (0..workers).filter(|n| !bench.free.contains(n)).collect();
        let job = bench
            .submit(&format!("name: full\ntasks: {{t: {{run: x, array: 0-{}}}}}\n", full.len().max(1) - 1))?;
        let placements = (0..).zip(&full).map(|(index, n)| {
            let seat = Seat { worker: WorkerId(u64::from(*n) + 1), devices: Vec::new() };
            Placement::single(IndexRef::new(job, TaskNo(0), index), seat)
        });
        match bench.apply(&Command::ApplyPlan { placements: placements.collect() }) {
            Reply::Placed { refused: 0, .. } => Ok(bench),
            other => bail!("the machines were not filled: {other:?}"),
        }
    }

    fn apply(&mut self, command: &Command) -> Reply {
        self.index += 1;
        let stamp = Stamp { wall: Wall(0), tick: Tick(self.index) };
        self.state.apply(Entry { index: self.index, stamp, command }).reply
    }

    fn submit(&mut self, job: &str) -> Result<muster_core::model::ids::JobId> {
        let spec = load(job.as_bytes(), Format::Yaml, "bench", &[] as &[&str])
            .map_err(|error| anyhow::anyhow!("{error}"))?
            .1
            .spec;
        let request = Request { id: format!("r{}", self.index), user: "bench".to_owned() };
        match self.apply(&Command::Submit {
            request,
            spec: SpecBytes::encode(&spec),
            parts: 0,
            forecast_micro_usd: None,
        }) {
            Reply::Submitted { job, .. } => Ok(job),
            other => bail!("the job was refused: {other:?}"),
        }
    }

    /// Whether enough workers with room are in one domain of this many workers.
    fn fits(&self, size: u32, domain: Option<u32>) -> bool {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        self.free.iter().for_each(|n| *counts.entry(domain.map_or(0, |d| n / d)).or_default() += 1);
        counts.values().any(|count| *count >= size)
    }

    /// Microseconds of a plan with nothing but this gang to place, and whether it places it.
    fn plan(&mut self, size: u32, topology: &str) -> Result<(f64, bool)> {
        self.submit(&format!(
            "name: gang\ntasks: {{t: {{run: x, workers: {size}, topology: {topology}}}}}\n"
        ))?;
        let mut view = View::default();
        view.learn(self.state.full_delta());
        self.state.workers().for_each(|worker| view.set_connected(worker.id, true));
        let started = Instant::now();
        let plan = plan(&mut view, Tick(self.index), &Policy::default());
        let took = started.elapsed().as_secs_f64() * 1e6;
        let is_placed = plan.placements.len() == 1;
        if is_placed {
            let reply = self.apply(&Command::ApplyPlan { placements: plan.placements });
            ensure!(matches!(reply, Reply::Placed { refused: 0, .. }), "the plan was refused: {reply:?}");
        }
        Ok((took, is_placed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gangs_are_placed_exactly_when_they_fit() {
        let mut recorder = Recorder::new();
        run(GangsArgs { workers: 256, runs: 3 }, 1, &mut recorder).expect("runs");
    }
}
