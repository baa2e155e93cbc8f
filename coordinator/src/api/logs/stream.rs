//! One stream of one attempt: from the worker, through whichever member has it, or from the store.

use super::out::Out;
use super::{LogQuery, One, Sink};
use crate::api::error::ApiError;
use crate::api::service::Service;
use crate::sessions::{LogPart, LogReader};
use muster_core::model::blob::log_key;
use muster_proto::member::{WorkerLogChunk, WorkerLogRequest};
use std::sync::Arc;
use std::time::Duration;
use tonic::Streaming;

impl Service {
    /// One stream of one attempt, to its end when following, else as far as it is.
    pub(super) async fn send_stream(
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
