//! The documents that people and programs read, built from the state and the history.

use super::devices::breaker_doc;
use super::error::ApiError;
use super::service::Service;
use muster_core::model::attempt::{Attempt, AttemptState, RankState};
use muster_core::model::ids::{JobId, TaskNo};
use muster_core::model::job::Counts;
use muster_core::model::job_spec::{JobSpec, NeedWhen, Run};
use muster_core::model::placement::{Seat, Share};
use muster_core::model::time::Stamp;
use muster_core::model::worker::Worker;
use muster_core::state::{History, Job, State};
use muster_core::view_doc::{
    AttemptDoc, CountsDoc, GpuDoc, JobDoc, JobSummary, JobsDoc, LeaseDoc, LinkDoc, NeedDoc, QueueDoc,
    QueuesDoc, RankDoc, TaskDoc, TimelineDoc, WorkerDoc, WorkersDoc, rfc3339,
};
use std::collections::BTreeMap;

/// Attempts listed of one task, and entries of a timeline.
const ATTEMPTS_MAX: usize = 1_000;

/// Which jobs a list shows.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub states: Vec<String>,
    pub queue: String,
    pub user: String,
    /// `key=value` or `key`.
    pub labels: Vec<String>,
    pub since_ms: Option<i64>,
    /// 0: all.
    pub limit: u32,
    /// Only ids below; 0: all.
    pub before: u64,
}

pub(super) fn time(stamp: Stamp) -> String {
    rfc3339(stamp.wall.0)
}

fn counts(counts: &Counts) -> CountsDoc {
    CountsDoc {
        total: counts.total,
        waiting: counts.waiting,
        ready: counts.ready,
        held: counts.held,
        starting: counts.starting,
        running: counts.running,
        stopping: counts.stopping,
        succeeded: counts.succeeded,
        failed: counts.failed,
        skipped: counts.skipped,
        cancelled: counts.cancelled,
    }
}

/// Live indices count as running in the core; the attempts say which of them start or stop.
fn split_live<'a>(mut doc: CountsDoc, live: impl Iterator<Item = &'a Attempt>) -> CountsDoc {
    for attempt in live {
        match attempt.state {
            AttemptState::Running => {}
            AttemptState::Starting => {
                doc.running = doc.running.saturating_sub(1);
                doc.starting += 1;
            }
            AttemptState::Stopping => {
                doc.running = doc.running.saturating_sub(1);
                doc.stopping += 1;
            }
        }
    }
    doc
}

fn attempt_state(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Starting => "starting",
        AttemptState::Running => "running",
        AttemptState::Stopping => "stopping",
    }
}

fn devices(worker: Option<&Worker>, shares: &[Share]) -> Vec<String> {
    let uuid = |share: &Share| {
        worker
            .and_then(|w| w.spec.devices.get(usize::from(share.device)))
            .map_or_else(|| format!("#{}", share.device), |d| d.uuid.clone())
    };
    shares.iter().map(uuid).collect()
}

/// The ranks of an attempt, one of what is no gang.
fn ranks(state: &State, seats: &[Seat], is: impl Fn(u32) -> RankState) -> Vec<RankDoc> {
    let doc = |(rank, seat): (u32, &Seat)| {
        let worker = state.worker(seat.worker);
        RankDoc {
            rank,
            worker: worker.map_or_else(|| seat.worker.to_string(), |w| w.spec.name.clone()),
            devices: devices(worker, &seat.devices),
            state: match is(rank) {
                RankState::Starting => "starting",
                RankState::Running => "running",
                RankState::Ended => "ended",
            }
            .to_owned(),
        }
    };
    (0..).zip(seats).map(doc).collect()
}

/// Puts the ranks into the attempt: all of a gang, of another its worker and devices alone.
fn with_ranks(doc: AttemptDoc, ranks: Vec<RankDoc>, is_gang: bool) -> AttemptDoc {
    AttemptDoc {
        worker: ranks.first().map(|r| r.worker.clone()).unwrap_or_default(),
        devices: ranks.iter().flat_map(|r| r.devices.iter().cloned()).collect(),
        ranks: if is_gang { ranks } else { Vec::new() },
        ..doc
    }
}

fn user_index(spec: &JobSpec, task: TaskNo, position: u32) -> Option<u32> {
    spec.task(task)?.array()?.index(position)
}

/// `42.train[7]#2`.
pub(super) fn attempt_name(spec: &JobSpec, job: JobId, task: TaskNo, position: u32, number: u32) -> String {
    let name = spec.task(task).map_or("", |task| &task.name);
    match user_index(spec, task, position) {
        Some(index) => format!("{job}.{name}[{index}]#{number}"),
        None => format!("{job}.{name}#{number}"),
    }
}

