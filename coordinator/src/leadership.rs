//! Follows the elections: starts and stops the leader thread's term, tells the rest of the member who leads, and as the leader sees to
//! the members on their way in and out.

use crate::clock::TermClock;
use crate::machine::CoreMachine;
use crate::peers::Peers;
use crate::proposer::Proposer;
use crate::raft::{Member, MembershipError, Node, Role};
use crate::standing;
use crate::vital::Vital;
use muster_core::command::Command;
use muster_core::model::ids::MemberId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two tries to give a vote, while another change is in progress.
const PROMOTE_RETRY: Duration = Duration::from_millis(200);

/// Who leads, as far as this member knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    pub term: u64,
    /// Id and address.
    pub leader: Option<(u64, String)>,
    /// This member leads, and the first entry of its term is applied: it may instruct.
    pub is_ready: bool,
}

/// Starts following; the receiver hears every change.
#[must_use]
pub fn follow(
    node: Node<CoreMachine>,
    clock: Arc<TermClock>,
    proposer: Proposer,
    peers: Peers,
) -> watch::Receiver<Leadership> {
    let (sender, receiver) = watch::channel(Leadership::default());
    let steward =
        Steward { node: node.clone(), proposer: proposer.clone(), peers, promoting: Arc::default() };
    tokio::spawn(run(node, clock, proposer, steward, sender));
    receiver
}

async fn run(
    node: Node<CoreMachine>,
    clock: Arc<TermClock>,
    proposer: Proposer,
    steward: Steward,
    sender: watch::Sender<Leadership>,
) {
    let _vital = Vital("the watch over who leads");
    let mut status = node.status();
    let mut led_term = None;
    loop {
        let now = status.borrow_and_update().clone();
        let leads = now.role == Role::Leader;
        // 1. A term that is over ends before anything else.
        if led_term.is_some_and(|term| !leads || term != now.term) {
            led_term = None;
            node.machine().write().stop_leading();
        }
        let known = Leadership { term: now.term, leader: now.leader.clone(), is_ready: led_term.is_some() };
        sender.send_if_modified(|last| {
            let changed = *last != known;
            *last = known;
            changed
        });
        // 2. A new term begins with an entry of its own; what earlier terms left is applied before it.
        if leads && led_term.is_none() {
            clock.begin(node.machine().read().state().tick());
            if proposer.propose_in(Some(now.term), Vec::new()).await.is_ok() && still_leads(&node, now.term) {
                clock.begin(node.machine().read().state().tick());
                node.machine().write().start_leading(now.term);
                led_term = Some(now.term);
                sender.send_modify(|known| known.is_ready = true);
                tracing::info!(term = now.term, "leading");
            } else if still_leads(&node, now.term) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        }
        // 3. Who joined gets a vote as soon as it has caught up; a change that an earlier leader left half done is ended.
        if led_term.is_some() {
            steward.look(&now.members, now.joint);
        }
        if status.changed().await.is_err() || now.role == Role::Stopped {
            node.machine().write().stop_leading();
            return;
        }
    }
}

fn still_leads(node: &Node<CoreMachine>, term: u64) -> bool {
    let status = node.status();
    let status = status.borrow();
    status.role == Role::Leader && status.term == term
}

/// What a leader does for the members without being asked.
#[derive(Clone)]
struct Steward {
    node: Node<CoreMachine>,
    proposer: Proposer,
    peers: Peers,
    promoting: Arc<Mutex<BTreeSet<u64>>>,
}

impl Steward {
    fn look(&self, members: &[Member], joint: bool) {
        if joint {
            let node = self.node.clone();
            tokio::spawn(async move {
                while let Err(error) = node.settle().await {
                    tracing::debug!(%error, "the voters' change is not ended yet");
                    if node.status().borrow().role != Role::Leader {
                        return;
                    }
                    tokio::time::sleep(PROMOTE_RETRY).await;
                }
            });
        }
        for member in members {
            if !member.voter && self.promoting.lock().insert(member.id) {
                let (steward, member) = (self.clone(), member.clone());
                tokio::spawn(async move {
                    steward.promote(&member).await;
                    steward.promoting.lock().remove(&member.id);
                });
            }
        }
        // A leader that died between the vote and this left them open.
        let open: Vec<u64> = self.node.machine().read().state().admissions().keys().map(|id| id.0).collect();
        for member in members.iter().filter(|member| member.voter && open.contains(&member.id)) {
            let (steward, id) = (self.clone(), member.id);
            tokio::spawn(async move { steward.close(id).await });
        }
    }

    async fn promote(&self, member: &Member) {
        let Member { id, address, .. } = member;
        let is_learner = || self.node.member(*id).is_some_and(|member| !member.voter);
        while is_learner() {
            let replaced = self
                .node
                .machine()
                .read()
                .state()
                .admissions()
                .get(&MemberId(*id))
                .and_then(|admission| admission.replace)
                .and_then(|old| self.node.member(old.0));
            let attempt = async {
                self.node.wait_caught_up(*id).await?;
                // It may have been removed meanwhile.
                if is_learner() {
                    self.node.promote(*id, replaced.as_ref().map(|old| old.id)).await?;
                }
                Ok(())
            };
            match attempt.await {
                Ok(()) => {
                    tracing::info!(member = id, %address, replaces = replaced.as_ref().map(|old| old.id), "joined and votes");
                    self.close(*id).await;
                    if let Some(old) = replaced {
                        standing::dismiss(&self.peers, &old).await;
                    }
                    return;
                }
                // It is this member that is to be replaced: the next leader does it.
                Err(MembershipError::Leads { .. }) => match self.node.transfer_leader(None).await {
                    Ok(_) => return,
                    Err(error) => {
                        tracing::debug!(member = id, %error, "nobody takes the leadership yet");
                        tokio::time::sleep(PROMOTE_RETRY).await;
                    }
                },
                Err(MembershipError::Refused { reason }) => {
                    tracing::debug!(member = id, reason, "not yet a voter");
                    tokio::time::sleep(PROMOTE_RETRY).await;
                }
                // Its majority was silent for a moment, and it leads on.
                Err(MembershipError::NotLeader { .. }) if self.leads() => {
                    tokio::time::sleep(PROMOTE_RETRY).await;
                }
                Err(error) => {
                    tracing::debug!(member = id, %error, "another leader goes on");
                    return;
                }
            }
        }
    }

    fn leads(&self) -> bool {
        self.node.status().borrow().role == Role::Leader
    }

    async fn close(&self, id: u64) {
        let member = MemberId(id);
        while let Err(error) =
            self.proposer.propose(vec![Command::CloseAdmission { member, floor: member }]).await
        {
            tracing::debug!(member = id, %error, "the admission is not closed");
            if !self.leads() {
                return;
            }
            tokio::time::sleep(PROMOTE_RETRY).await;
        }
    }
}
