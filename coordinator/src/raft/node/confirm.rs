//! Whether this member still leads, asked of a majority: before a read answers and before a lease is renewed.
//!
//! Openraft has such a question too (`ReadPolicy::ReadIndex`), and 0.10.0-alpha.37 answers it wrongly after a pause: it counts the
//! acknowledgement of an append by its log id, and an older one, that lay in the socket while the leader was stopped, has the same log
//! id as the empty append sent after the pause. A leader that had been replaced meanwhile answered reads from its old state for some
//! milliseconds (chaos seed 2, invariant I14). Here a follower answers with the term it is in, once for each question: a leader of a later
//! term has the votes of a majority, each on disk before it was given, so one of any majority would have said so.
//!
//! Questions that wait travel together: one round for all that came before it began (Raft, section 6.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, Raft};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::{ReadError, leader};
use super::{C, Sm};
use crate::raft::machine::Machine;
use crate::raft::network::Caller;
use crate::raft::types::ballot;
use crate::vital::Vital;

/// The read index, and the term in which this member leads.
type Answer = Result<(u64, u64), ReadError>;

/// The way to ask. A round runs while somebody waits.
pub(super) struct Confirmer(mpsc::UnboundedSender<oneshot::Sender<Answer>>);

impl Confirmer {
    /// Starts what runs the rounds; it ends with the last sender. A round that has no majority after `limit` has none.
    pub(super) fn spawn<M: Machine>(
        raft: Raft<C<M>, Sm<M>>,
        caller: Arc<Caller>,
        member: u64,
        limit: Duration,
    ) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel::<oneshot::Sender<Answer>>();
        tokio::spawn(async move {
            let _vital = Vital("the confirmation of the leadership");
            let mut waiting = Vec::new();
            // What comes while a round runs began after it: it waits for the next.
            while receiver.recv_many(&mut waiting, usize::MAX).await > 0 {
                let answer = round(&raft, &caller, member, limit).await;
                for waits in waiting.drain(..) {
                    let _: Result<(), Answer> = waits.send(answer.clone());
                }
            }
        });
        Self(sender)
    }

    pub(super) async fn confirm(&self) -> Answer {
        let stopped = || ReadError::Fatal { reason: "the member stopped".to_owned() };
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?
    }
}

async fn round<M: Machine>(
    raft: &Raft<C<M>, Sm<M>>,
    caller: &Caller,
    member: u64,
    limit: Duration,
) -> Answer {
    let deadline = Instant::now() + limit;
    let fatal = |reason: String| ReadError::Fatal { reason };
    // 1. The index, and the term in which this member leads. Whether openraft thinks that it leads is enough here.
    let read = match raft.get_read_linearizer(LinearizerOption::new(None, true)).await {
        Ok(linearizer) => *linearizer.read_log_id(),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
            return Err(ReadError::NotLeader { leader: leader(to) });
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            return Err(ReadError::NoQuorum);
        }
        Err(RaftError::Fatal(error)) => return Err(fatal(error.to_string())),
    };
    let term = read.committed_leader_id().term;
    // 2. Who votes: by the membership in force, committed or not.
    let in_force = raft.with_raft_state(|state| {
        (ballot(state.vote_ref()), state.membership_state.effective().membership().clone())
    });
    let (vote, membership) = in_force.await.map_err(|error| fatal(error.to_string()))?;
    if (vote.term, vote.candidate, vote.committed) != (term, member, true) {
        return Err(ReadError::NotLeader { leader: None });
    }
    let nodes: BTreeMap<u64, String> =
        membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect();
    // 3. A majority, of each half of a change.
    let others = membership.voter_ids().filter(|id| *id != member);
    let mut asked: FuturesUnordered<_> = others
        .filter_map(|id| nodes.get(&id).map(|address| async move { (id, caller.term_of(id, address).await) }))
        .collect();
    let mut with = BTreeSet::from([member]);
    while !is_majority(membership.get_joint_config(), &with) {
        match timeout_at(deadline, asked.next()).await {
            Ok(Some((id, Ok(theirs)))) if theirs <= term => {
                with.insert(id);
            }
            Ok(Some((id, Ok(theirs)))) => {
                tracing::info!(member = id, term, theirs, "a member is in a later term than this leader");
            }
            Ok(Some((id, Err(status)))) => {
                tracing::debug!(member = id, reason = status.message(), "a member does not confirm");
            }
            Ok(None) | Err(_) => return Err(ReadError::NoQuorum),
        }
    }
    Ok((read.index(), term))
}

/// Whether `with` holds more than half of each of the sets of voters.
fn is_majority(voters: &[BTreeSet<u64>], with: &BTreeSet<u64>) -> bool {
    voters.iter().all(|set| set.intersection(with).count() > set.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_each_half_of_a_change() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        for (voters, with, yes) in [
            (vec![set(&[1])], set(&[1]), true),
            (vec![set(&[1, 2])], set(&[1]), false),
            (vec![set(&[1, 2, 3])], set(&[1, 3]), true),
            (vec![set(&[1, 2, 3])], set(&[1, 4, 5]), false),
            (vec![set(&[1, 2, 3]), set(&[1, 4, 5])], set(&[1, 2]), false),
            (vec![set(&[1, 2, 3]), set(&[1, 4, 5])], set(&[1, 2, 4]), true),
            // This member leads and is being removed: its own word does not count among those who stay.
            (vec![set(&[2, 3])], set(&[1, 2]), false),
        ] {
            assert_eq!(is_majority(&voters, &with), yes, "{voters:?} {with:?}");
        }
    }
}
