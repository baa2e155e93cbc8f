//! Captured output: from the worker while the attempt lives and shortly after, from the store later; with `follow` over attempts and
//! indices until the job is terminal. Driven by events; nothing polls.

mod out;
mod stream;

use super::error::ApiError;
use super::service::Service;
use crate::clock::wall_ms;
use crate::watch::{Change, Watcher};
use bytes::Bytes;
use muster_core::event::Event;
use muster_core::model::attempt::AttemptState;
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Ended attempts read at once.
const READS: usize = 32;
/// An output that ended longer ago than this is in the store, ms; before, the worker has it for sure.
const STORED_AFTER_MS: i64 = 30_000;

/// Which output.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    pub job: JobId,
    pub task: Option<String>,
    /// As the user wrote it.
    pub index: Option<u32>,
    pub attempt: Option<u32>,
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Only so many last lines of each stream.
    pub tail: Option<u64>,
    /// Only this rank of a gang.
    pub rank: Option<u32>,
}

/// What the reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    Chunk {
        task: Arc<str>,
        index: Option<u32>,
        attempt: u32,
        /// Of a gang.
        rank: Option<u32>,
        stderr: bool,
        offset: u64,
        bytes: Bytes,
    },
    /// A sentence about what can't be shown.
    Note(String),
    /// Last, when following: how the job ended.
    End { state: String, exit_code: i32 },
}

type Sink = mpsc::Sender<Result<LogItem, ApiError>>;

/// One rank of an attempt in scope.
#[derive(Debug, Clone, Copy)]
struct One {
    at: IndexRef,
    number: u32,
    token: Token,
    rank: u32,
    worker: WorkerId,
    /// Ended long ago.
    is_old: bool,
}

/// Names for the numbers in scope.
struct Scope {
    job: JobId,
    task: Option<TaskNo>,
    position: Option<u32>,
    attempt: Option<u32>,
    rank: Option<u32>,
}

impl Scope {
    fn holds(&self, at: IndexRef, number: u32) -> bool {
        at.job == self.job
            && self.task.is_none_or(|task| task == at.task)
            && self.position.is_none_or(|position| position == at.index)
            && self.attempt.is_none_or(|attempt| attempt == number)
    }

    /// One for each of the workers, by rank, that is wanted.
    fn ones(
        &self,
        at: IndexRef,
        number: u32,
        token: Token,
        workers: impl Iterator<Item = WorkerId>,
        is_old: bool,
    ) -> Vec<One> {
        let ranks = (0..).zip(workers).filter(|(rank, _)| self.rank.is_none_or(|wanted| wanted == *rank));
        ranks.map(|(rank, worker)| One { at, number, token, rank, worker, is_old }).collect()
    }
}

