//! Checkpoints whose job has left memory: their rows are gone, their bytes are still in the store. The leader looks which jobs the store has
//! something of, now and then, and removes what belongs to none that is known. So nothing is left over, whoever led when the job went and
//! whatever came late; and a member that knows too little removes nothing, for it never heard of the younger jobs either.

use crate::machine::CoreMachine;
use crate::raft::{Node, Role};
use crate::store::{Store, StoreError};
use muster_core::model::ids::JobId;
use std::time::Duration;
use tokio::time::Instant;

/// After a start …
const FIRST: Duration = Duration::from_secs(60);
/// … and then so often.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Whether it is time, and who leads, is looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// Where checkpoints lie, a folder a job.
const PREFIX: &str = "checkpoints";

/// Looks while this member leads; ends with it.
pub async fn run(node: Node<CoreMachine>, store: Store) {
    let mut due = Instant::now() + FIRST;
    while node.status().borrow().role != Role::Stopped {
        tokio::time::sleep(LOOK).await;
        if Instant::now() < due || node.status().borrow().role != Role::Leader {
            continue;
        }
        due = Instant::now() + EVERY;
        let is_gone = |job: JobId| {
            let machine = node.machine().read();
            let state = machine.state();
            job <= state.last_job() && state.job(job).is_none()
        };
        match sweep(&store, is_gone).await {
            Ok(0) => {}
            Ok(removed) => {
                tracing::info!(removed, "checkpoints of jobs that are gone were removed from the store")
            }
            Err(error) => {
                tracing::warn!(%error, "checkpoints of jobs that are gone could not all be removed")
            }
        }
    }
}

/// Removes what belongs to jobs that are gone; how many objects that was.
async fn sweep(store: &Store, is_gone: impl Fn(JobId) -> bool) -> Result<usize, StoreError> {
    let mut removed = 0;
    for name in store.folders(PREFIX).await? {
        if name.parse().is_ok_and(|number| is_gone(JobId(number))) {
            removed += store.remove_below(&format!("{PREFIX}/{name}")).await?;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_belongs_to_jobs_that_are_gone_is_removed() {
        let dir = tempfile::tempdir().expect("dir");
        for path in [
            "checkpoints/1/0/0/5/10/a",
            "checkpoints/1/0/0/5/10/rank-0.json",
            "checkpoints/12/0/0/7/1/b",
            "checkpoints/notes/c",
            "logs/1/d",
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
        let store = Store::open(&format!("file://{}", dir.path().display())).expect("open");
        assert_eq!(sweep(&store, |job| job == JobId(1)).await.expect("swept"), 2);
        let mut left = store.folders(PREFIX).await.expect("listed");
        left.sort();
        assert_eq!(left, ["12", "notes"]);
        assert_eq!(sweep(&store, |job| job == JobId(1)).await.expect("swept"), 0);
        assert!(dir.path().join("logs/1/d").exists());
    }
}
