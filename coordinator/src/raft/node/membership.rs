//! Who is in the group: learners, votes, members that leave. A change of voters is a joint consensus of two entries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::errors::{ChangeMembershipError, ClientWriteError, ForwardReason, RaftError};
use openraft::{BasicNode, ChangeMembers};

use super::Node;
use super::error::{MembershipError, ReadError, membership};
use super::status::{Member, Peer, Role};
use crate::raft::machine::Machine;
use crate::raft::state_machine::read_membership;

/// A change waits for this long for the entry of the change before it to be committed.
const BUSY: Duration = Duration::from_secs(5);
const BUSY_RETRY: Duration = Duration::from_millis(20);

type Change = ChangeMembers<u64, BasicNode>;

impl<M: Machine> Node<M> {
    /// Adds a member that receives the log and does not vote yet. It need not be there.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn add_learner(&self, id: u64, address: String) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, BasicNode::new(address))]))).await
    }

    /// Waits until a learner holds all that is in the log now, or is not in the membership any more.
    ///
    /// # Errors
    /// [`MembershipError::NotLeader`], [`MembershipError::Fatal`].
    pub async fn wait_caught_up(&self, id: u64) -> Result<(), MembershipError> {
        let target = self.last_index();
        let waiter = self.0.raft.wait(None);
        let wait = waiter.metrics(
            |metrics| match &metrics.replication {
                Some(replication) => {
                    metrics.membership_config.membership().get_node(&id).is_none()
                        || replication.get(&id).is_some_and(|matched| {
                            matched.as_ref().is_some_and(|matched| matched.index >= target)
                        })
                }
                None => true,
            },
            "a learner catches up",
        );
        let metrics = wait.await.map_err(|error| MembershipError::Fatal { reason: error.to_string() })?;
        match metrics.replication {
            Some(_) => Ok(()),
            None => Err(self.not_leader()),
        }
    }

    /// Gives a learner a vote; in the same change `replaced` leaves, if it is still there.
    ///
    /// # Errors
    /// [`MembershipError`]; [`MembershipError::Leads`] when it is this member that is to leave; [`MembershipError::Refused`] when the learner
    /// does not answer now: a vote of the dead could stop a small group.
    pub async fn promote(&self, id: u64, replaced: Option<u64>) -> Result<(), MembershipError> {
        self.answers(id).await?;
        let mut changes = vec![ChangeMembers::AddVoterIds(BTreeSet::from([id]))];
        if let Some(member) = replaced.and_then(|old| self.member(old)) {
            if member.id == self.0.config.member {
                return Err(MembershipError::Leads { member: member.id });
            }
            changes.push(leave(&member));
        }
        self.change(ChangeMembers::Batch(changes)).await
    }

    /// Takes a member out. Its id is not used again. `force` also where no further member could fail afterwards.
    ///
    /// # Errors
    /// What would leave the group without a majority that answers; [`MembershipError`].
    pub async fn remove(&self, id: u64, force: bool) -> Result<Member, MembershipError> {
        // Checked again under the lock: another removal may have gone before.
        let _changing = self.0.changing.lock().await;
        self.may_remove(id, force).await?;
        let member = self.member(id).ok_or(MembershipError::NotAMember { member: id })?;
        self.change_locked(leave(&member)).await?;
        Ok(member)
    }

    /// Whether [`Node::remove`] would do it now.
    ///
    /// # Errors
    /// As it.
    pub async fn may_remove(&self, id: u64, force: bool) -> Result<(), MembershipError> {
        let member = self.member(id).ok_or(MembershipError::NotAMember { member: id })?;
        let peers = self.fresh_peers().await.ok_or_else(|| self.not_leader())?;
        if member.voter {
            may_leave(&peers, id, force)?;
        }
        if id == self.0.config.member {
            return Err(MembershipError::Leads { member: id });
        }
        Ok(())
    }

    /// Ends a change of voters that an earlier leader left half done.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn settle(&self) -> Result<(), MembershipError> {
        let changing = self.0.changing.lock().await;
        let (joint, leads) = {
            let status = self.0.status.borrow();
            (status.joint, status.role == Role::Leader)
        };
        if !joint || !leads {
            return Ok(());
        }
        let settled = self.change_locked(ChangeMembers::AddVoterIds(BTreeSet::new())).await;
        drop(changing);
        settled
    }

    /// Whether the membership, as of everything that was acknowledged before the call, lacks this member. On the leader.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn is_absent(&self, id: u64) -> Result<bool, ReadError> {
        let index = self.confirm_leadership().await?;
        self.wait_applied(index).await?;
        let membership = read_membership(&*self.0.state)
            .map_err(|error| ReadError::Fatal { reason: error.to_string() })?;
        Ok(membership.membership().get_node(&id).is_none())
    }

    async fn answers(&self, id: u64) -> Result<(), MembershipError> {
        let begun = std::time::Instant::now();
        loop {
            let peers = self.peers_within(begun.elapsed()).ok_or_else(|| self.not_leader())?;
            if peers.iter().any(|peer| peer.id == id && peer.alive) {
                return Ok(());
            }
            if begun.elapsed() >= self.0.config.election.1 {
                return Err(MembershipError::Refused { reason: format!("member {id} does not answer") });
            }
            tokio::time::sleep(self.0.config.heartbeat / 4).await;
        }
    }

    /// The member of this id.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<Member> {
        self.0.status.borrow().members.iter().find(|member| member.id == id).cloned()
    }

    /// The refusal that names the leader.
    #[must_use]
    pub fn not_leader(&self) -> MembershipError {
        MembershipError::NotLeader { leader: self.0.status.borrow().leader.clone() }
    }

    async fn change(&self, change: Change) -> Result<(), MembershipError> {
        let _changing = self.0.changing.lock().await;
        self.change_locked(change).await
    }

    /// Members that leave are not kept as learners.
    async fn change_locked(&self, change: Change) -> Result<(), MembershipError> {
        let deadline = tokio::time::Instant::now() + BUSY;
        loop {
            match self.0.raft.change_membership(change.clone(), false).await {
                Ok(_) => return Ok(()),
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_),
                ))) if tokio::time::Instant::now() < deadline => tokio::time::sleep(BUSY_RETRY).await,
                // As with a proposal: the majority has not answered for a moment, which passes or ends this leadership.
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))
                    if to.reason == ForwardReason::LeaseExpired && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(BUSY_RETRY).await;
                }
                Err(error) => return Err(membership(error)),
            }
        }
    }
}

