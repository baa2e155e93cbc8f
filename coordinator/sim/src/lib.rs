//! muster-sim: the whole cluster in one thread, in virtual time, from one seed.
//!
//! Real: `State`, `Leader`, the scheduler, the DAG, `Agent`. Modelled: the log (commit, election, a proposal lost, or committed after its
//! caller gave up), the network, processes, machines, clocks. A run is a phase with faults, then the heal, then everything must finish;
//! properties are looked at as things happen, one file each in `invariants/`.
//!
//! Architecture invariants: no runtime, clock, thread or file; chance comes from the seed alone, so a seed repeats to the last event.

mod clients;
mod cloud;
mod event;
mod faults;
mod invariants;
pub mod linearize;
#[cfg(test)]
mod linearize_test;
mod network;
mod options;
mod oracle;
mod plants;
mod preemptions;
mod reads;
mod reference;
pub mod register;
mod replicas;
mod rng;
mod saver;
mod shim;
mod store;
mod trace;
mod workers;
mod workload;
mod world;

use std::collections::BTreeSet;

pub use options::Options;
pub use plants::{Caught, Plant};
pub use rng::Rng;
pub use world::Stats;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    pub hostile: bool,
    pub plant: Option<Plant>,
    pub trace_hash: u64,
    pub stats: Stats,
    /// Kinds of commands that took effect, and of causes with which attempts ended.
    pub seen: BTreeSet<String>,
    /// Properties that did not hold; the run ends at the first.
    pub violations: Vec<String>,
    /// Every event, if asked for.
    pub trace: Vec<String>,
}

impl Outcome {
    /// The command that shows this run again, event by event.
    #[must_use]
    pub fn command(&self) -> String {
        let kind = match self.plant {
            Some(plant) => format!(" --plant {}", plant.name()),
            None if self.hostile => " --hostile".to_owned(),
            None => String::new(),
        };
        format!("cargo run --release -p muster-sim -- --seed {}{kind} --trace", self.seed)
    }
}

/// The run that `seed` stands for.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_with(Options::new(seed))
}

/// A run with these options.
#[must_use]
pub fn run_with(options: Options) -> Outcome {
    let (seed, hostile, plant) = (options.seed, options.hostile, options.plant);
    let mut world = world::World::new(options);
    world.run();
    Outcome {
        seed,
        hostile,
        plant,
        trace_hash: world.trace.hash(),
        stats: world.stats,
        seen: world.oracle.seen,
        violations: world.violations,
        trace: world.trace.into_lines(),
    }
}
