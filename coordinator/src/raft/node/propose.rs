//! The way into the log, and reads that see all that was acknowledged.

use std::time::Duration;

use openraft::errors::{ClientWriteError, Fatal, ForwardReason, RaftError};
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResponse;

use super::error::{ProposeError, ReadError, leader};
use super::{C, Node};
use crate::raft::machine::{Machine, encode};
use crate::raft::types::Blob;

/// Largest entry, bytes. What is larger goes to the store first.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

type WriteResult<M> = Result<ClientWriteResponse<C<M>>, RaftError<C<M>, ClientWriteError<C<M>>>>;

/// How soon a leader without a confirmed majority is asked again.
const LEASE_RETRY: Duration = Duration::from_millis(5);

impl<M: Machine> Node<M> {
    /// Proposes one entry and waits until it is on disk on a majority and applied here. Many may be in flight at once; they share
    /// writes and syncs.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, batch: &M::Batch) -> Result<M::Replies, ProposeError> {
        self.propose_in(None, batch).await
    }

    /// The same, but only while this member leads `term`: what a leader decided in one term may be wrong in a later one of its own.
    /// Raft compares the terms where it appends, so nothing can come between the look and the write.
    ///
    /// # Errors
    /// [`ProposeError`]; [`ProposeError::NotLeader`] also when this member leads again, in another term.
    pub async fn propose_in(&self, term: Option<u64>, batch: &M::Batch) -> Result<M::Replies, ProposeError> {
        let bytes = encode(batch).map_err(ProposeError::Encode)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), limit: ENTRY_BYTES_MAX });
        }
        // A leader whose majority has not answered for an election timeout, or not yet, accepts nothing; that passes within a
        // heartbeat or ends its leadership. Nothing was proposed, so trying again is safe.
        let deadline = tokio::time::Instant::now() + self.0.config.election.1;
        let written = loop {
            match self.write(term, Blob(bytes.clone())).await {
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))
                    if to.reason == ForwardReason::LeaseExpired && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(LEASE_RETRY).await;
                }
                written => break written,
            }
        };
        match written {
            Ok(done) => done
                .data
                .ok_or_else(|| ProposeError::Fatal { reason: "an entry was applied without a reply".into() }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: leader(to) })
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(to))) => {
                Err(ProposeError::Unknown { leader: leader(to) })
            }
            Err(error) => Err(ProposeError::Fatal { reason: error.to_string() }),
        }
    }

    async fn write(&self, term: Option<u64>, blob: Blob) -> WriteResult<M> {
        let Some(term) = term else { return self.0.raft.client_write(blob).await };
        let (responder, answer) = OneshotResponder::new_pair();
        self.0.raft.write(blob).with_leader(term).responder(responder).await.map_err(RaftError::Fatal)?;
        // Raft drops the question only when it stops.
        answer.await.map_err(|_| RaftError::Fatal(Fatal::Stopped))?.map_err(RaftError::APIError)
    }

    /// Confirms with a majority that this member leads now; returns the index up to which a read that starts now must see.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`], [`ReadError::NoQuorum`], [`ReadError::Fatal`].
    pub async fn confirm_leadership(&self) -> Result<u64, ReadError> {
        self.0.confirmer.confirm().await.map(|(index, _)| index)
    }

    /// Confirms with a majority that this member leads now; returns the term in which it does.
    ///
    /// # Errors
    /// As [`Node::confirm_leadership`].
    pub async fn confirm_term(&self) -> Result<u64, ReadError> {
        self.0.confirmer.confirm().await.map(|(_, term)| term)
    }

    /// Waits until a read of the state here sees all that was acknowledged before the call, on the leader or a follower.
    /// Returns the index.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn linearizable_read_index(&self) -> Result<u64, ReadError> {
        let leader = self.0.status.borrow().leader.clone();
        let index = match leader {
            None => return Err(ReadError::NoLeader),
            Some((id, _)) if id == self.0.config.member => self.confirm_leadership().await?,
            Some((_, address)) => self
                .0
                .caller
                .read_index(&address)
                .await
                .map_err(|status| ReadError::LeaderUnreachable { reason: status.message().to_owned() })?,
        };
        self.wait_applied(index).await?;
        Ok(index)
    }

    /// Waits until the entry at `index` is applied here.
    ///
    /// # Errors
    /// [`ReadError::Fatal`] when the member stops.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ReadError> {
        let mut applied = self.0.applied.clone();
        let wait = applied.wait_for(|applied| *applied >= index).await;
        wait.map(|_| ()).map_err(|_| ReadError::Fatal { reason: "the state machine ended".into() })
    }
}