fn summary(state: &State, job: &Job) -> JobSummary {
    JobSummary {
        id: job.id.0,
        name: job.spec.name.clone(),
        state: job.state().as_str().to_owned(),
        queue: job.spec.queue.clone(),
        user: job.user.clone(),
        submitted: time(job.submitted),
        started: job.started.map(time),
        ended: job.ended.map(time),
        priority: u32::from(job.spec.priority),
        labels: job.spec.labels.clone(),
        tasks: split_live(counts(&job.counts()), state.live_of_job(job.id)),
    }
}

fn matches(job: &Job, filter: &JobFilter) -> bool {
    (filter.before == 0 || job.id.0 < filter.before)
        && (filter.states.is_empty() || filter.states.iter().any(|state| state == job.state().as_str()))
        && (filter.queue.is_empty() || filter.queue == job.spec.queue)
        && (filter.user.is_empty() || filter.user == job.user)
        && filter.since_ms.is_none_or(|since| job.submitted.wall.0 >= since)
        && filter.labels.iter().all(|label| match label.split_once('=') {
            Some((key, value)) => job.spec.labels.get(key).is_some_and(|found| found == value),
            None => job.spec.labels.contains_key(label),
        })
}

fn task_doc(state: &State, job: &Job, no: TaskNo) -> TaskDoc {
    let spec = &job.spec;
    let task = &spec.tasks[no.0 as usize];
    let common = spec.common(task);
    let needs = task.needs.iter().map(|need| NeedDoc {
        task: spec.task(need.task).map_or(String::new(), |t| t.name.to_string()),
        when: match need.when {
            NeedWhen::Unsaid | NeedWhen::Succeeded => "succeeded",
            NeedWhen::Failed => "failed",
            NeedWhen::Finished => "finished",
            NeedWhen::Skipped => "skipped",
        }
        .to_owned(),
    });
    TaskDoc {
        name: task.name.to_string(),
        state: job.task_state(no).to_owned(),
        reason: job.task(no).reason.as_deref().map(str::to_owned),
        needs: needs.collect(),
        rule: common.rule.name().to_owned(),
        run: match &task.run {
            Run::Shell(script) => script.to_string(),
            Run::Exec(words) => words.join(" "),
        },
        array: task.array().is_some(),
        counts: split_live(
            counts(&job.task_counts(no)),
            state.live_of_job(job.id).filter(|attempt| attempt.at.task == no),
        ),
        attempts: Vec::new(),
        attempts_omitted: 0,
    }
}

fn ended_doc(state: &State, spec: &JobSpec, ended: &History) -> AttemptDoc {
    let ranks = ranks(state, &ended.seats, |_| RankState::Ended);
    let is_gang = spec.task(ended.at.task).is_some_and(|task| spec.common(task).gang.is_some());
    let doc = AttemptDoc {
        number: ended.number,
        index: user_index(spec, ended.at.task, ended.at.index),
        state: ended.cause.end_state().to_owned(),
        cause: Some(ended.cause.to_string()),
        started: ended.started.map(time),
        ended: Some(time(ended.ended)),
        token: ended.token.0,
        ..AttemptDoc::default()
    };
    with_ranks(doc, ranks, is_gang)
}

fn live_doc(state: &State, spec: &JobSpec, attempt: &Attempt) -> AttemptDoc {
    let rank = |rank: u32| attempt.ranks.get(rank as usize).copied().unwrap_or(RankState::Running);
    let ranks = ranks(state, &attempt.seats, rank);
    let doc = AttemptDoc {
        number: attempt.number,
        index: user_index(spec, attempt.at.task, attempt.at.index),
        state: attempt_state(attempt.state).to_owned(),
        cause: None,
        started: attempt.started.map(time),
        ended: None,
        token: attempt.token.0,
        ..AttemptDoc::default()
    };
    with_ranks(doc, ranks, !attempt.ranks.is_empty())
}

