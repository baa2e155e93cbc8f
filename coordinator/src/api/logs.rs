//! Captured output: from the worker while the attempt lives and shortly after, from the store later; with `follow` over attempts and
//! indices until the job is terminal. Driven by events; nothing polls.

use super::error::ApiError;
use super::service::Service;
use crate::clock::wall_ms;
use crate::sessions::{LogPart, LogReader};
use crate::watch::{Change, Watcher};
use bytes::Bytes;
use muster_core::event::Event;
use muster_core::model::attempt::AttemptState;
use muster_core::model::blob::log_key;
use muster_core::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};
use muster_proto::member::{WorkerLogChunk, WorkerLogRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::Streaming;

/// Ended attempts read at once.
const READS: usize = 32;
/// One message to the reader, bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Kept of an output of which only the last lines are wanted, bytes.
const TAIL_BYTES: usize = 8 << 20;
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
            let live = state
                .live_of_job(scope.job)
                .filter(|a| a.state != AttemptState::Starting && scope.holds(a.at, a.number));
            let ones = live
                .flat_map(|a| scope.ones(a.at, a.number, a.token, a.seats.iter().map(|s| s.worker), false));
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

    /// One stream of one attempt, to its end when following, else as far as it is.
    async fn send_stream(
        &self,
        one: One,
        stderr: bool,
        query: &LogQuery,
        sink: &Sink,
    ) -> Result<(), ApiError> {
        let (task, index, is_gang) = self.forward.read(|state| {
            let spec = state.job(one.at.job).map(|job| job.spec.clone());
            let task = spec.as_ref().and_then(|spec| spec.task(one.at.task).cloned());
            let index = task.as_ref().and_then(|task| task.array()?.index(one.at.index));
            let is_gang =
                spec.zip(task.as_ref()).is_some_and(|(spec, task)| spec.common(task).gang.is_some());
            (Arc::<str>::from(task.map_or(String::new(), |task| task.name.to_string())), index, is_gang)
        });
        let mut out = Out {
            sink,
            task,
            index,
            attempt: one.number,
            rank: is_gang.then_some(one.rank),
            stderr,
            offset: 0,
            tail: query.tail.map(|lines| (lines, Vec::new())),
        };
        let mut pause = Duration::from_millis(50);
        loop {
            let before = out.offset;
            let is_live = self.lives(one);
            // An old one is in the store; of a young one the worker knows more.
            if one.is_old && self.send_stored(one, &mut out).await? {
                return out.finish().await;
            }
            let mut connected = false;
            if let Some(mut source) = self
                .open_source(one, stderr, out.offset, query.follow && is_live && query.tail.is_none())
                .await
            {
                connected = true;
                while let Some(part) = source.next().await {
                    match part {
                        LogPart::Bytes { offset, bytes } => out.take(offset, bytes).await?,
                        LogPart::End if !(query.follow && is_live && query.tail.is_some()) => {
                            return out.finish().await;
                        }
                        LogPart::End => {
                            // The tail is out; from here on everything.
                            out.finish_tail().await?;
                            return self.send_rest(one, stderr, out).await;
                        }
                        LogPart::Failed(reason) => {
                            tracing::debug!(token = one.token.0, reason, "the worker does not give a log");
                            break;
                        }
                    }
                }
            }
            let ended = !self.lives(one);
            if ended {
                let found = self.send_stored(one, &mut out).await?;
                if !found && !connected {
                    out.note(format!(
                        "the output of attempt {} is not in the store, and its worker is not connected",
                        one.number
                    ))
                    .await;
                }
                return out.finish().await;
            }
            if !query.follow {
                if !connected {
                    out.note(format!("the worker of attempt {} is not connected", one.number)).await;
                }
                return out.finish().await;
            }
            // The worker went away, or this reader was slow: again, sooner when something came.
            if out.offset == before {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }

    /// The following part of a stream whose last lines were shown.
    async fn send_rest(&self, one: One, stderr: bool, out: Out<'_>) -> Result<(), ApiError> {
        let mut out = Out { tail: None, ..out };
        loop {
            if let Some(mut source) = self.open_source(one, stderr, out.offset, true).await {
                while let Some(part) = source.next().await {
                    match part {
                        LogPart::Bytes { offset, bytes } => out.take(offset, bytes).await?,
                        LogPart::End => return Ok(()),
                        LogPart::Failed(_) => break,
                    }
                }
            }
            if !self.lives(one) {
                self.send_stored(one, &mut out).await?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn send_stored(&self, one: One, out: &mut Out<'_>) -> Result<bool, ApiError> {
        let stream = if out.stderr { "stderr" } else { "stdout" };
        let key = log_key(one.at.job.0, one.at.task.0, one.at.index, one.number, one.rank, stream);
        let Some(bytes) = self.store.read_from(&key, out.offset).await? else { return Ok(false) };
        out.take(out.offset, bytes).await?;
        Ok(true)
    }

    /// The worker's side of a log, through whichever member it is connected to.
    async fn open_source(&self, one: One, stderr: bool, offset: u64, follow: bool) -> Option<Source> {
        if let Some(reader) = self.sessions.read_log(one.worker, one.token.0, stderr, offset, follow) {
            return Some(Source::Here(reader));
        }
        let status = self.forward.node().status().borrow().clone();
        for member in status.members.iter().filter(|member| member.id != status.member) {
            let Ok(mut peer) = self.forward.peers().at(&member.address) else { continue };
            let request =
                WorkerLogRequest { worker: one.worker.0, token: one.token.0, stderr, offset, follow };
            if let Ok(Ok(answer)) =
                tokio::time::timeout(Duration::from_secs(2), peer.worker_log(request)).await
            {
                return Some(Source::There(answer.into_inner()));
            }
        }
        None
    }
}

/// Where a live output comes from.
enum Source {
    Here(LogReader),
    There(Streaming<WorkerLogChunk>),
}

impl Source {
    async fn next(&mut self) -> Option<LogPart> {
        match self {
            Self::Here(reader) => reader.next().await,
            Self::There(stream) => match stream.message().await.ok()?? {
                chunk if !chunk.error.is_empty() => Some(LogPart::Failed(chunk.error)),
                chunk if chunk.end && chunk.bytes.is_empty() => Some(LogPart::End),
                chunk => Some(LogPart::Bytes { offset: chunk.offset, bytes: chunk.bytes }),
            },
        }
    }
}

/// One stream on its way to the reader.
struct Out<'a> {
    sink: &'a Sink,
    task: Arc<str>,
    index: Option<u32>,
    attempt: u32,
    rank: Option<u32>,
    stderr: bool,
    /// What was taken.
    offset: u64,
    /// Lines wanted, and what may hold them.
    tail: Option<(u64, Vec<u8>)>,
}

impl Out<'_> {
    async fn take(&mut self, offset: u64, mut bytes: Bytes) -> Result<(), ApiError> {
        // What was sent before is not sent again; what a rotation cut away is skipped.
        if offset < self.offset {
            let known = usize::try_from(self.offset - offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes = bytes.slice(known..);
        }
        let from = offset.max(self.offset);
        self.offset = from + bytes.len() as u64;
        match &mut self.tail {
            Some((_, kept)) => {
                kept.extend_from_slice(&bytes);
                let extra = kept.len().saturating_sub(TAIL_BYTES);
                kept.drain(..extra);
                Ok(())
            }
            None => self.send(from, bytes).await,
        }
    }

    async fn send(&self, mut offset: u64, mut bytes: Bytes) -> Result<(), ApiError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(CHUNK_BYTES));
            let length = part.len() as u64;
            let item = LogItem::Chunk {
                task: self.task.clone(),
                index: self.index,
                attempt: self.attempt,
                rank: self.rank,
                stderr: self.stderr,
                offset,
                bytes: part,
            };
            self.sink
                .send(Ok(item))
                .await
                .map_err(|_| ApiError::Stopped("nobody reads any more".to_owned()))?;
            offset += length;
        }
        Ok(())
    }

    async fn finish_tail(&mut self) -> Result<(), ApiError> {
        let Some((lines, kept)) = self.tail.take() else { return Ok(()) };
        let from = last_lines(&kept, lines);
        let at = self.offset - (kept.len() - from) as u64;
        self.send(at, Bytes::from(kept).slice(from..)).await
    }

    async fn finish(mut self) -> Result<(), ApiError> {
        self.finish_tail().await
    }

    async fn note(&self, text: String) {
        let _ = self.sink.send(Ok(LogItem::Note(text))).await;
    }
}

/// Where the last `lines` lines begin.
fn last_lines(text: &[u8], lines: u64) -> usize {
    if lines == 0 {
        return text.len();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let nth = usize::try_from(lines - 1).unwrap_or(usize::MAX);
    ends.map(|(at, _)| at + 1).nth(nth).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_counted_with_and_without_a_final_newline() {
        for (text, lines, rest) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 9, "a\nb\n"),
            ("", 3, ""),
            ("a\n", 0, ""),
            ("a\n\nb\n", 2, "\nb\n"),
        ] {
            assert_eq!(&text[last_lines(text.as_bytes(), lines)..], rest, "{text:?} {lines}");
        }
    }

    #[tokio::test]
    async fn what_was_sent_is_not_sent_again() {
        let (sink, mut items) = mpsc::channel(8);
        let mut out = Out {
            sink: &sink,
            task: "t".into(),
            index: None,
            attempt: 1,
            rank: None,
            stderr: false,
            offset: 0,
            tail: None,
        };
        out.take(0, Bytes::from_static(b"hello")).await.expect("taken");
        out.take(3, Bytes::from_static(b"lo world")).await.expect("taken");
        drop(out);
        drop(sink);
        let mut text = Vec::new();
        while let Some(Ok(LogItem::Chunk { bytes, offset, .. })) = items.recv().await {
            assert_eq!(offset, text.len() as u64);
            text.extend_from_slice(&bytes);
        }
        assert_eq!(text, b"hello world");
    }
}
