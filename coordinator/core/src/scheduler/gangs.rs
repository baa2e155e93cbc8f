//! The gangs of one cycle: who could take a rank, on which port they meet, and what they take.

use super::feasible::fit;
use super::gang::{Candidate, labels, seats};
use super::view::View;
use crate::command::Placement;
use crate::model::ids::{IndexRef, WorkerId};
use crate::model::job_spec::TaskCommon;
use crate::model::placement::{GANG_PORTS, Seat};
use crate::model::resources::Resources;
use crate::model::retry::mix;
use crate::model::time::Tick;
use crate::state::Used;
use std::collections::{BTreeMap, BTreeSet};

/// What gangs have taken in this cycle, beside amounts.
pub(super) struct Gangs {
    now: Tick,
    /// Ports by the worker of rank 0.
    ports: BTreeMap<WorkerId, BTreeSet<u16>>,
}

impl Gangs {
    pub(super) fn new(now: Tick) -> Self {
        Self { now, ports: BTreeMap::new() }
    }

    /// A place for all ranks of the index, taken from `used`; none where it does not fit now. `usable`: workers on which its constraints
    /// hold.
    pub(super) fn place(
        &mut self,
        view: &View,
        used: &mut BTreeMap<WorkerId, Used>,
        usable: &[WorkerId],
        common: &TaskCommon,
        at: IndexRef,
    ) -> Option<Placement> {
        let gang = common.gang.as_deref()?;
        let labels = labels(gang);
        // 1. One model for all ranks, in the order of preference, before a mixture.
        let (resources, workers) = choices(&common.resources).into_iter().find_map(|resources| {
            let candidates = candidates(view, used, usable, &resources, &labels);
            Some((resources, seats(gang, &candidates)?))
        })?;
        // 2. The port, on a worker that has one left.
        let port = self.port(view, *workers.first()?, at)?;
        // 3. What they take.
        let mut taken = Vec::with_capacity(workers.len());
        for worker in workers {
            let view = view.workers.get(&worker)?;
            let used = used.entry(worker).or_insert_with(|| view.used.clone());
            let devices = fit(&resources, &view.worker.spec, used)?;
            used.take(&resources, &devices);
            taken.push(Seat { worker, devices });
        }
        Some(Placement { at, seats: taken, port })
    }

    /// A port of the worker that no live attempt meets on. Where it begins to look changes with the index and the time: a port that the
    /// machine itself has taken is not tried twice in a row.
    fn port(&mut self, view: &View, worker: WorkerId, at: IndexRef) -> Option<u16> {
        let taken = self.ports.entry(worker).or_insert_with(|| {
            let live = view.tokens_of(worker).filter_map(|t| view.live.get(&t)).map(|l| &l.attempt);
            live.filter(|a| a.port > 0 && a.first_worker() == worker).map(|a| a.port).collect()
        });
        let place = mix(at.job.0) ^ mix(u64::from(at.task.0) << 32 | u64::from(at.index)).rotate_left(7);
        let seed = mix(place ^ mix(worker.0).rotate_left(13) ^ self.now.0);
        let count = u64::from(GANG_PORTS.end - GANG_PORTS.start);
        let port = |n: u64| GANG_PORTS.start + u16::try_from((seed % count + n) % count).unwrap_or(0);
        let free = (0..count).map(port).find(|p| !taken.contains(p))?;
        taken.insert(free);
        Some(free)
    }
}

/// The same amounts with each of the accepted models alone, then with all of them.
fn choices(resources: &Resources) -> Vec<Resources> {
    let Some(gpus) = resources.gpus.as_ref().filter(|g| g.model.len() > 1) else {
        return vec![resources.clone()];
    };
    let only = |model: &String| {
        let gpus = Some(crate::model::resources::GpuRequest { model: vec![model.clone()], ..gpus.clone() });
        Resources { gpus, ..resources.clone() }
    };
    gpus.model.iter().map(only).chain([resources.clone()]).collect()
}

/// The workers that have room for one rank, the fullest first.
fn candidates(
    view: &View,
    used: &BTreeMap<WorkerId, Used>,
    usable: &[WorkerId],
    resources: &Resources,
    labels: &[&str],
) -> Vec<Candidate> {
    let mut ranked: Vec<(u32, u64, Candidate)> = Vec::new();
    for worker in usable {
        let Some(view) = view.workers.get(worker) else { continue };
        let (spec, used) = (&view.worker.spec, used.get(worker).unwrap_or(&view.used));
        let Some(devices) = fit(resources, spec, used) else { continue };
        let asked: u32 = devices.iter().map(|share| u32::from(share.milli)).sum();
        let taken: u32 = used.devices.values().map(|taken| u32::from(taken.milli)).sum();
        let gpus_left = (spec.devices.len() as u32 * 1_000).saturating_sub(taken + asked);
        let cpu_left = spec.cpu_milli - used.cpu_milli - resources.cpu_milli;
        let place = labels.iter().map(|label| spec.labels.get(*label).cloned().unwrap_or_default());
        ranked.push((gpus_left, cpu_left, Candidate { worker: *worker, place: place.collect() }));
    }
    ranked.sort_by_key(|(gpus, cpu, candidate)| (*gpus, *cpu, candidate.worker));
    ranked.into_iter().map(|(_, _, candidate)| candidate).collect()
}
