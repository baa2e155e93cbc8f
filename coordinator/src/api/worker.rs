//! The adapter of `muster.worker.v1`: a worker joins, and keeps one session, which ends up at the leader: in this process, or relayed.
//!
//! When the leader changes, every session ends and the worker registers again: its Register says what it holds, so the new leader
//! compares state with facts and nobody remembers anything for it.

use super::error::ApiError;
use super::forward::Forward;
use crate::leader::{Down, LeaderHandle, OpenSession, Up};
use crate::leadership::Leadership;
use crate::security::Gate;
use crate::sessions::Sessions;
use muster_core::command::Command;
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::worker::{Incarnation, WorkerSpec};
use muster_core::reply::Reply;
use muster_proto::channel::MESSAGE_BYTES_MAX;
use muster_proto::convert::{pack, unpack};
use muster_proto::member::RelayUp;
use muster_proto::worker::worker_api_server::{WorkerApi, WorkerApiServer};
use muster_proto::worker::{
    Instructions, JoinReply, JoinRequest, MemberMessage, Refused, Registered, WorkerMessage, member_message,
    worker_message,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A session's first message comes within this time.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// A leader that was just elected is waited for.
const LEADER_WITHIN: Duration = Duration::from_secs(5);
/// Longest name of a worker.
const NAME_MAX: usize = 63;

/// Serves workers.
#[derive(Clone)]
pub struct Workers {
    pub forward: Forward,
    pub sessions: Sessions,
    pub leader: LeaderHandle,
    pub gate: Gate,
    pub cluster_id: String,
    pub store_url: String,
}

/// Where a session's messages go.
enum Route {
    Here(OpenSession),
    There(mpsc::UnboundedSender<RelayUp>),
}

impl Route {
    fn up(&self, up: Up) {
        match self {
            Self::Here(session) => session.up(up),
            Self::There(relay) => {
                let _ = relay.send(RelayUp { message: pack(&up), ..RelayUp::default() });
            }
        }
    }
}

impl Workers {
    /// Ready to be added to a server; checks tokens itself, as its calls differ.
    #[must_use]
    pub fn server(self) -> WorkerApiServer<Self> {
        WorkerApiServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn members(&self) -> Vec<String> {
        self.forward.node().status().borrow().members.iter().map(|member| member.address.clone()).collect()
    }

    async fn serve(
        &self,
        name: &str,
        mut inbound: Streaming<WorkerMessage>,
        send: &mpsc::UnboundedSender<Result<MemberMessage, Status>>,
    ) -> Result<(), Status> {
        // 1. It registers.
        let first = tokio::time::timeout(REGISTER_WITHIN, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("a session begins with Register"))??;
        let Some(WorkerMessage { kind: Some(worker_message::Kind::Register(register)) }) = first else {
            return Err(Status::invalid_argument("a session begins with Register"));
        };
        let spec: WorkerSpec = unpack(&register.spec).map_err(ApiError::from)?;
        if spec.name != name {
            return Err(Status::permission_denied(format!(
                "the token is of worker {name:?}, not of {:?}",
                spec.name
            )));
        }
        let incarnation = Incarnation(register.incarnation);
        let held: Vec<Token> = register.held.into_iter().map(Token).collect();
        let mut leadership = self.forward.leadership();
        let reply = self
            .forward
            .one(Command::Register { spec, incarnation: incarnation.clone(), held: held.clone() })
            .await;
        let worker = match reply {
            Ok(Reply::Registered { worker }) => worker,
            Ok(_) => return Err(Status::internal("a Register was answered with something else")),
            Err(ApiError::Rejected(rejection)) => {
                let refused = Refused { reason: rejection.to_string() };
                let _ = send.send(Ok(MemberMessage { kind: Some(member_message::Kind::Refused(refused)) }));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        // 2. Its session opens at the leader.
        let seat = self.sessions.sit(worker, send.clone());
        let (down, mut downs) = mpsc::unbounded_channel::<Down>();
        let registered = Registered { worker: worker.0, members: self.members() };
        let _ = send.send(Ok(MemberMessage { kind: Some(member_message::Kind::Registered(registered)) }));
        let known = wait_ready(&mut leadership, self.forward.member()).await?;
        let route = self.route(&known, worker, incarnation, held, down).await?;
        // 3. Messages both ways until something ends.
        loop {
            tokio::select! {
                message = inbound.message() => match message?.and_then(|message| message.kind) {
                    Some(worker_message::Kind::Heartbeat(beat)) => {
                        route.up(Up::Heartbeat { seq: beat.seq, held: beat.held.into_iter().map(Token).collect() });
                    }
                    Some(worker_message::Kind::Reports(reports)) => {
                        route.up(Up::Reports(unpack(&reports.reports).map_err(ApiError::from)?));
                    }
                    Some(worker_message::Kind::Log(data)) => self.sessions.on_log(data),
                    Some(worker_message::Kind::Register(_)) => return Err(Status::invalid_argument("registered already")),
                    None => return Ok(()),
                },
                instructions = downs.recv() => match instructions {
                    Some(instructions) => {
                        let message = MemberMessage { kind: Some(member_message::Kind::Instructions(Instructions { instructions })) };
                        if send.send(Ok(message)).is_err() {
                            return Ok(());
                        }
                    }
                    None => return Err(Status::unavailable("the leader ended the session: register again")),
                },
                changed = leadership.changed() => {
                    let now = leadership.borrow_and_update().clone();
                    if changed.is_err() || now.term != known.term || now.leader != known.leader {
                        return Err(Status::unavailable("the leader changed: register again"));
                    }
                }
                () = seat.replaced.cancelled() => return Err(Status::aborted("the worker opened another session")),
                () = send.closed() => return Ok(()),
            }
        }
    }

    async fn route(
        &self,
        known: &Leadership,
        worker: WorkerId,
        incarnation: Incarnation,
        held: Vec<Token>,
        down: mpsc::UnboundedSender<Down>,
    ) -> Result<Route, Status> {
        let Some((id, address)) = &known.leader else {
            return Err(Status::unavailable("no leader is known"));
        };
        if *id == self.forward.member() {
            return Ok(Route::Here(self.leader.open(worker, incarnation, held, down)));
        }
        let mut peer =
            self.forward.peers().at(address).map_err(|error| Status::unavailable(error.to_string()))?;
        let (up, ups) = mpsc::unbounded_channel();
        let opened = RelayUp {
            worker: worker.0,
            incarnation: incarnation.0,
            message: pack(&held),
            opened: true,
            ..RelayUp::default()
        };
        let _ = up.send(opened);
        let mut answers = peer.relay(UnboundedReceiverStream::new(ups)).await?.into_inner();
        tokio::spawn(async move {
            // The end of either side ends the other: `down` goes with this task, the relay with the route.
            loop {
                tokio::select! {
                    answer = answers.message() => match answer {
                        Ok(Some(answer)) => {
                            if down.send(answer.instructions).is_err() {
                                return;
                            }
                        }
                        Ok(None) | Err(_) => return,
                    },
                    () = down.closed() => return,
                }
            }
        });
        Ok(Route::There(up))
    }
}

/// Waits until there is a leader that may instruct, as far as this member can tell.
async fn wait_ready(
    leadership: &mut tokio::sync::watch::Receiver<Leadership>,
    member: u64,
) -> Result<Leadership, Status> {
    let ready = leadership.wait_for(|known| match &known.leader {
        Some((id, _)) if *id == member => known.is_ready,
        Some(_) => true,
        None => false,
    });
    match tokio::time::timeout(LEADER_WITHIN, ready).await {
        Ok(Ok(known)) => Ok(known.clone()),
        _ => Err(Status::unavailable("no leader is known")),
    }
}

#[tonic::async_trait]
impl WorkerApi for Workers {
    async fn join(&self, call: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        self.gate.join(&call)?;
        let name = call.into_inner().name;
        let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_sound) {
            let message =
                format!("{name:?} is no worker name: letters, digits, '-', '_' and '.', at most {NAME_MAX}");
            return Err(ApiError::BadRequest(message).into());
        }
        Ok(Response::new(JoinReply {
            token: self.gate.secret().worker_token(&name),
            cluster_id: self.cluster_id.clone(),
            members: self.members(),
            store_url: self.store_url.clone(),
        }))
    }

    type SessionStream = UnboundedReceiverStream<Result<MemberMessage, Status>>;

    async fn session(
        &self,
        call: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let name = self.gate.worker(&call)?;
        let (send, receive) = mpsc::unbounded_channel();
        let this = self.clone();
        tokio::spawn(async move {
            match this.serve(&name, call.into_inner(), &send).await {
                Ok(()) => tracing::debug!(worker = name, "a session ended"),
                Err(status) => {
                    tracing::info!(worker = name, reason = status.message(), "a session ended");
                    let _ = send.send(Err(status));
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receive)))
    }
}
