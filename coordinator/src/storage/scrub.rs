//! Reads everything once in a while, so that damage in what is seldom read is found while the other members still have it.

use std::sync::Arc;
use std::time::Duration;

use super::rocks::RocksDisk;
use crate::quiet;

/// After a start, once the member has caught up.
const FIRST: Duration = Duration::from_secs(60);
/// Then so often.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Verifies `disks` in turn, until they are used by nobody else. What is found ends the store, and with it the member.
pub async fn run(disks: Vec<Arc<RocksDisk>>) {
    let disks: Vec<_> = disks.into_iter().map(|disk| Arc::downgrade(&disk)).collect();
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        for disk in &disks {
            let Some(disk) = disk.upgrade() else { return };
            let path = disk.path().to_owned();
            // The links are made at once, as that holds locks; the reading gives way to all else.
            let verifying = disk.clone();
            let verified = match tokio::task::spawn_blocking(move || disk.links()).await {
                Ok(Ok(links)) => quiet::run("muster-scrub", move || verifying.verify(&links)).await,
                Ok(Err(error)) => Err(error),
                Err(_) => return,
            };
            match verified {
                Ok(()) => tracing::debug!(path = %path.display(), "every block is whole"),
                Err(error) => tracing::error!(%error, "not every block could be read"),
            }
        }
        pause = EVERY;
    }
}
