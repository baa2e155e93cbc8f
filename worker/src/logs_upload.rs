//! Copies of an attempt's output in the store, where they outlive the worker: at its end, and at most some seconds behind while it runs.

use crate::blobs::{BlobError, Store};
use crate::executor::AttemptDirs;
use crate::executor::logs::{read, tail};
use crate::logs::LogFile;
use muster_core::model::blob::log_key;
use muster_core::model::ids::IndexRef;
use muster_failpoint::{Point, pass};
use std::io;
use std::time::Duration;

/// Copies of what runs are at most this far behind, up to [`WHOLE_BYTES`].
pub const EVERY: Duration = Duration::from_secs(5);
/// An object cannot be appended to, so a stream is sent whole. Beyond this size it is sent only when it has grown by a quarter.
const WHOLE_BYTES: u64 = 8 << 20;
/// Tries at the end, with a pause that doubles.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// The two streams of one attempt and how much of each the store has.
#[derive(Debug)]
pub struct AttemptLogs {
    streams: [(LogFile, String); 2],
    sent: tokio::sync::Mutex<[u64; 2]>,
}

impl AttemptLogs {
    pub fn new(at: IndexRef, number: u32, rank: u32, dirs: &AttemptDirs, cap: u64) -> Self {
        let stream =
            |path, name| (LogFile { path, cap }, log_key(at.job.0, at.task.0, at.index, number, rank, name));
        Self {
            streams: [stream(dirs.stdout(), "stdout"), stream(dirs.stderr(), "stderr")],
            sent: Default::default(),
        }
    }

    /// The file of one stream.
    pub fn file(&self, stderr: bool) -> &LogFile {
        &self.streams[usize::from(stderr)].0
    }

    /// Whether the attempt has printed nothing: its files are made at the first byte.
    pub fn is_empty(&self) -> bool {
        self.streams.iter().all(|(file, _)| !file.path.exists())
    }

    /// Sends what has grown, while the attempt runs.
    pub async fn upload_running(&self, store: &Store) {
        let mut sent = self.sent.lock().await;
        for ((file, key), sent) in self.streams.iter().zip(sent.iter_mut()) {
            let length = tail(&file.path, file.cap, 0).unwrap_or(0);
            let due = if length > WHOLE_BYTES { *sent + *sent / 4 } else { *sent };
            if length > due {
                match upload(file, key, store).await {
                    Ok(length) => *sent = length,
                    Err(error) => tracing::warn!(key, %error, "a log was not copied to the store"),
                }
            }
        }
    }

    /// Sends what the attempt printed, after its end. What the store does not take after some tries is lost with this worker.
    pub async fn upload_last(&self, store: &Store) {
        let mut sent = self.sent.lock().await;
        for ((file, key), sent) in self.streams.iter().zip(sent.iter_mut()) {
            if tail(&file.path, file.cap, 0).is_ok_and(|length| length == *sent) {
                continue;
            }
            let mut pause = PAUSE;
            for left in (0..TRIES).rev() {
                match upload(file, key, store).await {
                    Ok(length) => {
                        *sent = length;
                        break;
                    }
                    Err(error) if left == 0 => {
                        tracing::error!(key, %error, "a log was not copied to the store")
                    }
                    Err(_) => tokio::time::sleep(pause).await,
                }
                pause *= 2;
            }
        }
    }
}

async fn upload(file: &LogFile, key: &str, store: &Store) -> Result<u64, BlobError> {
    let source = file.clone();
    let whole = tokio::task::spawn_blocking(move || read_whole(&source)).await;
    let (bytes, length) = match whole {
        Ok(Ok(whole)) => whole,
        Ok(Err(source)) => return Err(BlobError::File { what: "read", path: file.path.clone(), source }),
        Err(_) => return Err(BlobError::Stopped),
    };
    pass(Point::LogUploadBefore);
    store.put_soon(key, bytes.into()).await?;
    pass(Point::LogUploadAfter);
    Ok(length)
}

/// The stream as it is on disk, with a line where the cap removed something.
fn read_whole(file: &LogFile) -> io::Result<(Vec<u8>, u64)> {
    let (mut bytes, mut offset) = (Vec::new(), 0);
    loop {
        let chunk = read(&file.path, file.cap, offset, 1 << 20)?;
        if chunk.bytes.is_empty() {
            return Ok((bytes, offset));
        }
        if chunk.skipped > 0 {
            bytes.extend_from_slice(
                format!("\n[muster: {} bytes of output were dropped here]\n", chunk.skipped).as_bytes(),
            );
        }
        offset = chunk.next();
        bytes.extend_from_slice(&chunk.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::ids::{JobId, TaskNo};

    #[tokio::test]
    async fn what_was_printed_is_in_the_store_and_silence_is_not() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}/store", top.path().display())).unwrap();
        let dirs = AttemptDirs::below(top.path(), 3);
        std::fs::create_dir_all(&dirs.root).unwrap();
        let logs = AttemptLogs::new(IndexRef::new(JobId(7), TaskNo(1), 2), 4, 0, &dirs, 1 << 20);
        assert!(logs.is_empty());
        std::fs::write(dirs.stderr(), "one").unwrap();
        logs.upload_running(&store).await;
        assert_eq!(store.get_at("logs/7/1/2/4.stderr").await.unwrap(), "one");
        std::fs::write(dirs.stderr(), "one two").unwrap();
        logs.upload_last(&store).await;
        assert_eq!(store.get_at("logs/7/1/2/4.stderr").await.unwrap(), "one two");
        assert!(matches!(store.get_at("logs/7/1/2/4.stdout").await, Err(BlobError::Missing { .. })));
    }
}
