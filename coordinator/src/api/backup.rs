//! The use case of a backup: all that was acknowledged before the call, as the bytes of one file.

use super::error::ApiError;
use super::service::Service;
use crate::backup::{self, Head};
use crate::clock::wall_ms;
use crate::quiet;
use crate::raft::Copy;
use bytes::Bytes;
use muster_core::view_doc::rfc3339;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Chunks that wait for a slow reader: at most this many MiB.
const CHUNKS: usize = 4;
/// Read at most so fast: those who submit share the cores and the disk with it, and whoever keeps the file writes it.
const BYTES_PER_S: u64 = 32 << 20;

impl Service {
    /// Copies the state of this member, after it has caught up, and reads the copy out. Returns the size of the file and its bytes.
    ///
    /// # Errors
    /// No leader within 5 s; the disk's.
    pub async fn backup(&self) -> Result<(u64, mpsc::Receiver<io::Result<Bytes>>), ApiError> {
        self.forward.catch_up().await?;
        let Copy { files, index, term } = self.forward.node().copy_state().await.map_err(ApiError::Backup)?;
        let head = Head {
            cluster_id: self.cluster_id.to_string(),
            member: self.forward.member(),
            index,
            term,
            created: rfc3339(wall_ms()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_url: self.store.url().to_owned(),
            ..Head::default()
        };
        let (send, receive) = mpsc::channel(CHUNKS);
        let (sized, size) = tokio::sync::oneshot::channel();
        let start = Instant::now();
        let mut sent = 0;
        quiet::spawn("muster-backup", move || {
            let sending = send.clone();
            let mut sized = Some(sized);
            let written = backup::write(&files, head, |total, bytes| {
                if let Some(sized) = sized.take() {
                    let _ = sized.send(total);
                }
                sent += bytes.len() as u64;
                let goes_on = sending.blocking_send(Ok(bytes)).is_ok();
                std::thread::sleep(due(sent).saturating_sub(start.elapsed()));
                goes_on
            });
            if let Err(error) = written {
                let _ = send.blocking_send(Err(error));
            }
        })
        .map_err(ApiError::Backup)?;
        // An error before the first byte comes as the only item.
        Ok((size.await.unwrap_or_default(), receive))
    }
}

/// How long after the beginning so many bytes may have been read.
fn due(bytes: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_S)
}
