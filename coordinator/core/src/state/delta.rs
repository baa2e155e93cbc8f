//! What the leader's view has to learn after an apply: small copies of what was touched, taken under a short lock.

use super::job::Phase;
use super::rows::{Changes, Key};
use super::store::State;
use crate::leader::instruction::InputOrder;
use crate::model::attempt::Attempt;
use crate::model::breaker::{Breaker, BreakerKey};
use crate::model::checkpoint::Checkpoint;
use crate::model::device_record::Quarantine;
use crate::model::fleet::{Fleet, PoolScale};
use crate::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use crate::model::job::IndexState;
use crate::model::job_spec::JobSpec;
use crate::model::pool::PoolRecord;
use crate::model::time::Tick;
use crate::model::worker::Worker;
use crate::spec::{TaskFacts, WhenFacts};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that changed for the view.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    pub tick: Tick,
    pub jobs: Vec<JobDelta>,
    pub tasks: Vec<TaskDelta>,
    /// Single indices that may be placed again, and from when.
    pub returned: Vec<(IndexRef, Tick)>,
    /// None: the attempt ended.
    pub live: Vec<(Token, Option<LiveDelta>)>,
    pub workers: Vec<(WorkerId, Option<Worker>)>,
    pub whens: Vec<WhenDelta>,
    /// Run time that the newest checkpoint of an index with a deadline stands for, ms.
    pub worked: Vec<(IndexRef, u64)>,
    /// UUIDs of devices that went out of service, or came back.
    pub devices: Vec<(String, Option<Quarantine>)>,
    /// None: nothing of it matters any more.
    pub breakers: Vec<(BreakerKey, Option<Breaker>)>,
    /// Pools of which something new is known.
    pub pools: Vec<(String, PoolRecord)>,
    /// The pools as configured, when they changed.
    pub fleet: Option<Fleet>,
    pub scales: Vec<(String, PoolScale)>,
}

/// A job that came, changed, or is of no more interest (`spec` none).
#[derive(Debug, Clone)]
pub struct JobDelta {
    pub id: JobId,
    pub spec: Option<Arc<JobSpec>>,
    pub held: bool,
    pub submitted: Tick,
}

/// The pending indices of a task, all of them: replaces what the view knew. Neighbours of which the same is to be said, such as
/// the tasks of a new job, are said at once.
#[derive(Debug, Clone)]
pub struct TaskDelta {
    pub job: JobId,
    pub first: TaskNo,
    pub last: TaskNo,
    /// Empty while the task is not open, or held.
    pub ranges: Vec<(u32, u32)>,
    /// Those of them that wait for a tick.
    pub delayed: Vec<(u32, Tick)>,
}

/// A live attempt and what its start needs.
#[derive(Debug, Clone)]
pub struct LiveDelta {
    pub attempt: Attempt,
    pub inputs: Vec<InputOrder>,
    /// Committed checkpoints of its index that are kept, the oldest first.
    pub kept: Vec<Checkpoint>,
}

/// A task whose `when:` has to be evaluated.
#[derive(Debug, Clone)]
pub struct WhenDelta {
    pub job: JobId,
    pub task: TaskNo,
    pub facts: WhenFacts,
}

impl State {
    /// What a view that knew the state before `changes` has to learn. It reads the state as it is now, which may be later: learning
    /// a thing twice changes nothing.
    #[must_use]
    pub fn delta(&self, changes: &Changes) -> Delta {
        let mut delta = Delta { tick: self.tick(), ..Delta::default() };
        for key in &changes.keys {
            match key {
                Key::Job(id) | Key::Spec(id) if delta.jobs.last().is_none_or(|j| j.id != *id) => {
                    delta.jobs.push(self.job_delta(*id));
                }
                Key::Checkpoints(at) => delta.worked.extend(self.worked(*at)),
                Key::Worker(id) => delta.workers.push((*id, self.worker(*id).cloned())),
                Key::Live(token) => {
                    delta.live.push((*token, self.attempt(*token).map(|a| self.live_delta(a))))
                }
                Key::Device(uuid) => {
                    let quarantine = self.devices().get(uuid).and_then(|d| d.quarantine().cloned());
                    delta.devices.push((uuid.clone(), quarantine));
                }
                Key::Breaker(key) => delta.breakers.push((*key, self.breakers().get(key).cloned())),
                Key::Pool(name) => {
                    delta.pools.extend(self.pools().get(name).map(|record| (name.clone(), record.clone())));
                }
                Key::Fleet => delta.fleet = Some(self.fleet().clone()),
                Key::Scale(name) => {
                    delta.scales.extend(self.scales().get(name).map(|scale| (name.clone(), scale.clone())));
                }
                _ => {}
            }
        }
        for (job, tasks) in &changes.reread {
            tasks.iter().for_each(|no| self.task_delta(*job, TaskNo(no), &mut delta));
        }
        for at in &changes.returned {
            let not_before = self
                .job(at.job)
                .filter(|j| j.task(at.task).phase == Phase::Open && !j.task(at.task).held)
                .map(|j| &j.task(at.task).indices)
                .filter(|i| i.state(at.index) == Some(IndexState::Pending))
                .map(|i| i.memory(at.index).map_or(Tick(0), |m| m.not_before));
            delta.returned.extend(not_before.map(|tick| (*at, tick)));
        }
        delta
    }

