//! One cycle: ready indices, by priority then age, each to the worker where it fits best.

use super::feasible::fit;
use super::gangs::Gangs;
use super::view::{JobView, View, WorkerView};
use crate::command::Placement;
use crate::model::ids::{IndexRef, JobId, TaskNo, WorkerId};
use crate::model::job_spec::TaskCommon;
use crate::model::placement::{Seat, Share, WHOLE};
use crate::model::ranges::Ranges;
use crate::model::time::Tick;
use crate::model::worker::WorkerSpec;
use crate::spec::{Expressions, WorkerFacts, WorkerValue};
use crate::state::Used;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// What a plan may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Seats of one cycle at most, which is placements where there are no gangs: keeps an entry under 4 MiB and the start of the first under a cycle's length.
    pub placements_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { placements_max: 4096 }
    }
}

/// What to do, all of it to be checked again by apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The tick of the state it is based on.
    pub based_on: Tick,
    pub placements: Vec<Placement>,
}

/// The plan for this view.
///
/// Score, the least wins: GPU machines last for tasks without GPUs, then fewest GPUs left, then fewest CPUs left, then worker id.
#[must_use]
pub fn plan(view: &View, now: Tick, policy: &Policy) -> Plan {
    let mut plan = Plan { based_on: view.tick, placements: Vec::new() };
    // 1. What is free now: workers this leader hears and that take work; of those that get something here, what is taken then.
    let mut used: BTreeMap<WorkerId, Used> = BTreeMap::new();
    let mut expressions = Expressions::new();
    let mut facts: BTreeMap<WorkerId, WorkerValue> = BTreeMap::new();
    // Amounts that fitted nowhere in this cycle will not fit later in it.
    let mut full: BTreeSet<&TaskCommon> = BTreeSet::new();
    let mut gangs = Gangs::new(now);
    let mut placed = 0;
    // 2. By priority, then age.
    for ((_, id, common), tasks) in &view.queue {
        let Some(job) = view.jobs.get(id).filter(|j| !j.held) else { continue };
        let common = &job.spec.commons[*common as usize];
        if full.contains(common) {
            continue;
        }
        // 3. Workers whose constraints hold and that have room, the best first: once a class.
        let candidates = view.workers.iter().filter(|(id, worker)| {
            View::is_usable(worker) && {
                common.constraints.is_empty() || {
                    let value =
                        facts.entry(**id).or_insert_with(|| WorkerValue::new(&facts_of(&worker.worker.spec)));
                    common.constraints.iter().all(|text| expressions.constraint(text, value).unwrap_or(false))
                }
            }
        });
        if common.gang.is_some() {
            let candidates: Vec<WorkerId> = candidates.map(|(id, _)| *id).collect();
            for at in waiting(view, *id, tasks, job) {
                if placed >= policy.placements_max {
                    return plan;
                }
                let Some(placement) = gangs.place(view, &mut used, &candidates, common, at) else {
                    full.insert(common);
                    break;
                };
                placed += placement.seats.len();
                plan.placements.push(placement);
            }
            continue;
        }
        let mut ranked: BinaryHeap<Reverse<Score>> =
            candidates.filter_map(|(id, worker)| score(*id, worker, &used, common).map(Reverse)).collect();
        // 4. Each index to its best worker. What it takes makes that worker fuller still, so it stays the best until it is full.
        for at in waiting(view, *id, tasks, job) {
            if placed >= policy.placements_max {
                return plan;
            }
            let Some((worker, devices)) = best(view, &used, &mut ranked, common) else {
                full.insert(common);
                break;
            };
            let taken = used.entry(worker).or_insert_with(|| view.workers[&worker].used.clone());
            taken.take(&common.resources, &devices);
            placed += 1;
            plan.placements.push(Placement::single(at, Seat { worker, devices }));
        }
    }
    plan
}

/// The indices of these tasks of a job that may be placed now.
fn waiting<'a>(
    view: &'a View,
    id: JobId,
    tasks: &'a Ranges,
    job: &'a JobView,
) -> impl Iterator<Item = IndexRef> + 'a {
    tasks.iter().map(TaskNo).flat_map(move |no| {
        let task = &job.spec.tasks[no.0 as usize];
        let array = task.array().map(|_| view.arrays.get(&(id, no)).into_iter().flat_map(Ranges::iter));
        let one = array.is_none().then_some(0);
        let running = view.running.get(&(id, no)).copied().unwrap_or(0);
        let room = task.max_running().map_or(u32::MAX, |max| max.saturating_sub(running));
        let room = room.min(view.command_room(id, no));
        let indices = one.into_iter().chain(array.into_iter().flatten());
        indices.take(room as usize).map(move |index| IndexRef::new(id, no, index))
    })
}

/// Wastes GPUs, thousandths of GPUs left, CPUs left, worker: the least is the best.
type Score = (bool, usize, u64, WorkerId);

/// None: it has no room.
fn score(
    id: WorkerId,
    worker: &WorkerView,
    used: &BTreeMap<WorkerId, Used>,
    common: &TaskCommon,
) -> Option<Score> {
    let (spec, used) = (&worker.worker.spec, used.get(&id).unwrap_or(&worker.used));
    let devices = fit(&common.resources, spec, used)?;
    // What an older incarnation still takes may have numbers that this one does not have.
    let taken: usize =
        used.devices.range(..spec.devices.len() as u16).map(|(_, taken)| usize::from(taken.milli)).sum();
    let asked: usize = devices.iter().map(|share| usize::from(share.milli)).sum();
    let gpus_left = spec.devices.len() * usize::from(WHOLE) - taken - asked;
    let cpu_left = spec.cpu_milli - used.cpu_milli - common.resources.cpu_milli;
    let wasted = devices.is_empty() && !spec.devices.is_empty();
    Some((wasted, gpus_left, cpu_left, id))
}

/// The best worker that still has room, and the devices it would give. Those that are full are dropped.
fn best(
    view: &View,
    used: &BTreeMap<WorkerId, Used>,
    ranked: &mut BinaryHeap<Reverse<Score>>,
    common: &TaskCommon,
) -> Option<(WorkerId, Vec<Share>)> {
    while let Some(Reverse((.., id))) = ranked.peek() {
        let worker = &view.workers[id];
        let used = used.get(id).unwrap_or(&worker.used);
        if let Some(devices) = fit(&common.resources, &worker.worker.spec, used) {
            return Some((*id, devices));
        }
        ranked.pop();
    }
    None
}

/// What a constraint may ask of a worker.
pub(super) fn facts_of(spec: &WorkerSpec) -> WorkerFacts {
    WorkerFacts {
        name: spec.name.clone(),
        pool: spec.pool.clone(),
        labels: spec.labels.clone(),
        spot: spec.spot,
        cpu_milli: spec.cpu_milli,
        memory: spec.memory,
        disk: spec.disk,
        gpus: spec.devices.len() as u64,
        gpu_model: spec.devices.first().map(|d| d.model.clone()).unwrap_or_default(),
        gpu_memory: spec.devices.first().map_or(0, |d| d.memory),
        cuda: (spec.cuda > (0, 0)).then(|| format!("{}.{}", spec.cuda.0, spec.cuda.1)),
        driver: Some(spec.driver.clone()).filter(|driver| !driver.is_empty()),
        ..WorkerFacts::default()
    }
}
