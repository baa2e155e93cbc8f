//! Copies of the state: for followers that are far behind, for backups, and the way back from one.

use std::io;

use openraft::Snapshot;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::Vote;
use openraft::impls::leader_id_std::LeaderId;

use super::Node;
use super::error::{MembershipError, ReadError};
use crate::raft::machine::Machine;
use crate::raft::state_machine::read_meta;
use crate::storage::{Checkpoint, Disk, RocksDisk};

/// Ids of members count from 1.
const NOBODY: u64 = 0;

/// A copy of the state as of one log index, in a directory that goes with it.
#[derive(Debug, Clone)]
pub struct Copy {
    pub files: Checkpoint,
    /// Up to where the log is in it.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
}

impl<M: Machine> Node<M> {
    /// Copies the state as it is now, beside the apply of further entries. The table files are links.
    ///
    /// # Errors
    /// The disk's; a state without an entry.
    pub async fn copy_state(&self) -> io::Result<Copy> {
        let (disk, cluster) = (self.0.state.clone(), self.0.config.cluster.clone());
        let copied = tokio::task::spawn_blocking(move || {
            let files = disk.checkpoint()?;
            let meta = read_meta::<RocksDisk>(&files, &cluster)?;
            let last = meta.last_log_id.ok_or_else(|| io::Error::other("the state holds no entry yet"))?;
            Ok(Copy { files, index: last.index, term: last.committed_leader_id().term })
        });
        copied.await.map_err(io::Error::other)?
    }

    /// Puts a copy of a state into this fresh member, as if the leader of its term had sent it: nobody else is asked, so only a
    /// cluster of this one member may be made so.
    ///
    /// # Errors
    /// [`MembershipError::Fatal`].
    pub async fn install(&self, files: Checkpoint) -> Result<(), MembershipError> {
        let fatal = |reason: String| MembershipError::Fatal { reason };
        let meta =
            read_meta::<RocksDisk>(&files, &self.0.config.cluster).map_err(|e| fatal(e.to_string()))?;
        let term = meta.last_log_id.as_ref().map_or(0, |last| last.committed_leader_id().term);
        // Whoever led that term, it is not this member, which has to be elected in the next.
        let leader_id = LeaderId { term, voted_for: NOBODY };
        let vote = Vote { leader_id, committed: true };
        let installed = self.0.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: files }).await;
        installed.map(|_| ()).map_err(|error| fatal(error.to_string()))
    }

    /// Makes a snapshot now.
    ///
    /// # Errors
    /// [`MembershipError::Fatal`].
    pub async fn snapshot(&self) -> Result<(), MembershipError> {
        self.0
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| MembershipError::Fatal { reason: error.to_string() })
    }

    /// The index of the newest snapshot and the first index still in the log, for operators and tests.
    #[must_use]
    pub fn log_bounds(&self) -> (Option<u64>, u64) {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.snapshot.map(|id| id.index), metrics.purged.map_or(0, |id| id.index + 1))
    }

    /// Waits until the log begins at `first` or later, as older entries are in a snapshot.
    ///
    /// # Errors
    /// [`ReadError::Fatal`].
    pub async fn wait_log_begins(&self, first: u64) -> Result<(), ReadError> {
        let waiter = self.0.raft.wait(None);
        let wait = waiter
            .metrics(|metrics| metrics.purged.is_some_and(|id| id.index + 1 >= first), "the log is purged");
        wait.await.map(|_| ()).map_err(|error| ReadError::Fatal { reason: error.to_string() })
    }
}
