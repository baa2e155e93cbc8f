//! Rows out of the state, and the state out of rows.

use super::indices::{BLOCK, Indices};
use super::job::{Job, Phase, TaskRun};
use super::rows::{JobRow, Key, Row, TaskRow};
use super::store::State;
use crate::ledger::Totals;
use crate::model::attempt::{Attempt, AttemptState, RankState};
use crate::model::checkpoint::Checkpoint;
use crate::model::fleet::Fleet;
use crate::model::ids::{IndexRef, JobId, TaskNo, WorkerId};
use crate::model::job::IndexState;
use crate::model::job_spec::{CheckpointSpec, JobSpec};
use crate::model::placement::WHOLE;
use crate::spec::SpecBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rows on disk make no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("row {key:?} is not of the kind its key says")]
    WrongKind { key: Key },
    #[error("row {key:?} belongs to job {job}, which has no row")]
    NoJob { key: Key, job: JobId },
    #[error("the specification of job {job} is unreadable: {reason}")]
    BadSpec { job: JobId, reason: String },
}

impl State {
    /// The value of a row after the last apply; none when there is no such row any more.
    #[must_use]
    pub fn row(&self, key: &Key) -> Option<Row> {
        match key {
            Key::Meta => Some(Row::Meta(self.meta)),
            Key::Spec(id) => self.jobs.get(id).map(|job| Row::Spec(SpecBytes::encode(&job.spec))),
            Key::Job(id) => self.jobs.get(id).map(|job| Row::Job(Box::new(job_row(job)))),
            Key::Task(id, no) => {
                task_row(self.jobs.get(id)?.tasks.get(no.0 as usize)?).map(|r| Row::Task(Box::new(r)))
            }
            Key::Block(id, no, number) => {
                self.jobs.get(id)?.tasks.get(no.0 as usize)?.indices.block_row(*number).map(Row::Block)
            }
            Key::Artifacts(id, no, i) => {
                let artifacts = self.jobs.get(id)?.tasks.get(no.0 as usize)?.indices.artifacts(*i);
                (!artifacts.is_empty()).then(|| Row::Artifacts(artifacts.to_vec()))
            }
            Key::Worker(id) => self.workers.get(id).map(|w| Row::Worker(Box::new(w.clone()))),
            Key::Live(token) => self.live.get(token).map(|a| Row::Live(Box::new(a.clone()))),
            Key::Request(id) => self.requests.get(id).cloned().map(Row::Request),
            Key::Part(id, n) => self.parts.get(&(id.clone(), *n)).cloned().map(Row::Part),
            Key::Members => Some(Row::Members(self.members.clone())),
            Key::Device(uuid) => self.devices.get(uuid).map(|d| Row::Device(Box::new(d.clone()))),
            Key::Breaker(key) => self.breakers.get(key).map(|b| Row::Breaker(Box::new(b.clone()))),
            Key::Checkpoints(at) => self.checkpoints.get(at).cloned().map(Row::Checkpoints),
            Key::Pool(name) => self.pools.get(name).cloned().map(Row::Pool),
            Key::Fleet => (self.fleet != Fleet::default()).then(|| Row::Fleet(Box::new(self.fleet.clone()))),
            Key::Scale(name) => self.scales.get(name).cloned().map(Row::Scale),
            Key::Ledger => {
                let totals = &self.ledger.totals;
                (*totals != Totals::default()).then(|| Row::Ledger(Box::new(totals.clone())))
            }
            Key::Account(number) => {
                self.ledger.accounts.get(number).map(|account| Row::Account(Box::new(account.clone())))
            }
            Key::Meter(id) => self.ledger.meters.get(id).map(|meter| Row::Meter(Box::new(meter.clone()))),
            Key::Tab(token) => self.ledger.tabs.get(token).map(|tab| Row::Tab(Box::new(tab.clone()))),
            Key::Spent(id) => self.ledger.jobs.get(id).map(|books| Row::Spent(Box::new(books.clone()))),
            Key::Budget(scope) => {
                self.ledger.budgets.get(scope).map(|row| Row::Budget(Box::new(row.clone())))
            }
        }
    }

