//! Follows the elections: starts and stops the leader thread's term, and tells the rest of the member who leads.

use crate::clock::TermClock;
use crate::machine::CoreMachine;
use crate::proposer::Proposer;
use crate::raft::{Node, Role};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

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
) -> watch::Receiver<Leadership> {
    let (sender, receiver) = watch::channel(Leadership::default());
    tokio::spawn(run(node, clock, proposer, sender));
    receiver
}

async fn run(
    node: Node<CoreMachine>,
    clock: Arc<TermClock>,
    proposer: Proposer,
    sender: watch::Sender<Leadership>,
) {
    let mut status = node.status();
    let mut led_term = None;
    let promoting = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
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
            if proposer.propose(Vec::new()).await.is_ok() && still_leads(&node, now.term) {
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
        // 3. Who joined gets a vote as soon as it has caught up.
        if led_term.is_some() {
            for member in now.members.iter().filter(|member| !member.voter) {
                if promoting.lock().insert(member.id) {
                    tokio::spawn(promote(node.clone(), member.id, member.address.clone(), promoting.clone()));
                }
            }
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

async fn promote(
    node: Node<CoreMachine>,
    id: u64,
    address: String,
    promoting: Arc<parking_lot::Mutex<BTreeSet<u64>>>,
) {
    loop {
        let attempt = async {
            node.add_learner(id, address.clone()).await?;
            node.promote(id).await
        };
        match attempt.await {
            Ok(()) => {
                tracing::info!(member = id, %address, "joined and votes");
                break;
            }
            Err(crate::raft::MembershipError::Refused { reason }) => {
                tracing::debug!(member = id, reason, "not yet a voter");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                tracing::debug!(member = id, %error, "another leader goes on");
                break;
            }
        }
    }
    promoting.lock().remove(&id);
}
