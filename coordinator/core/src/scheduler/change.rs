//! The smallest change that would start a task now, or let it fit at all.

use super::feasible::{fit, fits_empty};
use super::obstacle::{Obstacle, broken_constraint, gib, is_accepted, masked, obstacle};
use crate::model::ids::{IndexRef, Token};
use crate::model::job_spec::TaskCommon;
use crate::model::resources::{GpuAmount, GpuRequest, Resources, model_matches};
use crate::model::time::Tick;
use crate::model::worker::{Device, Worker, WorkerSpec};
use crate::spec::Expressions;
use crate::state::{State, Used};
use std::collections::BTreeSet;

/// The nearest request that workers like these could take, in words; none when one of them could take this one, or nothing near is
/// possible.
#[must_use]
pub fn nearest<'a>(
    resources: &Resources,
    workers: impl Iterator<Item = &'a WorkerSpec> + Clone,
) -> Option<String> {
    if workers.clone().any(|w| fits_empty(resources, w)) {
        return None;
    }
    let request = resources.gpus.as_ref()?;
    if !request.model.is_empty() {
        let models: BTreeSet<&str> =
            workers.clone().flat_map(|w| &w.devices).map(|d| d.model.as_str()).collect();
        let known = |wanted: &String| models.iter().any(|m| model_matches(wanted, m));
        if !models.is_empty() && !request.model.iter().any(known) {
            let models: Vec<&str> = models.into_iter().collect();
            return Some(format!("the GPUs here are {}", models.join(", ")));
        }
    }
    let asked = request.amount.devices();
    let with = |count: u32| {
        let amount = match &request.amount {
            GpuAmount::Mig(profile, _) => GpuAmount::Mig(profile.clone(), count),
            GpuAmount::Whole(_) | GpuAmount::Fraction(_) => GpuAmount::Whole(count),
        };
        Resources { gpus: Some(GpuRequest { amount, ..request.clone() }), ..resources.clone() }
    };
    let largest = (1..asked).rev().find(|n| workers.clone().any(|w| fits_empty(&with(*n), w)))?;
    // Evenly over several workers, if there are so many.
    for ranks in 2..=asked {
        if asked.is_multiple_of(ranks) && asked / ranks <= largest {
            let able = workers.clone().filter(|w| fits_empty(&with(asked / ranks), w)).count();
            if able >= ranks as usize {
                let each = asked / ranks;
                return Some(format!(
                    "set workers: {ranks} (with {each} GPUs each), or ask for at most {largest}"
                ));
            }
        }
    }
    Some(format!("ask for at most {largest} GPUs on one worker"))
}

/// What one person could do so that an index starts now, the least first; none when nothing single would help, or nothing is needed.
pub(super) fn smallest(state: &State, common: &TaskCommon, now: Tick) -> Option<String> {
    let mut expressions = Expressions::new();
    let found: Vec<(&Worker, Option<Obstacle>)> =
        state.workers().map(|w| (w, obstacle(state, w, common, now, &mut expressions))).collect();
    if found.is_empty() {
        return Some("add a worker: there is none".to_owned());
    }
    if found.iter().any(|(_, o)| o.is_none()) {
        return None;
    }
    let resources = &common.resources;
    // 1. What no worker could take must change, whatever runs.
    if state.workers().all(|w| !fits_empty(resources, &w.spec)) {
        let nearest = nearest(resources, state.workers().map(|w| &w.spec));
        return nearest.or_else(|| Some("ask for less, or add a worker that has all of it".to_owned()));
    }
    let free = |w: &Worker| masked(state, &w.spec, state.used(w.id));
    let would_fit = |w: &Worker, r: &Resources| fit(r, &w.spec, &free(w)).is_some();
    // 2. A machine or a device that only waits for a hand.
    for (worker, _) in found.iter().filter(|(_, o)| *o == Some(Obstacle::Draining)) {
        if would_fit(worker, resources) && broken_constraint(&worker.spec, common, &mut expressions).is_none()
        {
            return Some(format!("muster worker undrain {}", worker.spec.name));
        }
    }
    // 3. One constraint less.
    for (worker, blocked) in &found {
        let Some(Obstacle::Constraint(text)) = blocked else { continue };
        let without = TaskCommon {
            constraints: common.constraints.iter().filter(|c| *c != text).cloned().collect(),
            ..common.clone()
        };
        if obstacle(state, worker, &without, now, &mut expressions).is_none() {
            return Some(format!(
                "leave out the constraint `{text}`: worker {} would take it",
                worker.spec.name
            ));
        }
    }
    // 4. A smaller request on a machine that is otherwise fine.
    let able = || {
        let ok = |o: &Option<Obstacle>| {
            matches!(o, Some(Obstacle::Busy | Obstacle::Quarantined | Obstacle::Never(_)))
        };
        found.iter().filter(move |(_, o)| ok(o)).map(|(w, _)| *w)
    };
    if let Some(less) = less(resources, able(), would_fit) {
        return Some(less);
    }
    // 5. One attempt less.
    if let Some((at, worker)) = able().find_map(|w| Some((single_end(state, w, resources)?, w))) {
        return Some(format!("the end of {} on {} would make room", name(state, at), worker.spec.name));
    }
    // 6. One device back in service.
    let quarantined = found.iter().filter(|(_, o)| *o == Some(Obstacle::Quarantined));
    for (worker, _) in quarantined {
        let is_out = |d: &&Device| {
            state.is_quarantined(&d.uuid) && resources.gpus.as_ref().is_some_and(|g| is_accepted(g, d))
        };
        if let Some(device) = worker.spec.devices.iter().find(is_out) {
            return Some(format!("mend {} on {}, then muster gpus return it", device.uuid, worker.spec.name));
        }
    }
    None
}

