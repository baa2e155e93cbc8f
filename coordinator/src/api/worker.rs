//! The adapter of `muster.worker.v1`: a worker joins, and keeps one session, which ends up at the leader: in this process, or relayed.
//!
//! A session outlives leaders ([`crate::uplink`]). A worker that comes again as what it is registered as opens one without an entry in
//! the log: when a member dies, thousands come at once, and nothing about them has changed.

use super::error::ApiError;
use super::forward::Forward;
use crate::drills::Silences;
use crate::leader::Up;
use crate::leadership::Leadership;
use crate::registrar::Registrar;
use crate::security::Gate;
use crate::sessions::Sessions;
use crate::uplink::Uplink;
use muster_core::command::Command;
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::worker::{Incarnation, WorkerSpec, WorkerState};
use muster_core::reply::Reply;
use muster_proto::channel::MESSAGE_BYTES_MAX;
use muster_proto::convert::unpack;
use muster_proto::worker::worker_api_server::{WorkerApi, WorkerApiServer};
use muster_proto::worker::{
    JoinReply, JoinRequest, MemberMessage, Refused, Registered, WorkerMessage, member_message, worker_message,
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
    pub registrar: Registrar,
    pub uplink: Uplink,
    pub gate: Gate,
    pub cluster_id: String,
    pub store_url: String,
    pub silences: Silences,
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
        let admitted = tokio::select! {
            biased;
            () = self.silences.begins(name) => return Err(unheard()),
            admitted = self.admit(name, &mut inbound, send) => admitted?,
            // It gave up and asks elsewhere: what is done for it now stands in others' way.
            () = send.closed() => return Ok(()),
        };
        let Some((worker, incarnation, held)) = admitted.filter(|_| !send.is_closed()) else {
            return Ok(());
        };
        // 2. Its session is linked to whoever leads.
        let seat = self.sessions.sit(worker, send.clone());
        let registered = Registered { worker: worker.0, members: self.members() };
        let _ = send.send(Ok(MemberMessage { kind: Some(member_message::Kind::Registered(registered)) }));
        let linked = self.uplink.link(worker, incarnation, held, send.clone());
        // 3. Messages both ways until something ends.
        loop {
            tokio::select! {
                // Its messages come last: once it is not to be heard, not one of them is.
                biased;
                () = self.silences.begins(name) => return Err(unheard()),
                () = linked.over.cancelled() => return Err(Status::unavailable("the leader ended the session: register again")),
                () = seat.replaced.cancelled() => return Err(Status::aborted("the worker opened another session")),
                () = send.closed() => return Ok(()),
                message = inbound.message() => match message?.and_then(|message| message.kind) {
                    Some(worker_message::Kind::Heartbeat(beat)) => {
                        linked.up(Up::Heartbeat { seq: beat.seq, held: beat.held.into_iter().map(Token).collect() });
                    }
                    Some(worker_message::Kind::Reports(reports)) => {
                        linked.up(Up::Reports(unpack(&reports.reports).map_err(ApiError::from)?));
                    }
                    Some(worker_message::Kind::DeviceEvents(message)) => {
                        linked.up(Up::DeviceEvents(unpack(&message.events).map_err(ApiError::from)?));
                    }
                    Some(worker_message::Kind::Notice(message)) => {
                        linked.up(Up::Notice(unpack(&message.notice).map_err(ApiError::from)?));
                    }
                    Some(worker_message::Kind::Telemetry(message)) => {
                        linked.up(Up::Telemetry(worker, unpack(&message.telemetry).map_err(ApiError::from)?));
                    }
                    Some(worker_message::Kind::Log(data)) => self.sessions.on_log(data),
                    Some(worker_message::Kind::Register(_)) => return Err(Status::invalid_argument("registered already")),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Who opens the session, or none when it was refused.
    async fn admit(
        &self,
        name: &str,
        inbound: &mut Streaming<WorkerMessage>,
        send: &mpsc::UnboundedSender<Result<MemberMessage, Status>>,
    ) -> Result<Option<(WorkerId, Incarnation, Vec<Token>)>, Status> {
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
        // A member that knows no leader sends the worker on to one that may.
        wait_known(&mut self.forward.leadership()).await?;
        if let Some(worker) = self.known(&spec, &incarnation) {
            return Ok(Some((worker, incarnation, held)));
        }
        match self.register(spec, &incarnation, &held).await {
            Ok(worker) => Ok(Some((worker, incarnation, held))),
            Err(ApiError::Rejected(rejection)) => {
                let refused = Refused { reason: rejection.to_string() };
                let _ = send.send(Ok(MemberMessage { kind: Some(member_message::Kind::Refused(refused)) }));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The worker, if the state here says of it exactly what it says of itself. The state may be old: the leader compares again when
    /// the session opens, and when a heartbeat of it is acknowledged, and ends a session of another incarnation or of a lost worker.
    fn known(&self, spec: &WorkerSpec, incarnation: &Incarnation) -> Option<WorkerId> {
        self.forward.read(|state| {
            let worker = state.worker_named(&spec.name)?;
            let same = worker.incarnation == *incarnation && worker.spec == *spec;
            (same && worker.state != WorkerState::Lost).then_some(worker.id)
        })
    }

    async fn register(
        &self,
        spec: WorkerSpec,
        incarnation: &Incarnation,
        held: &[Token],
    ) -> Result<WorkerId, ApiError> {
        let command =
            Command::Register { spec: Box::new(spec), incarnation: incarnation.clone(), held: held.to_vec() };
        match self.registrar.register(command).await? {
            Reply::Registered { worker } => Ok(worker),
            _ => Err(ApiError::Stopped("a Register was answered with something else".to_owned())),
        }
    }
}

fn unheard() -> Status {
    Status::unavailable("a drill: this worker is not heard for a while")
}

/// Waits until some member leads, as far as this one can tell.
async fn wait_known(leadership: &mut tokio::sync::watch::Receiver<Leadership>) -> Result<(), Status> {
    let known = leadership.wait_for(|known| known.leader.is_some());
    match tokio::time::timeout(LEADER_WITHIN, known).await {
        Ok(Ok(_)) => Ok(()),
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