    /// The state whose rows these are, in the order of their keys.
    ///
    /// # Errors
    /// Rows that do not fit together: the disk holds something else than what was written.
    pub fn restore(rows: impl Iterator<Item = (Key, Row)>) -> Result<Self, RestoreError> {
        let mut state = Self::new();
        let mut specs = BTreeMap::new();
        for (key, row) in rows {
            match (key, row) {
                (Key::Spec(id), Row::Spec(bytes)) => {
                    let spec = bytes
                        .decode()
                        .map_err(|e| RestoreError::BadSpec { job: id, reason: e.to_string() })?;
                    specs.insert(id, spec);
                }
                (Key::Job(id), Row::Job(row)) => {
                    let spec =
                        specs.remove(&id).ok_or(RestoreError::NoJob { key: Key::Spec(id), job: id })?;
                    state.jobs.insert(id, job_of(id, spec, *row));
                }
                (key, row) => state.restore_row(key, row)?,
            }
        }
        for job in state.jobs.values_mut() {
            job.open = job.tasks.iter().filter(|t| t.outcome().is_none()).count() as u32;
        }
        Ok(state)
    }

    fn restore_row(&mut self, key: Key, row: Row) -> Result<(), RestoreError> {
        match (key.clone(), row) {
            (Key::Meta, Row::Meta(meta)) => self.meta = meta,
            (Key::Task(id, no), Row::Task(row)) => {
                let run = self.task_of(&key, id, no)?;
                run.phase = row.phase;
                run.held = row.held;
                run.parents = row.parents;
                run.reason = row.reason.map(String::into_boxed_str);
                if let Some((index_state, memory)) = row.one {
                    run.indices.set(0, index_state);
                    if let Some(memory) = memory {
                        *run.indices.remember(0) = memory;
                    }
                }
            }
            (Key::Block(id, no, number), Row::Block(row)) => {
                self.task_of(&key, id, no)?.indices.restore_block(number, row)
            }
            (Key::Artifacts(id, no, i), Row::Artifacts(row)) => {
                self.task_of(&key, id, no)?.indices.set_artifacts(i, row)
            }
            (Key::Worker(id), Row::Worker(worker)) => {
                self.names.insert(worker.spec.name.clone(), id);
                self.workers.insert(id, *worker);
            }
            (Key::Live(_), Row::Live(attempt)) => {
                let at = attempt.at;
                self.task_of(&key, at.job, at.task)?.indices.set(at.index, IndexState::Live);
                self.link(*attempt);
            }
            (Key::Request(id), Row::Request(row)) => {
                self.requests.insert(id, row);
            }
            (Key::Part(id, n), Row::Part(row)) => {
                self.parts.insert((id, n), row);
            }
            (Key::Members, Row::Members(row)) => self.members = row,
            (Key::Device(uuid), Row::Device(record)) => {
                self.devices.insert(uuid, *record);
            }
            (Key::Breaker(key), Row::Breaker(breaker)) => {
                self.breakers.insert(key, *breaker);
            }
            (Key::Checkpoints(at), Row::Checkpoints(kept)) => {
                self.task_of(&key, at.job, at.task)?;
                self.checkpoints.insert(at, kept);
            }
            (Key::Pool(name), Row::Pool(record)) => {
                self.pools.insert(name, record);
            }
            (Key::Fleet, Row::Fleet(fleet)) => self.fleet = *fleet,
            (Key::Scale(name), Row::Scale(scale)) => {
                self.scales.insert(name, scale);
            }
            (Key::Ledger, Row::Ledger(totals)) => self.ledger.totals = *totals,
            (Key::Account(number), Row::Account(account)) => self.ledger.restore_account(number, *account),
            (Key::Meter(id), Row::Meter(meter)) => {
                self.ledger.meters.insert(id, *meter);
            }
            (Key::Tab(token), Row::Tab(tab)) => {
                self.ledger.tabs.insert(token, *tab);
            }
            (Key::Spent(id), Row::Spent(books)) => {
                self.ledger.jobs.insert(id, *books);
            }
            (Key::Budget(scope), Row::Budget(row)) => {
                self.ledger.budgets.insert(scope, *row);
            }
            (key, _) => return Err(RestoreError::WrongKind { key }),
        }
        Ok(())
    }