/// Fewer GPUs, CPUs, or less memory than asked, so that one of the workers has room now.
fn less<'a>(
    resources: &Resources,
    workers: impl Iterator<Item = &'a Worker> + Clone,
    would_fit: impl Fn(&Worker, &Resources) -> bool,
) -> Option<String> {
    let fits = |smaller: &Resources| workers.clone().find(|w| would_fit(w, smaller));
    if let Some(request) = &resources.gpus
        && let GpuAmount::Whole(asked) = request.amount
    {
        for count in (1..asked).rev() {
            let gpus = GpuRequest { amount: GpuAmount::Whole(count), ..request.clone() };
            if let Some(w) = fits(&Resources { gpus: Some(gpus), ..resources.clone() }) {
                return Some(format!("ask for {count} GPUs: worker {} has room for that now", w.spec.name));
            }
        }
    }
    let halves = |amount: u64| (1..=4).map(move |n| amount >> n).filter(|a| *a > 0);
    for cpu_milli in halves(resources.cpu_milli) {
        if let Some(w) = fits(&Resources { cpu_milli, ..resources.clone() }) {
            let cpus = cpu_milli as f64 / 1000.0;
            return Some(format!("ask for {cpus} CPUs: worker {} has room for that now", w.spec.name));
        }
    }
    for memory in halves(resources.memory) {
        if let Some(w) = fits(&Resources { memory, ..resources.clone() }) {
            return Some(format!(
                "ask for {} of memory: worker {} has room for that now",
                gib(memory),
                w.spec.name
            ));
        }
    }
    None
}

/// The oldest attempt on the worker whose end alone would make room.
fn single_end(state: &State, worker: &Worker, resources: &Resources) -> Option<IndexRef> {
    let ends = |token: &Token| {
        let attempt = state.attempt(*token)?;
        let (_, seat) = attempt.seat_on(worker.id)?;
        let taken = &state.job(attempt.at.job)?.common(attempt.at.task).resources;
        let mut used: Used = state.used(worker.id);
        used.give_back(taken, &seat.devices);
        fit(resources, &worker.spec, &masked(state, &worker.spec, used)).map(|_| attempt.at)
    };
    state.tokens_of(worker.id).iter().find_map(ends)
}

fn name(state: &State, at: IndexRef) -> String {
    let task = state.job(at.job).map(|job| &job.spec.tasks[at.task.0 as usize]);
    let task_name = task.map_or("", |t| &t.name);
    match task.and_then(|t| t.array()).and_then(|array| array.index(at.index)) {
        Some(index) => format!("{}.{task_name}[{index}]", at.job),
        None => format!("{}.{task_name}", at.job),
    }
}
