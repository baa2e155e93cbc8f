//! Logs: copied to the store while an attempt runs, and read by whoever asks.

use super::{Hands, Internal};
use crate::logs;
use crate::run::attempt::{Local, Phase};
use crate::session::Outbox;
use crate::shim::clock::boot_ms;
use muster_proto::worker::LogRequest;
use tokio_util::sync::CancellationToken;

/// A log of an attempt this young (ms) is not copied yet: most are over before.
const YOUNG_MS: u64 = 4_000;

impl Hands {
    /// Copies the logs of what has run for some time, one round at a time.
    pub fn upload_running(&mut self) {
        let old = boot_ms().saturating_sub(YOUNG_MS);
        let runs = |local: &&Local| {
            matches!(local.phase, Phase::Launched) && local.started.is_some_and(|at| at <= old)
        };
        let logs: Vec<_> = self.attempts.values().filter(runs).map(|local| local.logs.clone()).collect();
        if self.uploading || logs.is_empty() {
            return;
        }
        self.uploading = true;
        let (store, internal) = (self.store.clone(), self.internal.clone());
        tokio::spawn(async move {
            for logs in logs {
                logs.upload_running(&store).await;
            }
            let _ = internal.send(Internal::Uploaded);
        });
    }

    /// A reader comes or goes.
    pub fn log_requested(&mut self, request: LogRequest, outbox: &Outbox) {
        let key = (request.token, request.id);
        if request.cancel {
            if let Some(reader) = self.readers.get(&key) {
                reader.cancel();
            }
            return;
        }
        let Some(local) = self.attempts.get(&request.token) else {
            outbox.send(logs::absent(&request));
            return;
        };
        let cancelled = CancellationToken::new();
        self.readers.insert(key, cancelled.clone());
        let (file, ended) = (local.logs.file(request.stderr).clone(), local.ended.clone());
        let (out, internal) = (outbox.logs.clone(), self.internal.clone());
        tokio::spawn(async move {
            logs::serve(request, file, ended, cancelled, out).await;
            let _ = internal.send(Internal::LogServed { id: key.1, token: key.0 });
        });
    }

    /// Its readers are gone with it.
    pub fn session_lost(&mut self) {
        self.readers.values().for_each(CancellationToken::cancel);
    }

    pub(super) fn is_read(&self, token: u64) -> bool {
        self.readers.range((token, 0)..=(token, u64::MAX)).next().is_some()
    }
}
