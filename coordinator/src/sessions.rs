//! Workers that are connected to this member: where their messages go, and who reads a log through them. No decisions.

use bytes::Bytes;
use muster_core::model::ids::WorkerId;
use muster_proto::worker::{LogData, LogRequest, MemberMessage, member_message};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// To a worker.
pub type ToWorker = mpsc::UnboundedSender<Result<MemberMessage, Status>>;

/// Chunks of a log that wait for a slow reader; then the reading is given up and begun again where it was.
const LOG_CHUNKS: usize = 64;

struct Held {
    number: u64,
    send: ToWorker,
    replaced: CancellationToken,
}

struct Reader {
    worker: WorkerId,
    chunks: mpsc::Sender<LogPart>,
}

/// A part of an attempt's output, as a worker sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPart {
    Bytes {
        offset: u64,
        bytes: Bytes,
    },
    /// The attempt ended and all of it was sent, or all that is there when not following.
    End,
    /// The worker can't give it, e.g. because it does not know the attempt.
    Failed(String),
}

/// The sessions of one member. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: Mutex<HashMap<WorkerId, Held>>,
    readers: Mutex<HashMap<u64, Reader>>,
    next: AtomicU64,
}

/// A worker's place; it is free again when this is dropped.
pub struct Seat {
    sessions: Sessions,
    worker: WorkerId,
    number: u64,
    /// Cancelled when the same worker opened another session here.
    pub replaced: CancellationToken,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.sessions.0.held.lock();
        if held.get(&self.worker).is_some_and(|held| held.number == self.number) {
            held.remove(&self.worker);
            drop(held);
            // Their ends tell the readers.
            self.sessions.0.readers.lock().retain(|_, reader| reader.worker != self.worker);
        }
    }
}

impl Sessions {
    /// Takes a worker's place; an older session of it here is replaced.
    #[must_use]
    pub fn sit(&self, worker: WorkerId, send: ToWorker) -> Seat {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let replaced = CancellationToken::new();
        let old = self.0.held.lock().insert(worker, Held { number, send, replaced: replaced.clone() });
        if let Some(old) = old {
            old.replaced.cancel();
        }
        Seat { sessions: self.clone(), worker, number, replaced }
    }

    /// Whether the worker is connected here.
    #[must_use]
    pub fn holds(&self, worker: WorkerId) -> bool {
        self.0.held.lock().contains_key(&worker)
    }

    /// Asks a worker that is connected here for an attempt's output; none when it is not connected here.
    #[must_use]
    pub fn read_log(
        &self,
        worker: WorkerId,
        token: u64,
        stderr: bool,
        offset: u64,
        follow: bool,
    ) -> Option<LogReader> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.0.held.lock();
        let send = held.get(&worker)?.send.clone();
        let (chunks, receiver) = mpsc::channel(LOG_CHUNKS);
        self.0.readers.lock().insert(id, Reader { worker, chunks });
        drop(held);
        let request = LogRequest { id, token, stderr, offset, follow, cancel: false };
        let _ = send.send(Ok(MemberMessage { kind: Some(member_message::Kind::Log(request)) }));
        Some(LogReader { sessions: self.clone(), id, send, receiver })
    }

    /// A worker sent a part of a log.
    pub fn on_log(&self, data: LogData) {
        let mut readers = self.0.readers.lock();
        let Some(reader) = readers.get(&data.id) else { return };
        let mut fits = true;
        if !data.error.is_empty() {
            fits = reader.chunks.try_send(LogPart::Failed(data.error)).is_ok();
        } else {
            if !data.bytes.is_empty() {
                fits =
                    reader.chunks.try_send(LogPart::Bytes { offset: data.offset, bytes: data.bytes }).is_ok();
            }
            if fits && data.end {
                fits = reader.chunks.try_send(LogPart::End).is_ok();
            }
        }
        // A reader that is too slow ends without an end, and asks again from where it is.
        if !fits || data.end {
            readers.remove(&data.id);
        }
    }
}

/// Reads one stream of one attempt from its worker. Dropping it cancels the reading.
pub struct LogReader {
    sessions: Sessions,
    id: u64,
    send: ToWorker,
    receiver: mpsc::Receiver<LogPart>,
}

impl LogReader {
    /// The next part; none when the worker went away or this reader was too slow.
    pub async fn next(&mut self) -> Option<LogPart> {
        self.receiver.recv().await
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.sessions.0.readers.lock().remove(&self.id);
        let request = LogRequest { id: self.id, cancel: true, ..LogRequest::default() };
        let _ = self.send.send(Ok(MemberMessage { kind: Some(member_message::Kind::Log(request)) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_hears_its_worker_until_it_goes() {
        let sessions = Sessions::default();
        let (send, mut sent) = mpsc::unbounded_channel();
        let seat = sessions.sit(WorkerId(1), send);
        assert!(sessions.read_log(WorkerId(2), 5, false, 0, true).is_none());
        let mut reader = sessions.read_log(WorkerId(1), 5, false, 0, true).expect("connected");
        let Some(Ok(MemberMessage { kind: Some(member_message::Kind::Log(request)) })) = sent.recv().await
        else {
            panic!("no request")
        };
        let bytes = Bytes::from_static(b"hi");
        sessions.on_log(LogData { id: request.id, offset: 0, bytes: bytes.clone(), ..LogData::default() });
        assert_eq!(reader.next().await, Some(LogPart::Bytes { offset: 0, bytes }));
        drop(seat);
        assert_eq!(reader.next().await, None);
        assert!(!sessions.holds(WorkerId(1)));
    }

    #[tokio::test]
    async fn the_newer_session_of_a_worker_stays() {
        let sessions = Sessions::default();
        let first = sessions.sit(WorkerId(1), mpsc::unbounded_channel().0);
        let second = sessions.sit(WorkerId(1), mpsc::unbounded_channel().0);
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert!(sessions.holds(WorkerId(1)));
    }
}
