//! One cycle: ready indices, by priority then age, each to the worker where it fits best.

use super::board::Board;
use super::gangs::Gangs;
use super::ranking::Ask;
use super::spot::{DEADLINES_MAX, Outlook};
use super::view::{Class, JobView, View};
use crate::command::Placement;
use crate::model::ids::{IndexRef, JobId, TaskNo, WorkerId};
use crate::model::job_spec::TaskCommon;
use crate::model::placement::Seat;
use crate::model::ranges::Ranges;
use crate::model::time::Tick;
use crate::model::worker::{INSTANCE_LABEL, WorkerSpec};
use crate::spec::{Expressions, WorkerFacts, WorkerValue};
use crate::state::Used;
use std::collections::{BTreeMap, BTreeSet};

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

/// The plan for this view: by priority, then age, each to the place that costs least (`score`), gangs by their own rules (`gang`).
#[must_use]
pub fn plan(view: &mut View, now: Tick, policy: &Policy) -> Plan {
    // 1. What is free now: workers this leader hears and that take work.
    view.set_board();
    let mut board = std::mem::take(&mut view.board);
    let mut cycle = Cycle {
        gangs: Gangs::new(now),
        facts: Facts::default(),
        used: BTreeMap::new(),
        placed: 0,
        looks: 0,
        reserved: 0,
        in_time: 0,
        outlooks: BTreeMap::new(),
    };
    let placements = cycle.run(view, &mut board, policy);
    // 2. What was planned is not yet so: the board is told of it again by what becomes of it.
    view.touched.extend(cycle.used.into_keys());
    view.board = board;
    Plan { based_on: view.tick, placements }
}

/// Workers looked at one by one in a cycle, for gangs and for constraints that name a worker; what is left waits for the next cycle. The
/// leader renews leases on the same thread, and at a microsecond or two a look this stays well under a second.
pub(super) const LOOKS_MAX: usize = 200_000;

/// Whether workers that are alike in all else may differ for this ask.
fn names_workers(ask: &Ask) -> bool {
    ask.constraints.iter().any(|text| text.contains("name") || text.contains(INSTANCE_LABEL))
}

/// What is known in one cycle.
pub(super) struct Cycle {
    gangs: Gangs,
    pub(super) facts: Facts,
    /// Of workers that get something here, what is taken then.
    used: BTreeMap<WorkerId, Used>,
    /// Seats.
    placed: usize,
    /// Workers that were looked at one by one.
    pub(super) looks: usize,
    /// Attempts for whose next one room was kept, or sought.
    pub(super) reserved: usize,
    /// Indices with a deadline that were looked at.
    in_time: usize,
    /// What they may expect of spot workers.
    pub(super) outlooks: BTreeMap<Ask, Outlook>,
}

