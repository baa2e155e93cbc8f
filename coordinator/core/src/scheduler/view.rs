//! What the leader knows for planning and instructing: its own copy, fed by deltas, so no lock is held against apply.

use super::board::Board;
use super::spot::SpotPools;
use crate::command::Placement;
use crate::model::attempt::StopReason;
use crate::model::breaker::{Breaker, BreakerKey};
use crate::model::device_record::Quarantine;
use crate::model::fleet::{Fleet, PoolScale};
use crate::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use crate::model::job_spec::JobSpec;
use crate::model::placement::Share;
use crate::model::pool::PoolRecord;
use crate::model::ranges::Ranges;
use crate::model::time::Tick;
use crate::model::worker::{Worker, WorkerState};
use crate::state::{Delta, JobDelta, LiveDelta, TaskDelta, Used};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A job with something left to do.
#[derive(Debug, Clone)]
pub struct JobView {
    pub spec: Arc<JobSpec>,
    pub held: bool,
    pub submitted: Tick,
}

impl JobView {
    fn class(&self, id: JobId, no: TaskNo) -> Class {
        (Reverse(self.spec.priority), id, self.spec.tasks[no.0 as usize].common)
    }

    fn is_array(&self, no: TaskNo) -> bool {
        self.spec.tasks[no.0 as usize].array().is_some()
    }
}

/// A worker and what its live attempts take.
#[derive(Debug, Clone)]
pub struct WorkerView {
    pub worker: Worker,
    pub used: Used,
    /// A heartbeat of it was acknowledged by this leader.
    pub connected: bool,
    /// Its breaker is open, or its probe is under way.
    pub tripped: bool,
    /// Devices that count as taken because they are out of service.
    pub(super) masked: Vec<Share>,
}

/// Tasks of one job that ask for the same: priority first, then age.
pub(super) type Class = (Reverse<u8>, JobId, u32);

/// The leader's view.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub tick: Tick,
    pub(super) jobs: BTreeMap<JobId, JobView>,
    /// Tasks of which something may be placed …
    pub(super) queue: BTreeMap<Class, Ranges>,
    /// … and of the arrays among them, which indices. A task without an array has only index 0.
    pub(super) arrays: BTreeMap<(JobId, TaskNo), Ranges>,
    /// Indices that wait, by when they are due; and the same by index.
    delayed: BTreeSet<(Tick, IndexRef)>,
    due: BTreeMap<IndexRef, Tick>,
    /// Live indices of arrays that may not run all at once.
    pub(super) running: BTreeMap<(JobId, TaskNo), u32>,
    pub(crate) live: BTreeMap<Token, LiveDelta>,
    /// Of these, those that are evicted from machines that go: they wait again in a moment.
    pub(super) evicting: BTreeMap<Class, BTreeSet<Token>>,
    pub(crate) workers: BTreeMap<WorkerId, WorkerView>,
    by_worker: BTreeMap<WorkerId, BTreeSet<Token>>,
    pub(super) board: Board,
    /// Workers that the board has to look at again, …
    pub(super) altered: BTreeSet<WorkerId>,
    /// … and those of which only something else is taken now.
    pub(super) touched: BTreeSet<WorkerId>,
    /// Devices out of service, by UUID.
    pub(super) sick: BTreeMap<String, Quarantine>,
    pub(super) breakers: BTreeMap<BreakerKey, Breaker>,
    /// What is remembered of pools, by name.
    pools: BTreeMap<String, PoolRecord>,
    /// Pools as configured, and how far the scaling of each has got.
    pub(crate) fleet: Fleet,
    pub(crate) scales: BTreeMap<String, PoolScale>,
    /// What was seen of pools with spot workers.
    pub(super) spot: SpotPools,
    /// Run time that is saved, of indices with a deadline, ms.
    pub(super) worked: BTreeMap<IndexRef, u64>,
    /// Breakers that let nothing pass at `tick`.
    pub(super) tripped: BTreeSet<BreakerKey>,
}

impl View {
    /// Learns a delta; a full one on an empty view makes it whole.
    pub fn learn(&mut self, delta: Delta) {
        self.tick = delta.tick;
        for (id, worker) in delta.workers {
            self.learn_worker(id, worker);
        }
        for job in &delta.jobs {
            if let Some(spec) = &job.spec {
                if !self.jobs.contains_key(&job.id) {
                    self.board.mix().observe_job(spec);
                }
                let (spec, submitted) = (spec.clone(), job.submitted);
                self.jobs.insert(job.id, JobView { spec, held: job.held, submitted });
            }
        }
        for task in delta.tasks {
            self.learn_task(&task);
        }
        for (at, not_before) in delta.returned {
            self.put_back(at, not_before);
        }
        self.worked.extend(delta.worked);
        for (token, live) in delta.live {
            self.learn_live(token, live);
        }
        for job in delta.jobs {
            self.forget_job(&job);
        }
        self.learn_devices(delta.devices);
        self.learn_breakers(delta.breakers);
        self.pools.extend(delta.pools);
        if let Some(fleet) = delta.fleet {
            self.scales.retain(|name, _| fleet.pools.contains_key(name));
            self.fleet = fleet;
        }
        self.scales.extend(delta.scales);
    }