    fn task_of(&mut self, key: &Key, job: JobId, no: TaskNo) -> Result<&mut TaskRun, RestoreError> {
        self.jobs
            .get_mut(&job)
            .and_then(|j| j.tasks.get_mut(no.0 as usize))
            .ok_or_else(|| RestoreError::NoJob { key: key.clone(), job })
    }

    /// Whether the derived maps and counters are what the rows say, and no device has two attempts.
    ///
    /// # Errors
    /// The first thing that is not so, in words.
    pub fn check(&self) -> Result<(), String> {
        let rows = self.keys().into_iter().filter_map(|k| self.row(&k).map(|r| (k, r)));
        let again = Self::restore(rows).map_err(|e| e.to_string())?;
        let kept: BTreeMap<_, _> = self.loads.iter().filter(|(_, load)| !load.tokens.is_empty()).collect();
        let is: BTreeMap<_, _> = again.loads.iter().collect();
        if kept != is {
            return Err(format!("load of workers: kept {kept:?}, is {is:?}"));
        }
        for (id, job) in &self.jobs {
            let other = &again.jobs[id];
            if (job.open, job.live) != (other.open, other.live) {
                return Err(format!(
                    "job {id}: open {} live {}, is {} {}",
                    job.open, job.live, other.open, other.live
                ));
            }
            for (no, (run, back)) in job.tasks.iter().zip(&other.tasks).enumerate() {
                if run.phase != back.phase || run.indices.runs() != back.indices.runs() {
                    return Err(format!("job {id} task {no}: {:?} {:?}", run.phase, back.phase));
                }
            }
        }
        if self.checkpoints != again.checkpoints {
            return Err(format!("checkpoints: kept {:?}, is {:?}", self.checkpoints, again.checkpoints));
        }
        let probes = self.breakers.values().filter_map(|b| b.probe);
        if let Some(token) = probes.into_iter().find(|token| !self.live.contains_key(token)) {
            return Err(format!("the probe of a breaker, token {token}, is not live"));
        }
        for (id, worker) in &self.workers {
            let (used, own) = (self.used(*id), self.used_after(*id, worker.former));
            let spec = &worker.spec;
            if own.cpu_milli > spec.cpu_milli || own.memory > spec.memory || own.disk > spec.disk {
                return Err(format!("worker {id} gives more than it has: {own:?}"));
            }
            if let Some((device, taken)) = used.devices.iter().find(|(_, taken)| taken.milli > WHOLE) {
                return Err(format!("worker {id}: {} thousandths of device {device} are taken", taken.milli));
            }
            for (device, taken) in &own.devices {
                let has = spec.devices.get(usize::from(*device)).map_or(0, |d| d.memory);
                if taken.memory > has {
                    return Err(format!("worker {id}: {} bytes of device {device} of {has}", taken.memory));
                }
            }
        }
        self.check_books()?;
        self.live.values().try_for_each(|attempt| self.check_gang(attempt))?;
        self.live.values().try_for_each(|attempt| self.check_progress(attempt))?;
        self.checkpoints.iter().try_for_each(|(at, kept)| self.check_kept(*at, kept))
    }

    /// Whether what is kept of an index only goes forwards, and is no more than asked for.
    fn check_kept(&self, at: IndexRef, kept: &[Checkpoint]) -> Result<(), String> {
        let job = self.jobs.get(&at.job).ok_or_else(|| format!("{at:?} has checkpoints and no job"))?;
        let keep =
            job.common(at.task).checkpoint.as_deref().map_or(CheckpointSpec::default().keep, |c| c.keep);
        let forwards =
            kept.windows(2).all(|pair| pair[0].step < pair[1].step && pair[0].token <= pair[1].token);
        let granted = kept.iter().all(|c| c.token <= self.last_token() && !c.parts.is_empty());
        if kept.is_empty() || kept.len() > keep as usize || !forwards || !granted {
            return Err(format!("checkpoints of {at:?}, of which {keep} are kept: {kept:?}"));
        }
        Ok(())
    }

