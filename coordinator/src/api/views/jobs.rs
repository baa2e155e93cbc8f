//! Jobs, their tasks and attempts, as documents.

use super::super::error::ApiError;
use super::super::service::Service;
use super::timeline::timeline;
use super::words::{attempt_state, counts, devices, split_live, time, user_index};
use muster_core::model::attempt::{Attempt, RankState};
use muster_core::model::ids::{JobId, TaskNo};
use muster_core::model::job_spec::{JobSpec, NeedWhen, Run};
use muster_core::model::placement::Seat;
use muster_core::scheduler::advice;
use muster_core::state::{History, Job, State};
use muster_core::view_doc::{AttemptDoc, JobDoc, JobSummary, JobsDoc, NeedDoc, RankDoc, TaskDoc};
use std::collections::BTreeMap;

/// Attempts listed of one task, and entries of a timeline.
pub(super) const ATTEMPTS_MAX: usize = 1_000;

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
        notes: advice(state, job, no, state.tick()),
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
        resumed_step: ended.resumed,
        checkpoint_step: ended.committed,
        asked_to_stop: ended.asked.map(time),
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
        resumed_step: attempt.progress.resumed,
        checkpoint_step: attempt.progress.committed,
        asked_to_stop: attempt.asked.map(time),
        ..AttemptDoc::default()
    };
    with_ranks(doc, ranks, !attempt.ranks.is_empty())
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
                timeline: timeline(state, job, &tasks),
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
}