fn timeline(job: &Job, tasks: &[TaskDoc]) -> Vec<TimelineDoc> {
    let entry = |time: &str, event: &str, text: String| TimelineDoc {
        time: time.to_owned(),
        event: event.to_owned(),
        text,
    };
    let mut all = vec![entry(&time(job.submitted), "job_submitted", format!("{} submitted it", job.user))];
    for task in tasks {
        for attempt in &task.attempts {
            let name = match attempt.index {
                Some(index) => format!("{}[{index}]#{}", task.name, attempt.number),
                None => format!("{}#{}", task.name, attempt.number),
            };
            if let Some(started) = &attempt.started {
                all.push(entry(started, "attempt_started", format!("{name} started on {}", attempt.worker)));
            }
            if let Some(ended) = &attempt.ended {
                let cause = attempt.cause.as_deref().unwrap_or_default();
                all.push(entry(ended, "attempt_ended", format!("{name} {}: {cause}", attempt.state)));
            }
        }
    }
    if let Some(ended) = job.ended {
        all.push(entry(&time(ended), "job_ended", format!("it {}", job.state().as_str())));
    }
    // RFC 3339 in UTC with a fixed number of digits sorts as text.
    all.sort_by(|a, b| a.time.cmp(&b.time));
    let extra = all.len().saturating_sub(ATTEMPTS_MAX);
    all.drain(..extra);
    all
}

fn worker_doc(state: &State, worker: &Worker) -> WorkerDoc {
    let spec = &worker.spec;
    let used = state.used(worker.id);
    let mut holders = BTreeMap::new();
    let mut leases = Vec::new();
    for token in state.tokens_of(worker.id) {
        let Some(attempt) = state.attempt(token) else { continue };
        let name = state.job(attempt.at.job).map_or_else(String::new, |job| {
            attempt_name(&job.spec, job.id, attempt.at.task, attempt.at.index, attempt.number)
        });
        let held: &[Share] = attempt.seat_on(worker.id).map_or(&[], |(_, seat)| &seat.devices);
        for share in held {
            let holder: &mut String = holders.entry(share.device).or_default();
            // A device in parts has several.
            if !holder.is_empty() {
                holder.push_str(", ");
            }
            holder.push_str(&name);
        }
        leases.push(LeaseDoc {
            attempt: name,
            job: attempt.at.job.0,
            token: token.0,
            state: attempt_state(attempt.state).to_owned(),
            devices: devices(Some(worker), held),
        });
    }
    let gpu = |(number, device): (usize, &muster_core::model::worker::Device)| GpuDoc {
        uuid: device.uuid.clone(),
        model: device.model.clone(),
        memory: device.memory,
        compute_capability: match device.compute_capability {
            0 => String::new(),
            both => format!("{}.{}", both / 10, both % 10),
        },
        simulated: device.simulated,
        numa: device.numa.map(u32::from),
        links: device
            .links
            .iter()
            .map(|link| LinkDoc {
                peer: u32::from(link.peer),
                class: link.class.as_str().to_owned(),
                lanes: u32::from(link.lanes),
            })
            .collect(),
        mig: device.mig.clone(),
        health: if state.is_quarantined(&device.uuid) { "quarantined" } else { "healthy" }.to_owned(),
        reason: state
            .devices()
            .get(&device.uuid)
            .and_then(|d| d.quarantine())
            .map(|quarantine| quarantine.reason.clone()),
        held_by: u16::try_from(number).ok().and_then(|number| holders.get(&number).cloned()),
        sample: None,
    };
    WorkerDoc {
        id: worker.id.0,
        name: spec.name.clone(),
        state: worker.state.as_str().to_owned(),
        pool: spec.pool.clone(),
        spot: spec.spot,
        labels: spec.labels.clone(),
        cpu_milli: spec.cpu_milli,
        cpus: spec.cpu_milli / 1_000,
        memory: spec.memory,
        disk: spec.disk,
        gpus: spec.devices.iter().enumerate().map(gpu).collect(),
        isolation: spec.isolation.clone(),
        leases,
        used_cpu_milli: used.cpu_milli,
        used_memory: used.memory,
        used_disk: used.disk,
        used_gpus: used.devices.len() as u64,
        version: spec.version.clone(),
        host: spec.host.clone(),
        drain_reason: worker.drain.as_ref().map(|drain| drain.reason.clone()),
        breaker: breaker_doc(state, worker.id),
        drill: None,
        joined: time(worker.joined),
        changed: time(worker.changed),
        machine: None,
    }
}

