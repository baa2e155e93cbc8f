//! The use cases of members: a token for a new one, one that leaves, another leader. What only the leader can do is carried to it.

use super::error::ApiError;
use super::forward::Forward;
use super::service::Service;
use crate::clock::wall_ms;
use crate::raft::{Member, MembershipError, ProposeError, Role};
use crate::security::JOIN_SECONDS;
use crate::standing;
use muster_core::command::Command;
use muster_core::model::ids::MemberId;
use muster_core::reply::Reply;
use muster_proto::api::PrepareMemberReply;
use muster_proto::member::change_members_request::Change;
use muster_proto::member::{ChangeMembersReply, ChangeMembersRequest, RemoveChange, TransferChange};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Most members that vote: each entry goes to all of them, and nobody loses four machines at once.
pub const VOTERS_MAX: usize = 7;
/// A change is tried for this long: a transfer, an election and two entries.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

impl Service {
    /// Checks that a member could join from `address`, and makes it a join token.
    ///
    /// # Errors
    /// An address that a member has, too many members, nobody to replace.
    pub async fn prepare_member(
        &self,
        address: &str,
        replace: Option<u64>,
    ) -> Result<PrepareMemberReply, ApiError> {
        self.forward.catch_up().await?;
        let members = self.forward.node().status().borrow().members.clone();
        may_join(&members, address, replace)?;
        let now = u64::try_from(wall_ms() / 1_000).unwrap_or_default();
        Ok(PrepareMemberReply {
            join_token: self.gate.secret().join_token(&self.cluster_id, now),
            good_seconds: JOIN_SECONDS,
            members: members.into_iter().filter(|m| Some(m.id) != replace).map(|m| m.address).collect(),
            cluster_id: self.cluster_id.to_string(),
        })
    }

    /// Takes a member out; of the leader another one makes the leader first.
    ///
    /// # Errors
    /// [`MembershipError`], no leader.
    pub async fn remove_member(&self, member: u64, force: bool) -> Result<ChangeMembersReply, ApiError> {
        self.forward.change_members(Change::Remove(RemoveChange { member, force })).await
    }

    /// Makes `to`, or any other, the leader.
    ///
    /// # Errors
    /// [`MembershipError`], no leader.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<ChangeMembersReply, ApiError> {
        self.forward.change_members(Change::Transfer(TransferChange { to })).await
    }
}

/// Whether a member may join from `address`.
///
/// # Errors
/// The first thing against it.
pub fn may_join(members: &[Member], address: &str, replace: Option<u64>) -> Result<(), ApiError> {
    if let Some(member) = replace
        && !members.iter().any(|known| known.id == member)
    {
        return Err(MembershipError::NotAMember { member }.into());
    }
    if let Some(known) = members.iter().find(|known| known.address == address)
        && replace != Some(known.id)
    {
        return Err(ApiError::AddressTaken { address: address.to_owned(), member: known.id });
    }
    let stay = members.iter().filter(|known| Some(known.id) != replace).count();
    if stay >= VOTERS_MAX {
        return Err(ApiError::GroupFull { members: members.len(), limit: VOTERS_MAX });
    }
    Ok(())
}