    /// Everything, for a view that knows nothing.
    #[must_use]
    pub fn full_delta(&self) -> Delta {
        let mut delta = Delta { tick: self.tick(), ..Delta::default() };
        for job in self.jobs().filter(|j| j.open > 0 || j.live > 0) {
            delta.jobs.push(self.job_delta(job.id));
            for no in 0..job.tasks.len() as u32 {
                if matches!(job.task(TaskNo(no)).phase, Phase::Open | Phase::Asking) {
                    self.task_delta(job.id, TaskNo(no), &mut delta);
                }
            }
        }
        delta.worked = self.checkpoints.keys().filter_map(|at| self.worked(*at)).collect();
        delta.live = self.live().map(|a| (a.token, Some(self.live_delta(a)))).collect();
        delta.workers = self.workers().map(|w| (w.id, Some(w.clone()))).collect();
        let sick =
            self.devices().iter().filter_map(|(uuid, d)| Some((uuid.clone(), d.quarantine()?.clone())));
        delta.devices = sick.map(|(uuid, quarantine)| (uuid, Some(quarantine))).collect();
        delta.breakers = self.breakers().iter().map(|(key, b)| (*key, Some(b.clone()))).collect();
        delta.pools = self.pools().iter().map(|(name, record)| (name.clone(), record.clone())).collect();
        delta.fleet = Some(self.fleet().clone());
        delta.scales = self.scales().iter().map(|(name, scale)| (name.clone(), scale.clone())).collect();
        delta
    }

    fn job_delta(&self, id: JobId) -> JobDelta {
        let job = self.job(id).filter(|j| j.open > 0 || j.live > 0);
        JobDelta {
            id,
            spec: job.map(|j| j.spec.clone()),
            held: job.is_some_and(|j| j.held),
            submitted: job.map(|j| j.submitted.tick).unwrap_or_default(),
        }
    }

    /// None without a deadline, or when nothing of its job is left to do.
    fn worked(&self, at: IndexRef) -> Option<(IndexRef, u64)> {
        let job = self.job(at.job).filter(|j| j.open > 0 || j.live > 0)?;
        job.common(at.task).deadline.as_ref()?;
        Some((at, self.checkpoints(at).last().map_or(0, |checkpoint| checkpoint.worked_ms)))
    }

    fn task_delta(&self, id: JobId, no: TaskNo, delta: &mut Delta) {
        let Some(job) = self.job(id) else { return };
        let run = job.task(no);
        let (mut ranges, mut delayed) = (Vec::new(), Vec::new());
        if run.phase == Phase::Open && !run.held {
            ranges = run.indices.ranges(IndexState::Pending);
            let late = run.indices.memories().filter(|(i, m)| {
                m.not_before > self.tick() && run.indices.state(*i) == Some(IndexState::Pending)
            });
            delayed = late.map(|(i, m)| (i, m.not_before)).collect();
        }
        if run.phase == Phase::Asking {
            delta.whens.push(WhenDelta { job: id, task: no, facts: self.when_facts(id) });
        }
        match delta.tasks.last_mut() {
            Some(before)
                if before.job == id
                    && before.last.0 + 1 == no.0
                    && before.ranges == ranges
                    && before.delayed == delayed =>
            {
                before.last = no;
            }
            _ => delta.tasks.push(TaskDelta { job: id, first: no, last: no, ranges, delayed }),
        }
    }

    fn live_delta(&self, attempt: &Attempt) -> LiveDelta {
        let mut inputs = Vec::new();
        if let Some(job) = self.job(attempt.at.job) {
            for input in job.spec.tasks[attempt.at.task.0 as usize].inputs() {
                let indices = &job.task(input.task).indices;
                let array = job.spec.tasks[input.task.0 as usize].array();
                let manifests = indices.with_artifacts().filter_map(|i| {
                    let found = indices.artifacts(i).iter().find(|a| *a.name == *input.output)?;
                    Some((array.map_or(Some(0), |a| a.index(i))?, found.manifest))
                });
                inputs.push(InputOrder {
                    name: input.name.to_string(),
                    from_array: array.is_some(),
                    manifests: manifests.collect(),
                });
            }
        }
        LiveDelta { attempt: attempt.clone(), inputs, kept: self.checkpoints(attempt.at).to_vec() }
    }

    /// What a `when:` of this job may ask about.
    #[must_use]
    pub fn when_facts(&self, id: JobId) -> WhenFacts {
        let Some(job) = self.job(id) else { return WhenFacts::default() };
        let tasks: BTreeMap<String, TaskFacts> = (0..job.tasks.len() as u32)
            .map(|no| {
                let counts = job.task_counts(TaskNo(no));
                let facts = TaskFacts {
                    state: job.task_state(TaskNo(no)).to_owned(),
                    total: counts.total,
                    succeeded_count: counts.succeeded,
                    failed_count: counts.failed,
                    skipped_count: counts.skipped,
                    cancelled_count: counts.cancelled,
                };
                (job.spec.tasks[no as usize].name.to_string(), facts)
            })
            .collect();
        WhenFacts { job: id, name: job.spec.name.clone(), params: job.spec.params.clone(), tasks }
    }
}