impl Service {
    /// `muster ps`: newest first.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_jobs(&self, filter: &JobFilter) -> Result<JobsDoc, ApiError> {
        self.forward.catch_up().await?;
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit as usize };
        let jobs = self.forward.read(|state| {
            state
                .jobs()
                .rev()
                .filter(|job| matches(job, filter))
                .take(limit)
                .map(|job| summary(state, job))
                .collect()
        });
        Ok(JobsDoc { jobs })
    }

    /// `muster show`.
    ///
    /// # Errors
    /// No such job, no leader.
    pub async fn get_job(&self, id: &str) -> Result<JobDoc, ApiError> {
        let id = self.target(id).await?.job;
        let history = self.history.clone();
        // The newest attempts of each task, and how many more there are.
        let ended = tokio::task::spawn_blocking(move || {
            let mut by_task: BTreeMap<TaskNo, (std::collections::VecDeque<History>, u64)> = BTreeMap::new();
            history.visit(id, None, None, &mut |ended| {
                let (kept, omitted) = by_task.entry(ended.at.task).or_default();
                kept.push_back(ended);
                if kept.len() > ATTEMPTS_MAX {
                    kept.pop_front();
                    *omitted += 1;
                }
                true
            })?;
            Ok::<_, std::io::Error>(by_task)
        });
        let mut ended = ended.await.map_err(|error| ApiError::Stopped(error.to_string()))??;
        self.forward.read(|state| {
            let job = state.job(id).ok_or(ApiError::NoJob(id.0))?;
            let head = summary(state, job);
            let mut live: BTreeMap<TaskNo, Vec<AttemptDoc>> = BTreeMap::new();
            let mut tokens = std::collections::BTreeSet::new();
            for attempt in state.live_of_job(id) {
                tokens.insert(attempt.token);
                live.entry(attempt.at.task).or_default().push(live_doc(state, &job.spec, attempt));
            }
            let tasks: Vec<TaskDoc> = (0..job.spec.tasks.len())
                .filter_map(|no| u32::try_from(no).ok().map(TaskNo))
                .map(|no| {
                    let mut doc = task_doc(state, job, no);
                    if let Some((kept, omitted)) = ended.remove(&no) {
                        doc.attempts.extend(
                            kept.iter()
                                .filter(|e| !tokens.contains(&e.token))
                                .map(|e| ended_doc(state, &job.spec, e)),
                        );
                        doc.attempts_omitted = omitted;
                    }
                    doc.attempts.extend(live.remove(&no).unwrap_or_default());
                    doc.attempts.sort_by_key(|attempt| (attempt.index, attempt.number));
                    let extra = doc.attempts.len().saturating_sub(ATTEMPTS_MAX);
                    doc.attempts.drain(..extra);
                    doc.attempts_omitted += extra as u64;
                    doc
                })
                .collect();
            Ok(JobDoc {
                id: head.id,
                name: head.name,
                state: head.state,
                queue: head.queue,
                user: head.user,
                submitted: head.submitted,
                started: head.started,
                ended: head.ended,
                priority: head.priority,
                labels: head.labels,
                counts: head.tasks,
                timeline: timeline(job, &tasks),
                tasks,
                exit_code: job.exit_code(),
            })
        })
    }

    /// The line of `muster ps` of one job, and its exit code; as this member knows it now.
    #[must_use]
    pub fn peek(&self, id: JobId) -> Option<(JobSummary, Option<i32>)> {
        self.forward.read(|state| state.job(id).map(|job| (summary(state, job), job.exit_code())))
    }

    /// `muster workers`.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_workers(&self) -> Result<WorkersDoc, ApiError> {
        self.forward.catch_up().await?;
        let mut workers: Vec<WorkerDoc> =
            self.forward.read(|state| state.workers().map(|worker| worker_doc(state, worker)).collect());
        self.measured(&mut workers).await;
        Ok(WorkersDoc { workers })
    }

    /// `muster worker show`.
    ///
    /// # Errors
    /// No such worker, no leader.
    pub async fn get_worker(&self, text: &str) -> Result<WorkerDoc, ApiError> {
        let id = self.worker(text).await?;
        let mut worker = self
            .forward
            .read(|state| state.worker(id).map(|worker| worker_doc(state, worker)))
            .ok_or_else(|| ApiError::NoWorker(text.to_owned()))?;
        self.measured(std::slice::from_mut(&mut worker)).await;
        Ok(worker)
    }

    /// `muster queue list`.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_queues(&self) -> Result<QueuesDoc, ApiError> {
        self.forward.catch_up().await?;
        let queues = self.forward.read(|state| {
            let mut queues: BTreeMap<String, (u64, Counts)> =
                BTreeMap::from([("default".to_owned(), Default::default())]);
            for job in state.jobs() {
                let (jobs, sum) = queues.entry(job.spec.queue.clone()).or_default();
                if !job.state().is_terminal() {
                    *jobs += 1;
                    sum.add(&job.counts());
                }
            }
            queues
        });
        let doc = |(name, (jobs, sum)): (String, (u64, Counts))| QueueDoc { name, jobs, tasks: counts(&sum) };
        Ok(QueuesDoc { queues: queues.into_iter().map(doc).collect() })
    }
}
