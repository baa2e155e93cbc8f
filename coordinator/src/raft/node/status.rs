//! What this member knows of the group, and on the leader: how the others are.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{Instant, Raft, ServerState};
use tokio::sync::watch;

use super::error::Leader;
use super::{C, Node, Sm};
use crate::raft::machine::{Answer, Machine};
use crate::raft::types::{Tokio, Types};

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives the log, does not vote.
    Learner,
    Follower,
    /// Asks for votes.
    Candidate,
    Leader,
    /// Raft has ended here; only a restart helps.
    Stopped,
}

/// A member in the membership.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where it listens.
    pub address: String,
    /// Whether it votes (or is a learner).
    pub voter: bool,
}

/// What this member knows of the group. Changes are watched; they come with elections and memberships, not with entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member: u64,
    /// What it is.
    pub role: Role,
    /// Who leads.
    pub leader: Leader,
    /// The term, one leader at most in each.
    pub term: u64,
    /// All members.
    pub members: Vec<Member>,
    /// A change of the voters is half done: two majorities are needed until its second entry.
    pub joint: bool,
}

/// How a leader sees another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Whether it votes.
    pub voter: bool,
    /// It has acknowledged something within an election timeout. The leader itself is alive.
    pub alive: bool,
    /// Its log holds the leader's entries up to this index.
    pub matched: u64,
}

impl<M: Machine> Node<M> {
    /// How the members are, by their acknowledgements; none when this member does not lead.
    #[must_use]
    pub fn peers(&self) -> Option<Vec<Peer>> {
        self.peers_within(self.0.config.election.1)
    }

    /// The same after a look at each: only who has acknowledged something that was sent after the call is alive. A member that has just died
    /// looks alive for an election timeout otherwise, and a change of the members that counts on it never ends.
    pub async fn fresh_peers(&self) -> Option<Vec<Peer>> {
        let begun = std::time::Instant::now();
        loop {
            let peers = self.peers_within(begun.elapsed())?;
            let all = peers.iter().all(|peer| !peer.voter || peer.alive);
            if all || begun.elapsed() >= self.0.config.election.1 {
                return Some(peers);
            }
            tokio::time::sleep(self.0.config.heartbeat / 4).await;
        }
    }

    pub(super) fn peers_within(&self, limit: Duration) -> Option<Vec<Peer>> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (heard, matched) = (metrics.heartbeat.as_ref()?, metrics.replication.as_ref()?);
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let peers = membership.nodes().map(|(id, _)| {
            let silent = heard.get(id).and_then(|at| at.as_ref()).map(|at| at.elapsed());
            Peer {
                id: *id,
                voter: voters.contains(id),
                alive: *id == metrics.id || silent.is_some_and(|silent| silent < limit),
                matched: match matched.get(id) {
                    Some(Some(log_id)) => log_id.index,
                    Some(None) | None => 0,
                },
            }
        });
        Some(peers.collect())
    }

    /// The other members and for how long each has acknowledged nothing, as far as this leader knows; none when this member does not
    /// lead. A member that it has not heard at all has no time.
    #[must_use]
    pub fn silences(&self) -> Option<Vec<(Member, Option<Duration>)>> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.as_ref()?;
        let members = self.0.status.borrow().members.clone();
        let others = members.into_iter().filter(|member| member.id != metrics.id);
        let silences = others.map(|member| {
            let silent = heard.get(&member.id).and_then(|at| at.as_ref()).map(|at| at.elapsed());
            (member, silent)
        });
        Some(silences.collect())
    }

    /// The index of the last entry in this member's log.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.0.raft.metrics().borrow_watched().last_log_index.unwrap_or(0)
    }
}

/// Translates openraft's metrics into [`Status`] as they change.
pub(super) fn watch_status<M: Machine>(raft: &Raft<C<M>, Sm<M>>) -> watch::Receiver<Status> {
    let mut metrics = raft.server_metrics();
    let (sender, receiver) = watch::channel(status_of(&metrics.borrow_watched()));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let status = status_of(&metrics.borrow_watched());
            sender.send_if_modified(|known| {
                let changed = *known != status;
                *known = status;
                changed
            });
            if sender.is_closed() {
                return;
            }
        }
        sender.send_modify(|status| {
            status.role = Role::Stopped;
            status.leader = None;
        });
    });
    receiver
}

fn status_of<A: Answer>(metrics: &RaftServerMetrics<Types<A, Tokio>>) -> Status {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let members: Vec<Member> = membership
        .nodes()
        .map(|(id, node)| Member { id: *id, address: node.addr.clone(), voter: voters.contains(id) })
        .collect();
    let leader = metrics
        .current_leader
        .and_then(|id| members.iter().find(|member| member.id == id))
        .map(|member| (member.id, member.address.clone()));
    let role = match metrics.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    };
    let joint = membership.get_joint_config().len() > 1;
    Status { member: metrics.id, role, leader, term: metrics.vote.leader_id.term, members, joint }
}