impl Service {
    /// Begins to send output into the receiver; it ends when all was sent or nobody listens.
    ///
    /// # Errors
    /// No such job, task or index; no leader.
    pub async fn logs(&self, query: LogQuery) -> Result<mpsc::Receiver<Result<LogItem, ApiError>>, ApiError> {
        let name = match (&query.task, query.index) {
            (None, None) => query.job.to_string(),
            (Some(task), None) => format!("{}.{task}", query.job),
            (Some(task), Some(index)) => format!("{}.{task}[{index}]", query.job),
            (None, Some(index)) => {
                self.forward.catch_up().await?;
                let only = self.forward.read(|state| {
                    let job = state.job(query.job).ok_or(ApiError::NoJob(query.job.0))?;
                    match &job.spec.tasks[..] {
                        [task] => Ok(task.name.to_string()),
                        _ => Err(ApiError::BadRequest(format!(
                            "job {} has several tasks: name one beside the index",
                            query.job
                        ))),
                    }
                })?;
                format!("{}.{only}[{index}]", query.job)
            }
        };
        // Watch first, then look: nothing falls between.
        let watcher = self.hub.watch(query.job);
        let target = self.target(&name).await?;
        let scope = Scope {
            job: query.job,
            task: target.task,
            position: target.index,
            attempt: query.attempt,
            rank: query.rank,
        };
        let (sink, receiver) = mpsc::channel(16);
        let service = self.clone();
        tokio::spawn(async move {
            let closed = sink.clone();
            let work = async {
                let outcome = if query.follow {
                    service.follow(&query, &scope, watcher, &sink).await
                } else {
                    service.print(&query, &scope, &sink).await
                };
                if let Err(error) = outcome {
                    let _ = sink.send(Err(error)).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = closed.closed() => {}
            }
        });
        Ok(receiver)
    }

    /// Every attempt in scope, in order.
    async fn scan(&self, scope: &Scope) -> Result<BTreeMap<(IndexRef, u32, u32), One>, ApiError> {
        // Live first: what ends meanwhile is then found among the ended.
        let mut all: BTreeMap<(IndexRef, u32, u32), One> = self.forward.read(|state| {
            let live = state.live_of_job(scope.job).filter(|a| scope.holds(a.at, a.number));
            let ones = live.flat_map(|a| {
                let ones = scope.ones(a.at, a.number, a.token, a.seats.iter().map(|s| s.worker), false);
                let begun = |one: &One| a.state != AttemptState::Starting || a.has_started(one.rank);
                ones.into_iter().filter(begun).collect::<Vec<_>>()
            });
            ones.map(|one| ((one.at, one.number, one.rank), one)).collect()
        });
        let (history, job, task, position) = (self.history.clone(), scope.job, scope.task, scope.position);
        let ended = tokio::task::spawn_blocking(move || history.all(job, task, position));
        let now = wall_ms();
        for e in ended.await.map_err(|error| ApiError::Stopped(error.to_string()))?? {
            if scope.holds(e.at, e.number) {
                let is_old = now - e.ended.wall.0 > STORED_AFTER_MS;
                let ones = scope.ones(e.at, e.number, e.token, e.seats.iter().map(|s| s.worker), is_old);
                all.extend(ones.into_iter().map(|one| ((one.at, one.number, one.rank), one)));
            }
        }
        Ok(all)
    }

    async fn print(&self, query: &LogQuery, scope: &Scope, sink: &Sink) -> Result<(), ApiError> {
        for one in self.scan(scope).await?.into_values() {
            for stderr in [false, true] {
                if if stderr { query.stderr } else { query.stdout } {
                    self.send_stream(one, stderr, query, sink).await?;
                }
            }
        }
        Ok(())
    }

    async fn follow(
        &self,
        query: &LogQuery,
        scope: &Scope,
        mut watcher: Watcher,
        sink: &Sink,
    ) -> Result<(), ApiError> {
        let mut pumps = JoinSet::new();
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<(IndexRef, u32), oneshot::Receiver<()>> = BTreeMap::new();
        let reads = Arc::new(Semaphore::new(READS));
        let mut start = |one: One, pumps: &mut JoinSet<Result<(), ApiError>>| {
            if !seen.insert((one.token, one.rank)) {
                return;
            }
            // Attempts of one index one after the other, indices and ranks beside each other.
            let (done, ended) = oneshot::channel();
            let before = last.insert((one.at, one.rank), ended);
            let (service, query, sink, reads) = (self.clone(), query.clone(), sink.clone(), reads.clone());
            pumps.spawn(async move {
                if let Some(before) = before {
                    let _ = before.await;
                }
                let is_live = service.lives(one);
                let _permit = if is_live { None } else { reads.acquire().await.ok() };
                let send = |stderr: bool, wanted: bool| {
                    let (service, query, sink) = (&service, &query, &sink);
                    async move {
                        if wanted { service.send_stream(one, stderr, query, sink).await } else { Ok(()) }
                    }
                };
                let (out, err) = tokio::join!(send(false, query.stdout), send(true, query.stderr));
                let _ = done.send(());
                out.and(err)
            });
        };
        // 1. What is there.
        for one in self.scan(scope).await?.into_values() {
            start(one, &mut pumps);
        }
        let mut is_finished = false;
        if self.is_terminal(scope.job)? {
            // Its last entry may be applied and not stored yet.
            self.forward.catch_up().await?;
            for one in self.scan(scope).await?.into_values() {
                start(one, &mut pumps);
            }
            is_finished = self.is_terminal(scope.job)?;
        }
        // 2. What comes, in the order of the log.
        while !is_finished {
            let change = tokio::select! {
                change = watcher.next() => change,
                Some(done) = pumps.join_next(), if !pumps.is_empty() => {
                    done.map_err(|error| ApiError::Stopped(error.to_string()))??;
                    continue;
                }
            };
            match change {
                Change::Event(Event::AttemptRunning { at, number, token }) if scope.holds(at, number) => {
                    let seats = self.forward.read(|state| state.attempt(token).map(|a| a.seats.clone()));
                    let workers = seats.iter().flatten().map(|s| s.worker);
                    let ones = scope.ones(at, number, token, workers, false);
                    ones.into_iter().for_each(|one| start(one, &mut pumps));
                }
                Change::Event(Event::AttemptEnded { at, number, token, workers, .. })
                    if scope.holds(at, number) =>
                {
                    let ones = scope.ones(at, number, token, workers.into_iter(), false);
                    ones.into_iter().for_each(|one| start(one, &mut pumps));
                }
                Change::Event(Event::JobFinished { .. }) => is_finished = true,
                Change::Resync => {
                    for one in self.scan(scope).await?.into_values() {
                        start(one, &mut pumps);
                    }
                    is_finished = self.is_terminal(scope.job)?;
                }
                Change::Event(_) | Change::Touched => {}
            }
        }
        // 3. The rest of what was said, then how it ended.
        while let Some(done) = pumps.join_next().await {
            done.map_err(|error| ApiError::Stopped(error.to_string()))??;
        }
        let (job, code) = self.peek(scope.job).ok_or(ApiError::NoJob(scope.job.0))?;
        let _ = sink.send(Ok(LogItem::End { state: job.state, exit_code: code.unwrap_or(125) })).await;
        Ok(())
    }

    /// Whether the rank has not ended: a gang may live on without it.
    fn lives(&self, one: One) -> bool {
        self.forward.read(|state| state.attempt(one.token).is_some_and(|a| !a.has_ended(one.rank)))
    }

    fn is_terminal(&self, job: JobId) -> Result<bool, ApiError> {
        self.forward
            .read(|state| state.job(job).map(|job| job.state().is_terminal()))
            .ok_or(ApiError::NoJob(job.0))
    }
}