impl Cycle {
    fn run(&mut self, view: &View, board: &mut Board, policy: &Policy) -> Vec<Placement> {
        let mut placements = Vec::new();
        // What fitted nowhere in this cycle will not fit later in it.
        let mut full: BTreeSet<&TaskCommon> = BTreeSet::new();
        let mut full_asks: BTreeSet<Ask> = BTreeSet::new();
        let mut evicting = view.evicting.range::<Class, _>(..).peekable();
        for (class @ (_, id, common), tasks) in &view.queue {
            self.reserve(view, board, &mut evicting, class);
            let Some(job) = view.jobs.get(id).filter(|j| !j.held) else { continue };
            let common = &job.spec.commons[*common as usize];
            if full.contains(common) {
                continue;
            }
            let ask = Ask { resources: common.resources.clone(), constraints: common.constraints.clone() };
            if common.gang.is_none() && full_asks.contains(&ask) {
                continue;
            }
            let candidates = common.gang.as_ref().map(|_| self.candidates(view, &ask));
            let deadline = common.deadline.as_deref().filter(|_| candidates.is_none());
            let in_time = deadline.map(|deadline| (self.outlook(view, &ask), deadline));
            let looks = match &candidates {
                Some(candidates) => candidates.len(),
                None if names_workers(&ask) => view.workers.len(),
                None => 0,
            };
            for (n, at) in waiting(view, *id, tasks, job).enumerate() {
                // The first of a class is always tried, so that nobody waits for ever behind the others.
                if n > 0 && looks > 0 {
                    self.looks += looks;
                    if self.looks > LOOKS_MAX {
                        break;
                    }
                }
                if self.placed >= policy.placements_max {
                    return placements;
                }
                if let Some(in_time) = &in_time {
                    // It may wait by choice: those behind it need not.
                    self.in_time += 1;
                    if self.in_time > DEADLINES_MAX {
                        break;
                    }
                    if let Some(placement) = self.place_in_time(view, board, (&in_time.0, in_time.1), at) {
                        self.placed += 1;
                        placements.push(placement);
                    }
                    continue;
                }
                let placement = match &candidates {
                    Some(candidates) => self.place_gang(view, board, candidates, common, at),
                    None => self.place(view, board, &ask, at),
                };
                let Some(placement) = placement else {
                    full.insert(common);
                    if candidates.is_none() {
                        full_asks.insert(ask);
                    }
                    break;
                };
                self.placed += placement.seats.len();
                placements.push(placement);
            }
        }
        placements
    }

    pub(super) fn place(
        &mut self,
        view: &View,
        board: &mut Board,
        ask: &Ask,
        at: IndexRef,
    ) -> Option<Placement> {
        let facts = &mut self.facts;
        // Workers of a kind differ by name alone.
        let (worker, devices) = if names_workers(ask) {
            board.choose_among(ask, |id| facts.hold(ask, id, &view.workers[&id].worker.spec))?
        } else {
            board.choose(ask, |spec| facts.hold_of_kind(ask, spec))?
        };
        let taken = self.used_of(view, worker);
        taken.take(&ask.resources, &devices);
        board.update(worker, taken);
        Some(Placement::single(at, Seat { worker, devices }))
    }

    /// What is taken of a worker that is in the view.
    pub(super) fn used_of(&mut self, view: &View, worker: WorkerId) -> &mut Used {
        self.used.entry(worker).or_insert_with(|| view.workers[&worker].used.clone())
    }

    pub(super) fn place_gang(
        &mut self,
        view: &View,
        board: &mut Board,
        candidates: &[WorkerId],
        common: &TaskCommon,
        at: IndexRef,
    ) -> Option<Placement> {
        let placement = self.gangs.place(view, &mut self.used, candidates, common, at)?;
        for seat in &placement.seats {
            if let Some(used) = self.used.get(&seat.worker) {
                board.update(seat.worker, used);
            }
        }
        Some(placement)
    }

    /// Workers whose constraints hold.
    pub(super) fn candidates(&mut self, view: &View, ask: &Ask) -> Vec<WorkerId> {
        let usable = view.workers.iter().filter(|(_, worker)| View::is_usable(worker));
        usable.filter(|(id, w)| self.facts.hold(ask, **id, &w.worker.spec)).map(|(id, _)| *id).collect()
    }
}

/// What constraints are asked of.
#[derive(Default)]
pub(crate) struct Facts {
    expressions: Expressions,
    values: BTreeMap<WorkerId, WorkerValue>,
}

impl Facts {
    fn hold(&mut self, ask: &Ask, id: WorkerId, spec: &WorkerSpec) -> bool {
        if ask.constraints.is_empty() {
            return true;
        }
        let value = self.values.entry(id).or_insert_with(|| WorkerValue::new(&facts_of(spec)));
        ask.constraints.iter().all(|text| self.expressions.constraint(text, value).unwrap_or(false))
    }

    pub(crate) fn hold_of_kind(&mut self, ask: &Ask, spec: &WorkerSpec) -> bool {
        if ask.constraints.is_empty() {
            return true;
        }
        let value = WorkerValue::new(&facts_of(spec));
        ask.constraints.iter().all(|text| self.expressions.constraint(text, &value).unwrap_or(false))
    }
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
