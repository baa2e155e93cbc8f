//! The document of the members: who leads, how far each has applied.

use super::service::Service;
use crate::raft::Member;
use muster_core::view_doc::{ClusterDoc, MemberDoc};
use muster_proto::member::StandingRequest;
use std::time::Duration;

/// A member that does not say within this time how far it is counts as unreachable.
const STANDING_WITHIN: Duration = Duration::from_millis(700);

impl Service {
    /// `muster cluster status`: answered without a leader too. The others are asked how far they are.
    pub async fn cluster(&self) -> ClusterDoc {
        let node = self.forward.node();
        let status = node.status().borrow().clone();
        let applied = *node.applied().borrow();
        let leader = status.leader.as_ref().map(|(id, _)| *id);
        let members = status.members.iter().map(async |member| {
            let own = member.id == status.member;
            let last_applied = if own { Some(applied) } else { self.applied_of(member).await };
            MemberDoc {
                id: member.id,
                address: member.address.clone(),
                role: match (last_applied, member.voter, leader == Some(member.id)) {
                    (None, ..) => "unreachable",
                    (_, _, true) => "leader",
                    (_, true, false) => "follower",
                    (_, false, false) => "learner",
                }
                .to_owned(),
                last_applied,
            }
        });
        ClusterDoc {
            members: futures::future::join_all(members).await,
            leader,
            term: status.term,
            cluster_id: self.cluster_id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            staging: self.drills.staging,
        }
    }

    /// None when it does not answer, or another member answers at its address.
    async fn applied_of(&self, member: &Member) -> Option<u64> {
        let mut peer = self.forward.peers().at(&member.address).ok()?;
        let asked = peer.standing(StandingRequest::default());
        let reply = tokio::time::timeout(STANDING_WITHIN, asked).await.ok()?.ok()?.into_inner();
        (reply.member == member.id).then_some(reply.applied)
    }
}
