//! Whether this member still is one. A member that was removed is not told by the log: nobody sends it any more. The leader tells it once;
//! if it was away then, it finds out when nobody has been heard for a while, by asking the others.
//!
//! What it learned is written down (`DIR/removed`), so that its directory never starts again under its id.

use crate::machine::CoreMachine;
use crate::peers::Peers;
use crate::raft::{Member, Node, Role};
use crate::security::{SecretError, write_private};
use muster_proto::member::{RemovedNotice, StandingRequest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// After this long without a word from a leader a member asks whether it was removed: longer than an election.
const SILENCE: Duration = Duration::from_secs(3);
/// Between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// An answer is waited for this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A removed member is told for this long.
const DISMISS_TRIES: u32 = 5;

/// The file that says so.
fn file(dir: &Path) -> PathBuf {
    dir.join("removed")
}

/// Whether the member of this directory was removed.
#[must_use]
pub fn was_removed(dir: &Path) -> bool {
    file(dir).exists()
}

/// Learns that this member was removed.
#[derive(Clone)]
pub struct Standing {
    dir: PathBuf,
    member: u64,
    cluster: String,
    removed: watch::Sender<bool>,
}

impl Standing {
    #[must_use]
    pub fn new(dir: &Path, member: u64, cluster: &str) -> Self {
        let removed = watch::Sender::new(false);
        Self { dir: dir.to_owned(), member, cluster: cluster.to_owned(), removed }
    }

    /// Becomes true when this member was removed.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    /// Writes it down and ends this member.
    ///
    /// # Errors
    /// The disk's; the member ends all the same, and will ask again when started.
    pub fn leave(&self) -> Result<(), SecretError> {
        let text = format!("member {} was removed from cluster {}", self.member, self.cluster);
        let written = write_private(&file(&self.dir), &text);
        self.removed.send_replace(true);
        written
    }

    /// Asks whenever no leader has been heard for a while, until this member ends.
    pub async fn watch(self, node: Node<CoreMachine>, peers: Peers, known: Vec<String>) {
        let mut known: BTreeSet<String> = known.into_iter().collect();
        loop {
            let (role, members) = {
                let status = node.status();
                let status = status.borrow();
                (status.role, status.members.clone())
            };
            if role == Role::Stopped || *self.removed.borrow() {
                return;
            }
            known.extend(
                members.into_iter().filter(|member| member.id != self.member).map(|member| member.address),
            );
            let silent = node.silence();
            if role == Role::Leader || silent < SILENCE {
                tokio::time::sleep(SILENCE.saturating_sub(silent).max(ASK_EVERY)).await;
                continue;
            }
            for address in known.clone() {
                let Some(answer) = self.ask(&peers, &address).await else { continue };
                if answer.leads && answer.removed {
                    if let Err(error) = self.leave() {
                        tracing::error!(%error, "cannot write down that this member was removed");
                    }
                    return;
                }
                // All that this one knew may have been replaced since.
                known.extend(answer.members);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn ask(&self, peers: &Peers, address: &str) -> Option<muster_proto::member::StandingReply> {
        let mut peer = peers.at(address).ok()?;
        let asked = peer.standing(StandingRequest { member: self.member });
        let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await.ok()?.ok()?.into_inner();
        // This member's own address may have come back among the others'.
        (answer.member != self.member).then_some(answer)
    }
}

/// Tells a member that it was removed, if it is there.
pub async fn dismiss(peers: &Peers, member: &Member) {
    for _ in 0..DISMISS_TRIES {
        let told = async {
            let mut peer = peers.at(&member.address).map_err(|error| error.to_string())?;
            let notice = peer.removed(RemovedNotice { member: member.id });
            match tokio::time::timeout(ANSWER_WITHIN, notice).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(status)) => Err(status.message().to_owned()),
                Err(_) => Err("no answer".to_owned()),
            }
        };
        match told.await {
            Ok(()) => return,
            Err(reason) => tracing::debug!(member = member.id, reason, "a removed member was not told"),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