    /// Whether what an attempt has committed is kept.
    fn check_progress(&self, attempt: &Attempt) -> Result<(), String> {
        let (token, progress) = (attempt.token, &attempt.progress);
        let newest = self.checkpoints(attempt.at).last();
        let has = |step: u64| newest.is_some_and(|c| (c.step, c.token) == (step, token));
        let forwards = progress.committed.is_none() || progress.committed > progress.resumed;
        if !forwards || progress.committed.is_some_and(|step| !has(step)) {
            return Err(format!("token {token} has come to {progress:?} and the newest kept is {newest:?}"));
        }
        Ok(())
    }

    /// Whether the ranks of an attempt and what is said of them fit together.
    fn check_gang(&self, attempt: &Attempt) -> Result<(), String> {
        let token = attempt.token;
        let workers: BTreeSet<WorkerId> = attempt.seats.iter().map(|s| s.worker).collect();
        let job = self.jobs.get(&attempt.at.job).ok_or_else(|| format!("token {token} has no job"))?;
        let common = job.common(attempt.at.task);
        if workers.len() != attempt.seats.len() || !common.takes_seats(workers.len()) {
            return Err(format!(
                "token {token} has {} seats on {} workers",
                attempt.seats.len(),
                workers.len()
            ));
        }
        let ranks = if common.gang.is_some() { attempt.seats.len() } else { 0 };
        if attempt.ranks.len() != ranks || (ranks > 0 && attempt.ranks.iter().all(|r| *r == RankState::Ended))
        {
            return Err(format!("token {token} lives with ranks {:?}", attempt.ranks));
        }
        if attempt.failed.is_some() && attempt.state != AttemptState::Stopping {
            return Err(format!("token {token} goes on although {:?}", attempt.failed));
        }
        Ok(())
    }
}

fn job_row(job: &Job) -> JobRow {
    JobRow {
        request: job.request.clone(),
        user: job.user.clone(),
        submitted: job.submitted,
        started: job.started,
        ended: job.ended,
        held: job.held,
        cancelled: job.cancelled,
        first_failure: job.first_failure.clone(),
        retried: job.retried,
        lost: job.lost,
    }
}

fn job_of(id: JobId, spec: JobSpec, row: JobRow) -> Job {
    let mut job = Job::new(id, Arc::new(spec), row.request, row.user, row.submitted);
    job.started = row.started;
    job.ended = row.ended;
    job.held = row.held;
    job.cancelled = row.cancelled;
    job.first_failure = row.first_failure;
    job.retried = row.retried;
    job.lost = row.lost;
    // A task without parents and without a row is as the submission left it.
    for (run, task) in job.tasks.iter_mut().zip(&job.spec.tasks) {
        run.phase = super::apply::first_phase(&job.spec, task);
    }
    job
}

/// None for a task of which nothing has happened: it is what the spec alone says. A live index counts as pending here.
fn task_row(run: &TaskRun) -> Option<TaskRow> {
    let one = match &run.indices {
        Indices::One(_) => {
            let state = match run.indices.state(0).unwrap_or(IndexState::Pending) {
                IndexState::Live => IndexState::Pending,
                state => state,
            };
            Some((state, run.indices.memory(0).cloned()))
        }
        Indices::Array(_) => None,
    };
    let untouched = run.phase == Phase::Waiting
        && !run.held
        && run.parents == crate::dag::Parents::default()
        && run.reason.is_none()
        && one.as_ref().is_none_or(|(state, memory)| *state == IndexState::Pending && memory.is_none());
    (!untouched).then(|| TaskRow {
        phase: run.phase,
        held: run.held,
        parents: run.parents,
        reason: run.reason.as_deref().map(str::to_owned),
        one,
    })
}

/// The block that index `i` lies in.
#[must_use]
pub fn block_of(i: u32) -> u32 {
    i / BLOCK
}
