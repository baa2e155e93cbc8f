//! What the leader knows for planning and instructing: its own copy, fed by deltas, so no lock is held against apply.

use super::ready::Ranges;
use crate::command::Placement;
use crate::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use crate::model::job_spec::JobSpec;
use crate::model::time::Tick;
use crate::model::worker::{Worker, WorkerState};
use crate::state::{Delta, JobDelta, LiveDelta, TaskDelta, Used};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A job with something left to do.
#[derive(Debug, Clone)]
pub struct JobView {
    pub spec: Arc<JobSpec>,
    pub held: bool,
}

/// A worker and what its live attempts take.
#[derive(Debug, Clone)]
pub struct WorkerView {
    pub worker: Worker,
    pub used: Used,
    /// A heartbeat of it was acknowledged by this leader.
    pub connected: bool,
}

/// Tasks of one job that ask for the same: priority first, then age.
pub(super) type Class = (Reverse<u8>, JobId, u32);

/// The leader's view.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub tick: Tick,
    pub(super) jobs: BTreeMap<JobId, JobView>,
    pub(super) queue: BTreeMap<Class, BTreeSet<TaskNo>>,
    pub(super) ready: BTreeMap<(JobId, TaskNo), Ranges>,
    delayed: BTreeSet<(Tick, IndexRef)>,
    pub(super) running: BTreeMap<(JobId, TaskNo), u32>,
    pub(crate) live: BTreeMap<Token, LiveDelta>,
    pub(crate) workers: BTreeMap<WorkerId, WorkerView>,
    by_worker: BTreeMap<WorkerId, BTreeSet<Token>>,
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
                self.jobs.insert(job.id, JobView { spec: spec.clone(), held: job.held });
            }
        }
        for task in delta.tasks {
            self.learn_task(task);
        }
        for (at, not_before) in delta.returned {
            self.put_back(at, not_before);
        }
        for (token, live) in delta.live {
            self.learn_live(token, live);
        }
        for job in delta.jobs {
            self.forget_job(&job);
        }
    }

    fn learn_worker(&mut self, id: WorkerId, worker: Option<Worker>) {
        match (self.workers.get_mut(&id), worker) {
            (Some(view), Some(worker)) => view.worker = worker,
            (None, Some(worker)) => {
                self.workers.insert(id, WorkerView { worker, used: Used::default(), connected: false });
            }
            (_, None) => {
                self.workers.remove(&id);
            }
        }
    }

    fn learn_task(&mut self, task: TaskDelta) {
        let key = (task.job, task.task);
        let stale: Vec<(Tick, IndexRef)> =
            self.delayed.iter().filter(|(_, at)| (at.job, at.task) == key).copied().collect();
        stale.iter().for_each(|d| {
            self.delayed.remove(d);
        });
        let mut ranges = Ranges::new(task.ranges);
        for (index, tick) in task.delayed {
            ranges.remove(index);
            self.delayed.insert((tick, IndexRef::new(task.job, task.task, index)));
        }
        self.set_ready(key, ranges);
    }

    fn learn_live(&mut self, token: Token, live: Option<LiveDelta>) {
        if let Some(old) = self.live.remove(&token) {
            self.count(&old, false);
        }
        let Some(live) = live else { return };
        let at = live.attempt.at;
        if let Some(ranges) = self.ready.get_mut(&(at.job, at.task)) {
            ranges.remove(at.index);
            if ranges.is_empty() {
                self.set_ready((at.job, at.task), Ranges::default());
            }
        }
        self.count(&live, true);
        self.live.insert(token, live);
    }

    fn count(&mut self, live: &LiveDelta, add: bool) {
        let attempt = &live.attempt;
        let at = attempt.at;
        let tokens = self.by_worker.entry(attempt.worker).or_default();
        let running = self.running.entry((at.job, at.task)).or_default();
        if add {
            tokens.insert(attempt.token);
            *running += 1;
        } else {
            tokens.remove(&attempt.token);
            *running -= 1;
            if *running == 0 {
                self.running.remove(&(at.job, at.task));
            }
        }
        let (Some(job), Some(worker)) = (self.jobs.get(&at.job), self.workers.get_mut(&attempt.worker))
        else {
            return;
        };
        let resources = &job.spec.common(&job.spec.tasks[at.task.0 as usize]).resources;
        let used = &mut worker.used;
        let sum = |a: u64, b: u64| if add { a + b } else { a.saturating_sub(b) };
        used.cpu_milli = sum(used.cpu_milli, resources.cpu_milli);
        used.memory = sum(used.memory, resources.memory);
        used.disk = sum(used.disk, resources.disk);
        for device in &attempt.devices {
            if add {
                used.devices.insert(*device);
            } else {
                used.devices.remove(device);
            }
        }
    }

    fn forget_job(&mut self, job: &JobDelta) {
        if job.spec.is_some() {
            return;
        }
        let keys: Vec<(JobId, TaskNo)> =
            self.ready.range((job.id, TaskNo(0))..=(job.id, TaskNo(u32::MAX))).map(|(k, _)| *k).collect();
        keys.into_iter().for_each(|k| self.set_ready(k, Ranges::default()));
        self.delayed.retain(|(_, at)| at.job != job.id);
        self.jobs.remove(&job.id);
    }

    fn set_ready(&mut self, key: (JobId, TaskNo), ranges: Ranges) {
        let Some(job) = self.jobs.get(&key.0) else { return };
        let class = (Reverse(job.spec.priority), key.0, job.spec.tasks[key.1.0 as usize].common);
        if ranges.is_empty() {
            self.ready.remove(&key);
            if let Some(tasks) = self.queue.get_mut(&class) {
                tasks.remove(&key.1);
                if tasks.is_empty() {
                    self.queue.remove(&class);
                }
            }
        } else {
            self.ready.insert(key, ranges);
            self.queue.entry(class).or_default().insert(key.1);
        }
    }

    fn put_back(&mut self, at: IndexRef, not_before: Tick) {
        if not_before > self.tick {
            self.delayed.insert((not_before, at));
            return;
        }
        let key = (at.job, at.task);
        let mut ranges = self.ready.remove(&key).unwrap_or_default();
        ranges.insert(at.index);
        self.set_ready(key, ranges);
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
            self.put_back(at, due);
            any = true;
        }
        any
    }

    /// When the next delayed index is due.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.delayed.first().map(|(t, _)| *t)
    }

    /// These were proposed: no second plan offers them.
    pub fn take(&mut self, placements: &[Placement]) {
        for placement in placements {
            let key = (placement.at.job, placement.at.task);
            if let Some(mut ranges) = self.ready.remove(&key) {
                ranges.remove(placement.at.index);
                self.set_ready(key, ranges);
            }
        }
    }

    /// These were proposed in vain.
    pub fn give_back(&mut self, placements: &[Placement]) {
        for placement in placements {
            let taken = self.live.values().any(|l| l.attempt.at == placement.at);
            if !taken && self.jobs.contains_key(&placement.at.job) {
                self.put_back(placement.at, Tick(0));
            }
        }
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
        worker.connected && worker.worker.state == WorkerState::Ready
    }
}
