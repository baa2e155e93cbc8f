//! Another member leads: asked for, or because this one is about to stop. No election timeout has to pass.

use std::time::{Duration, Instant};

use super::Node;
use super::error::MembershipError;
use super::status::{Peer, Role};
use crate::raft::machine::Machine;

/// The successor may lack this many entries at the start: it gets them while nothing new is accepted, in well under a heartbeat.
const BEHIND_MAX: u64 = 2_000;
/// A successor that lacks more is waited for.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Who led and who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    pub from: u64,
    pub to: u64,
    /// Until this member knew its successor.
    pub took: Duration,
}

impl<M: Machine> Node<M> {
    /// Makes `to`, or whoever has the most entries, the leader, and waits until it leads.
    ///
    /// Once begun it cannot be taken back: in this term this member accepts nothing more. If the successor dies in that moment the
    /// others elect one as they always do.
    ///
    /// # Errors
    /// A successor that does not vote, or does not answer within the shortest election timeout; [`MembershipError`].
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<Transfer, MembershipError> {
        let from = self.0.config.member;
        let begun = Instant::now();
        if to == Some(from) && self.0.status.borrow().role == Role::Leader {
            return Ok(Transfer { from, to: from, took: Duration::ZERO });
        }
        let changing = self.0.changing.lock().await;
        let to = loop {
            let peers = self.peers().ok_or_else(|| self.not_leader())?;
            let successor = match successor(&peers, from, to) {
                // A leader of a moment ago has heard of nobody yet; whoever is up answers its first heartbeats.
                Err(MembershipError::Silent { .. } | MembershipError::NobodyElse)
                    if begun.elapsed() < self.0.config.election.0
                        && peers.iter().any(|peer| peer.voter && peer.id != from) =>
                {
                    tokio::time::sleep(self.0.config.heartbeat / 4).await;
                    continue;
                }
                chosen => chosen?,
            };
            let entries = self.last_index().saturating_sub(successor.matched);
            if entries <= BEHIND_MAX {
                break successor.id;
            }
            if begun.elapsed() > CATCH_UP {
                return Err(MembershipError::Behind { member: successor.id, entries });
            }
            tokio::time::sleep(self.0.config.heartbeat / 4).await;
        };
        let asked = Instant::now();
        self.0
            .raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|error| MembershipError::Fatal { reason: error.to_string() })?;
        drop(changing);
        let mut status = self.0.status.clone();
        let another = status.wait_for(|status| {
            status.role == Role::Stopped || status.leader.as_ref().is_some_and(|(leader, _)| *leader != from)
        });
        let limit = self.0.config.election.1 * 2;
        match tokio::time::timeout(limit, another).await {
            Ok(Ok(status)) => match &status.leader {
                Some((leader, _)) => Ok(Transfer { from, to: *leader, took: asked.elapsed() }),
                None => Err(MembershipError::Fatal { reason: "raft has ended".to_owned() }),
            },
            Ok(Err(_)) => Err(MembershipError::Fatal { reason: "raft has ended".to_owned() }),
            Err(_) => Err(MembershipError::NotTaken { ms: limit.as_millis() }),
        }
    }

    /// Before a planned stop: hands the leadership on, if this member leads and somebody can take it.
    pub async fn hand_over(&self) {
        if self.0.status.borrow().role != Role::Leader {
            return;
        }
        // Longer than all its parts may take: only a change of members whose majority is gone holds it up for ever.
        let limit = CATCH_UP + self.0.config.election.1 * 2 + Duration::from_secs(1);
        match tokio::time::timeout(limit, self.transfer_leader(None)).await {
            Ok(Ok(Transfer { to, took, .. })) => {
                tracing::info!(to, ms = took.as_millis(), "handed the leadership over");
            }
            // Alone, or the last one up: there is nobody to hand it to.
            Ok(Err(MembershipError::NobodyElse)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "stopping as the leader; the others will elect one"),
            Err(_) => tracing::warn!("a change of members does not end; stopping as the leader"),
        }
    }
}

/// The one asked for, or the voter that answers and has the most entries (of equals the first).
fn successor(peers: &[Peer], from: u64, to: Option<u64>) -> Result<Peer, MembershipError> {
    let Some(member) = to else {
        let able = peers.iter().filter(|peer| peer.id != from && peer.voter && peer.alive);
        return able
            .min_by_key(|peer| (u64::MAX - peer.matched, peer.id))
            .copied()
            .ok_or(MembershipError::NobodyElse);
    };
    let peer = peers.iter().find(|peer| peer.id == member).ok_or(MembershipError::NotAMember { member })?;
    match (peer.voter, peer.alive) {
        (false, _) => Err(MembershipError::NoVote { member }),
        (true, false) => Err(MembershipError::Silent { member }),
        (true, true) => Ok(*peer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_votes_answers_and_has_the_most_entries() {
        let peer = |id, voter, alive, matched| Peer { id, voter, alive, matched };
        let peers = [
            peer(1, true, true, 90),
            peer(2, true, true, 80),
            peer(3, true, false, 99),
            peer(4, false, true, 99),
            peer(5, true, true, 80),
        ];
        let chosen = |to| successor(&peers, 1, to).map(|peer| peer.id);
        assert_eq!(chosen(None).ok(), Some(2));
        assert_eq!(chosen(Some(5)).ok(), Some(5));
        assert!(matches!(chosen(Some(3)), Err(MembershipError::Silent { member: 3 })));
        assert!(matches!(chosen(Some(4)), Err(MembershipError::NoVote { member: 4 })));
        assert!(matches!(chosen(Some(9)), Err(MembershipError::NotAMember { member: 9 })));
        assert!(matches!(successor(&peers[2..4], 1, None), Err(MembershipError::NobodyElse)));
    }
}