fn leave(member: &Member) -> Change {
    let ids = BTreeSet::from([member.id]);
    if member.voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) }
}

/// Whether the rest is a group that works: a majority of it answers, and unless forced it is no more fragile than before.
fn may_leave(peers: &[Peer], id: u64, force: bool) -> Result<(), MembershipError> {
    let spare = |rest: &[&Peer]| {
        let alive = rest.iter().filter(|peer| peer.alive).count();
        (alive, alive.checked_sub(rest.len() / 2 + 1))
    };
    let before: Vec<&Peer> = peers.iter().filter(|peer| peer.voter).collect();
    let after: Vec<&Peer> = before.iter().copied().filter(|peer| peer.id != id).collect();
    if after.is_empty() {
        return Err(MembershipError::LastVoter { member: id });
    }
    match (spare(&before).1.unwrap_or(0), spare(&after)) {
        (_, (alive, None)) => Err(MembershipError::LosesMajority {
            member: id,
            voters: after.len(),
            alive,
            needed: after.len() / 2 + 1,
        }),
        (now @ 1.., (_, Some(0))) if !force => {
            Err(MembershipError::NoSpare { member: id, voters: after.len(), spare: now })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Voters 1 to `all`; those in `dead` do not answer.
    fn group(all: u64, dead: &[u64]) -> Vec<Peer> {
        (1..=all).map(|id| Peer { id, voter: true, alive: !dead.contains(&id), matched: 0 }).collect()
    }

    #[test]
    fn a_member_may_leave_when_a_majority_of_the_rest_answers() {
        use MembershipError::{LastVoter, LosesMajority, NoSpare};
        // Members, who is dead, who leaves, forced; what comes of it.
        type Case = (u64, &'static [u64], u64, bool, fn(&Result<(), MembershipError>) -> bool);
        let cases: [Case; 10] = [
            (1, &[], 1, true, |r| matches!(r, Err(LastVoter { member: 1 }))),
            (3, &[3], 3, false, Result::is_ok),
            (3, &[3], 2, true, |r| {
                matches!(r, Err(LosesMajority { member: 2, voters: 2, alive: 1, needed: 2 }))
            }),
            (3, &[], 2, false, |r| matches!(r, Err(NoSpare { member: 2, voters: 2, spare: 1 }))),
            (3, &[], 2, true, Result::is_ok),
            (2, &[], 2, false, Result::is_ok),
            (5, &[], 5, false, Result::is_ok),
            (4, &[], 4, false, Result::is_ok),
            (5, &[4, 5], 4, false, Result::is_ok),
            (5, &[4, 5], 3, true, |r| matches!(r, Err(LosesMajority { voters: 4, alive: 2, needed: 3, .. }))),
        ];
        for (all, dead, leaves, force, expected) in cases {
            let result = may_leave(&group(all, dead), leaves, force);
            assert!(expected(&result), "{leaves} of {all}, dead {dead:?}, force {force}: {result:?}");
        }
    }

    #[test]
    fn learners_count_for_nothing() {
        let mut peers = group(4, &[3]);
        peers[3].voter = false;
        assert!(matches!(
            may_leave(&peers, 2, true),
            Err(MembershipError::LosesMajority { voters: 2, alive: 1, .. })
        ));
    }
}