    fn learn_worker(&mut self, id: WorkerId, worker: Option<Worker>) {
        self.altered.insert(id);
        if let Some(worker) = &worker {
            self.spot.know(&worker.spec);
        }
        match (self.workers.get_mut(&id), worker) {
            (Some(view), Some(worker)) => view.worker = worker,
            (None, Some(worker)) => {
                self.workers.insert(
                    id,
                    WorkerView {
                        worker,
                        used: Used::default(),
                        connected: false,
                        tripped: false,
                        masked: Vec::new(),
                    },
                );
            }
            (_, None) => {
                self.workers.remove(&id);
            }
        }
        self.mask(id);
    }

    fn learn_task(&mut self, delta: &TaskDelta) {
        for no in (delta.first.0..=delta.last.0).map(TaskNo) {
            self.forget_delayed(IndexRef::new(delta.job, no, 0)..=IndexRef::new(delta.job, no, u32::MAX));
            let mut ranges = Ranges::new(delta.ranges.iter().copied());
            for (index, tick) in &delta.delayed {
                ranges.remove(*index);
                self.delay(IndexRef::new(delta.job, no, *index), *tick);
            }
            self.set_ready(delta.job, no, ranges);
        }
    }

    fn learn_live(&mut self, token: Token, live: Option<LiveDelta>) {
        if let Some(old) = self.live.remove(&token) {
            self.count(&old, false);
        }
        let Some(live) = live else { return };
        self.offer(live.attempt.at, false);
        self.count(&live, true);
        self.live.insert(token, live);
    }

    fn count(&mut self, live: &LiveDelta, add: bool) {
        let attempt = &live.attempt;
        let at = attempt.at;
        for seat in &attempt.seats {
            let tokens = self.by_worker.entry(seat.worker).or_default();
            if add {
                tokens.insert(attempt.token);
            } else {
                tokens.remove(&attempt.token);
            }
        }
        let Some(job) = self.jobs.get(&at.job) else { return };
        let task = &job.spec.tasks[at.task.0 as usize];
        if task.max_running().is_some() {
            let running = self.running.entry((at.job, at.task)).or_default();
            *running = if add { *running + 1 } else { *running - 1 };
            if *running == 0 {
                self.running.remove(&(at.job, at.task));
            }
        }
        if matches!(attempt.stop, Some(StopReason::Notice | StopReason::Drain)) {
            let class = job.class(at.job, at.task);
            let evicting = self.evicting.entry(class).or_default();
            if add {
                evicting.insert(attempt.token);
            } else {
                evicting.remove(&attempt.token);
            }
            if evicting.is_empty() {
                self.evicting.remove(&class);
            }
        }
        let resources = &job.spec.common(task).resources;
        for seat in &attempt.seats {
            let Some(worker) = self.workers.get_mut(&seat.worker) else { continue };
            self.touched.insert(seat.worker);
            worker.unmask();
            if add {
                worker.used.take(resources, &seat.devices);
            } else {
                worker.used.give_back(resources, &seat.devices);
            }
        }
        attempt.seats.iter().for_each(|seat| self.mask(seat.worker));
    }

    fn forget_job(&mut self, delta: &JobDelta) {
        let id = delta.id;
        if delta.spec.is_some() {
            return;
        }
        let Some(job) = self.jobs.remove(&id) else { return };
        let priority = Reverse(job.spec.priority);
        let classes = self.queue.range((priority, id, 0)..=(priority, id, u32::MAX));
        let classes: Vec<Class> = classes.map(|(class, _)| *class).collect();
        classes.iter().for_each(|class| {
            self.queue.remove(class);
        });
        let arrays = self.arrays.range((id, TaskNo(0))..=(id, TaskNo(u32::MAX)));
        let arrays: Vec<(JobId, TaskNo)> = arrays.map(|(key, _)| *key).collect();
        arrays.iter().for_each(|key| {
            self.arrays.remove(key);
        });
        self.worked.retain(|at, _| at.job != id);
        self.forget_delayed(IndexRef::new(id, TaskNo(0), 0)..=IndexRef::new(id, TaskNo(u32::MAX), u32::MAX));
    }

    /// What of the task may be placed, all of it.
    fn set_ready(&mut self, id: JobId, no: TaskNo, ranges: Ranges) {
        let any = !ranges.is_empty();
        if self.jobs.get(&id).is_some_and(|job| job.is_array(no)) {
            self.arrays.insert((id, no), ranges);
        }
        self.set_queued(id, no, any);
    }