impl Forward {
    /// Has the leader, whoever it is, make a change. A call outlives a change of leader: what was done already is done.
    ///
    /// # Errors
    /// What the leader refuses; no leader within 15 s.
    pub async fn change_members(&self, change: Change) -> Result<ChangeMembersReply, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        let mut leadership = self.leadership();
        let mut last = String::from("no leader is known");
        loop {
            let known = leadership.borrow_and_update().clone();
            let tried = match known.leader {
                Some((id, _)) if id == self.member() => {
                    self.change_here(&change).await.map_err(ApiError::from)
                }
                Some((_, address)) => {
                    let request = ChangeMembersRequest { change: Some(change) };
                    match self.peers().at(&address) {
                        Ok(mut peer) => match timeout_at(deadline, peer.change_members(request)).await {
                            Ok(Ok(reply)) => Ok(reply.into_inner()),
                            Ok(Err(status)) => Err(ApiError::Peer(Box::new(status))),
                            Err(_) => Err(ApiError::NoLeader(format!("{address} does not answer"))),
                        },
                        Err(error) => Err(ApiError::NoLeader(error.to_string())),
                    }
                }
                None => Err(ApiError::NoLeader(last.clone())),
            };
            match tried {
                Err(error) if error.passes() => last = error.to_string(),
                done => return done,
            }
            let pause = (Instant::now() + PAUSE).min(deadline);
            let _ = timeout_at(pause, leadership.changed()).await;
            if Instant::now() >= deadline {
                return Err(ApiError::NoLeader(last));
            }
        }
    }

    /// Makes a change as the leader.
    ///
    /// # Errors
    /// [`MembershipError`]; [`MembershipError::NotLeader`] where another member has to go on.
    pub async fn change_here(&self, change: &Change) -> Result<ChangeMembersReply, MembershipError> {
        match change {
            Change::Remove(RemoveChange { member, force }) => self.remove_here(*member, *force).await,
            Change::Transfer(TransferChange { to }) => {
                let done = self.node().transfer_leader(*to).await?;
                Ok(ChangeMembersReply {
                    from: done.from,
                    to: done.to,
                    changed: done.from != done.to,
                    took_ms: u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX),
                    ..ChangeMembersReply::default()
                })
            }
        }
    }

    async fn remove_here(&self, id: u64, force: bool) -> Result<ChangeMembersReply, MembershipError> {
        let node = self.node();
        if node.member(id).is_none() {
            // It was let in and never came: its place is free again.
            if self.read(|state| state.admissions().contains_key(&MemberId(id))) {
                let spent = Command::CloseAdmission { member: MemberId(id), floor: MemberId(id) };
                self.propose_here(vec![spent]).await.map_err(not_proposed)?;
                return Ok(ChangeMembersReply { from: id, changed: true, ..ChangeMembersReply::default() });
            }
            // Gone already: by an earlier try of this very call, most likely.
            let was_one = node.status().borrow().role == Role::Leader && self.is_removed(id).await;
            return if was_one {
                Ok(ChangeMembersReply { from: id, ..ChangeMembersReply::default() })
            } else {
                Err(MembershipError::NotAMember { member: id })
            };
        }
        // Before it goes, the state knows that its id is spent.
        let members = node.status().borrow().members.clone();
        let greatest = members.iter().map(|member| member.id).max().unwrap_or(id);
        let rest = members.iter().filter(|member| member.voter && member.id != id).count();
        let spent = Command::CloseAdmission { member: MemberId(id), floor: MemberId(greatest) };
        match node.may_remove(id, force).await {
            Ok(()) => {
                self.propose_here(vec![spent]).await.map_err(not_proposed)?;
            }
            // The leader itself: the next one goes on.
            Err(MembershipError::Leads { .. }) => {
                node.transfer_leader(None).await?;
                return Err(node.not_leader());
            }
            Err(error) => return Err(error),
        }
        let member = node.remove(id, force).await?;
        tracing::info!(member = id, address = member.address, "removed");
        let peers = self.peers().clone();
        let address = member.address.clone();
        tokio::spawn(async move { standing::dismiss(&peers, &member).await });
        let warning = match rest {
            2 => "2 members vote now and none of them may fail: add one, or remove one more".to_owned(),
            n if n % 2 == 0 => format!("{n} members vote now; {} are as safe and faster", n - 1),
            _ => String::new(),
        };
        Ok(ChangeMembersReply { from: id, changed: true, warning, address, ..ChangeMembersReply::default() })
    }

    /// Whether this id was a member's and is no more. Asked of the leader; anybody else says no.
    pub async fn is_removed(&self, id: u64) -> bool {
        let spent = self.read(|state| {
            state.last_member() >= MemberId(id) && !state.admissions().contains_key(&MemberId(id))
        });
        // The membership is looked at after the state, and is at least as new.
        spent && self.node().is_absent(id).await.unwrap_or(false)
    }

    /// The id of a member that asks to join, the same for the same request. On the leader.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn admit(
        &self,
        request: String,
        address: String,
        replace: Option<u64>,
    ) -> Result<u64, ApiError> {
        let node = self.node();
        let members = node.status().borrow().members.clone();
        let again = self
            .read(|state| state.admissions().iter().find(|(_, a)| a.request == request).map(|(id, _)| id.0));
        if again.is_none() {
            may_join(&members, &address, replace)?;
        }
        let floor = MemberId(members.iter().map(|member| member.id).max().unwrap_or(0));
        let command =
            Command::AdmitMember { request, address: address.clone(), replace: replace.map(MemberId), floor };
        let id = match self.propose_here(vec![command]).await?.into_iter().next() {
            Some(Reply::Admitted { member }) => member.0,
            Some(Reply::Rejected(rejection)) => return Err(rejection.into()),
            _ => {
                return Err(ApiError::Stopped(
                    "the log answered an admission with something else".to_owned(),
                ));
            }
        };
        if node.member(id).is_none() {
            node.add_learner(id, address.clone()).await?;
        }
        tracing::info!(member = id, %address, replaces = replace, "joins");
        Ok(id)
    }
}

fn not_proposed(error: ProposeError) -> MembershipError {
    match error {
        ProposeError::NotLeader { leader } | ProposeError::Unknown { leader } => {
            MembershipError::NotLeader { leader }
        }
        error @ (ProposeError::TooLarge { .. } | ProposeError::Encode(_) | ProposeError::Fatal { .. }) => {
            MembershipError::Fatal { reason: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_join() {
        let member = |id: u64| Member { id, address: format!("m{id}:1"), voter: true };
        let three: Vec<Member> = (1..=3).map(member).collect();
        assert!(may_join(&three, "m4:1", None).is_ok());
        assert!(may_join(&three, "m2:1", Some(2)).is_ok(), "the same machine with a new disk");
        assert!(may_join(&three, "m4:1", Some(2)).is_ok());
        assert!(matches!(may_join(&three, "m2:1", None), Err(ApiError::AddressTaken { member: 2, .. })));
        assert!(matches!(may_join(&three, "m2:1", Some(3)), Err(ApiError::AddressTaken { member: 2, .. })));
        assert!(matches!(
            may_join(&three, "m4:1", Some(9)),
            Err(ApiError::Member(MembershipError::NotAMember { member: 9 }))
        ));
        let seven: Vec<Member> = (1..=7).map(member).collect();
        assert!(matches!(may_join(&seven, "m8:1", None), Err(ApiError::GroupFull { members: 7, limit: 7 })));
        assert!(may_join(&seven, "m8:1", Some(1)).is_ok());
    }
}
