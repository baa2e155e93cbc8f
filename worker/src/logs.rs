//! Readers of a live attempt's output: each is answered by a task of its own, which reads the shim's files.

use crate::executor::logs::{Chunk, read};
use muster_proto::worker::worker_message::Kind as Up;
use muster_proto::worker::{LogData, LogRequest, WorkerMessage};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;
/// A followed file is looked at this often.
const POLL: Duration = Duration::from_millis(20);

/// A stream on disk.
#[derive(Debug, Clone)]
pub struct LogFile {
    pub path: PathBuf,
    /// The cap under which it was written, bytes.
    pub cap: u64,
}

/// Answers `request`: what is there, and with follow what comes, until `ended` (the attempt is over and its logs are complete) or `cancelled`.
pub async fn serve(
    request: LogRequest,
    file: LogFile,
    ended: CancellationToken,
    cancelled: CancellationToken,
    out: Sender<WorkerMessage>,
) {
    let work = async {
        let mut offset = request.offset;
        loop {
            // Asked before the reading: what was written before the end is then read after it.
            let last = !request.follow || ended.is_cancelled();
            offset = match send_all(&request, &file, offset, &out).await {
                Ok(Some(offset)) => offset,
                Ok(None) => return,
                Err(error) => {
                    let error = format!("cannot read {}: {error}", file.path.display());
                    let _ = out
                        .send(message(LogData {
                            id: request.id,
                            offset,
                            end: true,
                            error,
                            ..LogData::default()
                        }))
                        .await;
                    return;
                }
            };
            if last {
                let _ = out
                    .send(message(LogData { id: request.id, offset, end: true, ..LogData::default() }))
                    .await;
                return;
            }
            tokio::select! {
                () = ended.cancelled() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = cancelled.cancelled() => {}
    }
}

/// The answer for an attempt that is not here.
#[must_use]
pub fn absent(request: &LogRequest) -> Up {
    let error = format!("attempt {} is not on this worker", request.token);
    Up::Log(LogData { id: request.id, offset: request.offset, end: true, error, ..LogData::default() })
}

/// Sends what is there now. `None`: nobody listens.
async fn send_all(
    request: &LogRequest,
    file: &LogFile,
    mut offset: u64,
    out: &Sender<WorkerMessage>,
) -> std::io::Result<Option<u64>> {
    loop {
        let chunk: Chunk = read(&file.path, file.cap, offset, PIECE_BYTES)?;
        if chunk.bytes.is_empty() {
            return Ok(Some(offset));
        }
        offset = chunk.next();
        let data =
            LogData { id: request.id, offset: chunk.offset, bytes: chunk.bytes.into(), ..LogData::default() };
        if out.send(message(data)).await.is_err() {
            return Ok(None);
        }
    }
}

fn message(data: LogData) -> WorkerMessage {
    WorkerMessage { kind: Some(Up::Log(data)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::sync::mpsc::{Receiver, channel};

    struct Reader {
        incoming: Receiver<WorkerMessage>,
        ended: CancellationToken,
        cancelled: CancellationToken,
    }

    impl Reader {
        fn of(path: PathBuf, offset: u64, follow: bool) -> Self {
            let (out, incoming) = channel(64);
            let (ended, cancelled) = (CancellationToken::new(), CancellationToken::new());
            let request = LogRequest { id: 9, token: 1, offset, follow, ..LogRequest::default() };
            tokio::spawn(serve(
                request,
                LogFile { path, cap: 1 << 20 },
                ended.clone(),
                cancelled.clone(),
                out,
            ));
            Self { incoming, ended, cancelled }
        }

        async fn next(&mut self) -> Option<(u64, String, bool)> {
            match self.incoming.recv().await?.kind? {
                Up::Log(data) => {
                    Some((data.offset, String::from_utf8_lossy(&data.bytes).into_owned(), data.end))
                }
                _ => None,
            }
        }
    }

    #[tokio::test]
    async fn a_follower_gets_what_comes_and_the_end() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("stdout.log");
        let mut reader = Reader::of(path.clone(), 0, true);
        let mut file = std::fs::File::create(path).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(reader.next().await, Some((0, "one\n".into(), false)));
        file.write_all(b"two\n").unwrap();
        reader.ended.cancel();
        assert_eq!(reader.next().await, Some((4, "two\n".into(), false)));
        assert_eq!(reader.next().await, Some((8, String::new(), true)));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn without_follow_and_when_cancelled_it_ends() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("stdout.log");
        let mut silent = Reader::of(path.clone(), 0, false);
        assert_eq!(silent.next().await, Some((0, String::new(), true)));
        std::fs::write(&path, "12345").unwrap();
        let mut from = Reader::of(path.clone(), 3, false);
        assert_eq!(from.next().await, Some((3, "45".into(), false)));
        let mut follower = Reader::of(path, 5, true);
        follower.cancelled.cancel();
        assert_eq!(follower.next().await, None);
    }
}