    /// One index may be placed, or may not any more.
    fn offer(&mut self, at: IndexRef, ready: bool) {
        let mut any = ready;
        if self.jobs.get(&at.job).is_some_and(|job| job.is_array(at.task)) {
            let ranges = self.arrays.entry((at.job, at.task)).or_default();
            if ready {
                ranges.insert(at.index);
            } else {
                ranges.remove(at.index);
            }
            any = !ranges.is_empty();
        }
        self.set_queued(at.job, at.task, any);
    }

    /// Something of the task may be placed, or nothing.
    fn set_queued(&mut self, id: JobId, no: TaskNo, any: bool) {
        let Some(job) = self.jobs.get(&id) else { return };
        let class = job.class(id, no);
        if any {
            self.queue.entry(class).or_default().insert(no.0);
            return;
        }
        self.arrays.remove(&(id, no));
        if let Some(tasks) = self.queue.get_mut(&class) {
            tasks.remove(no.0);
            if tasks.is_empty() {
                self.queue.remove(&class);
            }
        }
    }

    fn delay(&mut self, at: IndexRef, until: Tick) {
        if let Some(old) = self.due.insert(at, until) {
            self.delayed.remove(&(old, at));
        }
        self.delayed.insert((until, at));
    }

    fn forget_delayed(&mut self, range: RangeInclusive<IndexRef>) {
        while let Some((at, until)) = self.due.range(range.clone()).next().map(|(at, until)| (*at, *until)) {
            self.due.remove(&at);
            self.delayed.remove(&(until, at));
        }
    }

    fn put_back(&mut self, at: IndexRef, not_before: Tick) {
        if not_before > self.tick {
            self.delay(at, not_before);
        } else {
            self.offer(at, true);
        }
    }

    /// Indices whose wait is over become ready; returns whether there were any.
    pub fn wake(&mut self, tick: Tick) -> bool {
        self.tick = self.tick.max(tick);
        let mut any = false;
        while let Some((due, at)) = self.delayed.first().copied() {
            if due > self.tick {
                break;
            }
            self.delayed.pop_first();
            self.due.remove(&at);
            self.offer(at, true);
            any = true;
        }
        self.trip() || any
    }

    /// When the next delayed index is due.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.delayed.first().map(|(t, _)| *t)
    }

    /// These were proposed: no second plan offers them.
    pub fn take(&mut self, placements: &[Placement]) {
        for placement in placements {
            self.offer(placement.at, false);
        }
    }

    /// These were proposed in vain, but for those that live all the same.
    pub fn give_back(&mut self, placements: &[Placement]) {
        let mut back: BTreeSet<IndexRef> = placements.iter().map(|p| p.at).collect();
        for live in self.live.values() {
            back.remove(&live.attempt.at);
        }
        for at in back {
            self.offer(at, true);
        }
    }

    /// How long one worker of the pools that these belong to lasts, the worst of them, ms; none while nothing was lost there.
    #[must_use]
    pub fn mtbf_ms(&self, workers: impl Iterator<Item = WorkerId>) -> Option<u64> {
        let pools = workers.filter_map(|id| self.pools.get(&self.workers.get(&id)?.worker.spec.pool));
        pools.filter_map(|pool| pool.mtbf_ms(self.tick)).min()
    }

    /// The job, while something of it is left to do.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&JobView> {
        self.jobs.get(&id)
    }

    /// Tokens of the attempts that live on a worker.
    pub fn tokens_of(&self, worker: WorkerId) -> impl Iterator<Item = Token> {
        self.by_worker.get(&worker).into_iter().flatten().copied()
    }

    /// Workers that this leader hears.
    pub fn set_connected(&mut self, id: WorkerId, connected: bool) {
        if let Some(view) = self.workers.get_mut(&id) {
            view.connected = connected;
            self.altered.insert(id);
        }
    }

    /// Devices of the worker on which somebody else computes.
    pub(crate) fn set_foreign(&mut self, id: WorkerId, foreign: BTreeSet<u16>) {
        if let Some(view) = self.workers.get_mut(&id)
            && view.used.foreign != foreign
        {
            view.used.foreign = foreign;
            self.touched.insert(id);
        }
    }

    /// The board says what this view says.
    pub(super) fn set_board(&mut self) {
        let altered = std::mem::take(&mut self.altered);
        for id in std::mem::take(&mut self.touched).difference(&altered) {
            if let Some(view) = self.workers.get(id) {
                self.board.update(*id, &view.used);
            }
        }
        for id in altered {
            match self.workers.get(&id).filter(|view| Self::is_usable(view)) {
                Some(view) => self.board.set(id, &view.worker.spec, &view.used),
                None => self.board.remove(id),
            }
        }
    }

    /// Something could be placed, were there room.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a placement on it can be accepted.
    #[must_use]
    pub fn is_usable(worker: &WorkerView) -> bool {
        worker.connected && worker.worker.state == WorkerState::Ready && !worker.tripped
    }
}
