//! Carries proposals to the leader, whoever it is, and reads to the point that the leader confirms. A call outlives a change of
//! leader by being repeated: every command that comes this way is idempotent (request ids; a Register says the same thing twice).

use super::error::ApiError;
use crate::leadership::Leadership;
use crate::machine::CoreMachine;
use crate::peers::Peers;
use crate::proposer::Proposer;
use crate::raft::{Node, ProposeError};
use crate::room::Room;
use muster_core::command::Command;
use muster_core::reply::{Replies, Reply};
use muster_core::state::State;
use muster_proto::convert::{pack, unpack};
use muster_proto::member::Commands;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A call tries for this long to find a leader that answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries when nothing is known to have changed.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub struct Forward {
    node: Node<CoreMachine>,
    proposer: Proposer,
    peers: Peers,
    leadership: watch::Receiver<Leadership>,
    member: u64,
    room: Room,
}

impl Forward {
    #[must_use]
    pub fn new(
        node: Node<CoreMachine>,
        proposer: Proposer,
        peers: Peers,
        leadership: watch::Receiver<Leadership>,
        member: u64,
        room: Room,
    ) -> Self {
        Self { node, proposer, peers, leadership, member, room }
    }

    /// This member's part in the group.
    #[must_use]
    pub fn node(&self) -> &Node<CoreMachine> {
        &self.node
    }

    /// Who leads, to be watched.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Channels to the others.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// This member's id.
    #[must_use]
    pub fn member(&self) -> u64 {
        self.member
    }

    /// Reads the state as it is after the last applied entry.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(self.node.machine().read().state())
    }

    /// The room on this member's disk and what is known of the others'.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Whether there is room for these commands: without, new jobs are refused and all else goes on.
    ///
    /// # Errors
    /// [`ApiError::DiskFull`].
    pub fn check_room(&self, commands: &[Command]) -> Result<(), ApiError> {
        let grows =
            |command: &Command| matches!(command, Command::Submit { .. } | Command::SubmitPart { .. });
        if !commands.iter().any(grows) {
            return Ok(());
        }
        let status = self.node.status();
        let voters: Vec<u64> =
            status.borrow().members.iter().filter(|member| member.voter).map(|member| member.id).collect();
        self.room.admit(&voters).map_err(|full| ApiError::DiskFull(full.to_string()))
    }

    /// Proposes on this member only.
    ///
    /// # Errors
    /// [`ProposeError`], on a follower too.
    pub async fn propose_here(&self, commands: Vec<Command>) -> Result<Replies, ProposeError> {
        self.proposer.propose(commands).await
    }

    /// Proposes wherever the leader is.
    ///
    /// # Errors
    /// No leader within 5 s; a batch that is too large.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Replies, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        let mut leadership = self.leadership.clone();
        let mut last = String::from("no leader is known");
        loop {
            let known = leadership.borrow_and_update().clone();
            match known.leader {
                Some((id, _)) if id == self.member => {
                    self.check_room(&commands)?;
                    match timeout_at(deadline, self.proposer.propose(commands.clone())).await {
                        Ok(Ok(replies)) => return Ok(replies),
                        Ok(Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Unknown { .. }))) => {
                            last = error.to_string()
                        }
                        Ok(Err(error)) => return Err(error.into()),
                        Err(_) => return Err(ApiError::NoLeader("no majority answered".to_owned())),
                    }
                }
                Some((_, ref address)) => {
                    let asked = timeout_at(deadline, self.ask(address, &commands));
                    // A leader that hangs answers nobody; its successor is asked as soon as there is one.
                    let answer = tokio::select! {
                        answer = asked => answer,
                        () = replaced(&mut leadership, &known) => continue,
                    };
                    match answer {
                        Ok(Ok(replies)) => return Ok(replies),
                        Ok(Err(status))
                            if matches!(
                                status.code(),
                                tonic::Code::InvalidArgument | tonic::Code::Unauthenticated
                            ) =>
                        {
                            return Err(ApiError::BadRequest(status.message().to_owned()));
                        }
                        Ok(Err(status)) if status.code() == tonic::Code::ResourceExhausted => {
                            return Err(ApiError::DiskFull(status.message().to_owned()));
                        }
                        Ok(Err(status)) => last = format!("{address}: {}", status.message()),
                        Err(_) => last = format!("{address} does not answer"),
                    }
                }
                None => {}
            }
            let pause = (Instant::now() + PAUSE).min(deadline);
            let _ = timeout_at(pause, leadership.changed()).await;
            if Instant::now() >= deadline {
                return Err(ApiError::NoLeader(last));
            }
        }
    }

    async fn ask(&self, address: &str, commands: &Vec<Command>) -> Result<Replies, tonic::Status> {
        let mut peer =
            self.peers.at(address).map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let answer = peer.propose(Commands { commands: pack(commands) }).await?.into_inner();
        unpack(&answer.replies).map_err(|error| tonic::Status::internal(error.to_string()))
    }

    /// Proposes one command; a rejection is an error.
    ///
    /// # Errors
    /// As [`Forward::propose`], and what the state answered.
    pub async fn one(&self, command: Command) -> Result<Reply, ApiError> {
        match self.propose(vec![command]).await?.into_iter().next() {
            Some(Reply::Rejected(rejection)) => Err(rejection.into()),
            Some(reply) => Ok(reply),
            None => Err(ApiError::Stopped("the leader answered nothing".to_owned())),
        }
    }

    /// Waits until a read here sees everything that was acknowledged before the call.
    ///
    /// # Errors
    /// No leader within 5 s.
    pub async fn catch_up(&self) -> Result<(), ApiError> {
        let deadline = Instant::now() + PATIENCE;
        let mut leadership = self.leadership.clone();
        loop {
            let known = leadership.borrow_and_update().clone();
            let asked = timeout_at(deadline, self.node.linearizable_read_index());
            let answer = tokio::select! {
                answer = asked => answer,
                () = replaced(&mut leadership, &known) => continue,
            };
            let last = match answer {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => ApiError::from(error),
                Err(_) => return Err(ApiError::NoLeader("no majority answered".to_owned())),
            };
            let pause = (Instant::now() + PAUSE).min(deadline);
            let _ = timeout_at(pause, leadership.changed()).await;
            if Instant::now() >= deadline {
                return Err(last);
            }
        }
    }
}

/// Waits until another leader is known than `known` names.
pub(super) async fn replaced(leadership: &mut watch::Receiver<Leadership>, known: &Leadership) {
    let another = |now: &Leadership| now.leader.is_some() && now.leader != known.leader;
    let gone = leadership.wait_for(another).await.is_err();
    if gone {
        // This member is going down, and so is the call.
        std::future::pending::<()>().await;
    }
}
