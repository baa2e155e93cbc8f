//! The adapter of `muster.member.v1`: what members ask each other beside Raft's own calls.

use super::drill::Drills;
use super::error::ApiError;
use super::forward::Forward;
use super::signals::{self, WAIT_MAX};
use crate::leader::LeaderHandle;
use crate::raft::{ProposeError, Role};
use crate::relay;
use crate::security::Gate;
use crate::sessions::{LogPart, Sessions};
use crate::standing::Standing;
use muster_core::command::Command;
use muster_core::model::ids::WorkerId;
use muster_proto::channel::{Bearer, MESSAGE_BYTES_MAX, bearer_of};
use muster_proto::convert::{pack, unpack};
use muster_proto::member::member_api_server::{MemberApi, MemberApiServer};
use muster_proto::member::{
    ChangeMembersReply, ChangeMembersRequest, CommandReplies, Commands, DrillDone, DrillOrder,
    JoinMemberReply, JoinMemberRequest, ReadIndexReply, ReadIndexRequest, RelayDown, RelayUp, RemovedNotice,
    RemovedReply, ReportReply, ReportRequest, SignalsReply, SignalsRequest, StandingReply, StandingRequest,
    TelemetryReply, TelemetryRequest, WorkerLogChunk, WorkerLogRequest,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// How long a joining member waits for its id to be in the membership.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// Workers whose measurements go into one message: some kilobytes each.
const MEASURED_MAX: usize = 256;

/// Serves members.
#[derive(Clone)]
pub struct Members {
    pub forward: Forward,
    pub sessions: Sessions,
    pub leader: LeaderHandle,
    pub gate: Gate,
    pub cluster_id: String,
    pub store_url: String,
    /// One join at a time, so that two do not take the last place.
    pub joining: Arc<Mutex<()>>,
    pub standing: Standing,
    pub drills: Drills,
}

impl Members {
    /// Ready to be added to a server; checks tokens itself, as its calls differ.
    #[must_use]
    pub fn server(self) -> MemberApiServer<Self> {
        MemberApiServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl MemberApi for Members {
    async fn join_member(
        &self,
        call: Request<JoinMemberRequest>,
    ) -> Result<Response<JoinMemberReply>, Status> {
        self.gate.join(&call)?;
        let status = self.forward.node().status().borrow().clone();
        if status.role != Role::Leader {
            let Some((_, address)) = status.leader else {
                return Err(ApiError::NoLeader("no leader is known".to_owned()).into());
            };
            let bearer = Bearer::new(bearer_of(&call).unwrap_or_default());
            let mut peer = self
                .forward
                .peers()
                .with(&address, bearer)
                .map_err(|error| Status::unavailable(error.to_string()))?;
            return peer.join_member(call.into_inner()).await;
        }
        let asked = call.into_inner();
        let replace = (asked.replace != 0).then_some(asked.replace);
        // Who gives no id of the request can't ask again; the next try is another member.
        let id =
            if asked.request.is_empty() { format!("{:032x}", rand::random::<u128>()) } else { asked.request };
        let member = {
            let _one = self.joining.lock().await;
            let admitted = tokio::time::timeout(JOIN_WITHIN, self.forward.admit(id, asked.address, replace));
            admitted.await.map_err(|_| ApiError::NoLeader("the membership did not change".to_owned()))??
        };
        let members =
            self.forward.node().status().borrow().members.iter().map(|m| m.address.clone()).collect();
        Ok(Response::new(JoinMemberReply {
            member,
            cluster_id: self.cluster_id.clone(),
            cluster_secret: self.gate.secret().to_hex(),
            join_secret: String::new(),
            members,
            store_url: self.store_url.clone(),
            user_token: String::new(),
        }))
    }

    async fn propose(&self, call: Request<Commands>) -> Result<Response<CommandReplies>, Status> {
        self.gate.member(&call)?;
        let commands: Vec<Command> = unpack(&call.into_inner().commands).map_err(ApiError::from)?;
        self.forward.check_room(&commands)?;
        match self.forward.propose_here(commands).await {
            Ok(replies) => {
                let applied = *self.forward.node().applied().borrow();
                Ok(Response::new(CommandReplies { replies: pack(&replies), applied }))
            }
            Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Unknown { .. })) => {
                Err(Status::unavailable(error.to_string()))
            }
            Err(error) => Err(ApiError::from(error).into()),
        }
    }

    async fn read_index(&self, call: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        self.gate.member(&call)?;
        let index = self.forward.node().confirm_leadership().await.map_err(ApiError::from)?;
        Ok(Response::new(ReadIndexReply { index }))
    }

    async fn standing(&self, call: Request<StandingRequest>) -> Result<Response<StandingReply>, Status> {
        self.gate.member(&call)?;
        let id = call.into_inner().member;
        let status = self.forward.node().status().borrow().clone();
        let leads = status.role == Role::Leader;
        let applied = *self.forward.node().applied().borrow();
        Ok(Response::new(StandingReply {
            member: self.forward.member(),
            applied,
            leads,
            removed: leads && id != 0 && self.forward.is_removed(id).await,
            members: status.members.into_iter().map(|member| member.address).collect(),
        }))
    }

    async fn removed(&self, call: Request<RemovedNotice>) -> Result<Response<RemovedReply>, Status> {
        self.gate.member(&call)?;
        let id = call.into_inner().member;
        if id != self.forward.member() {
            // Another member lives at that address by now.
            return Ok(Response::new(RemovedReply {}));
        }
        self.standing.leave().map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(RemovedReply {}))
    }

    async fn change_members(
        &self,
        call: Request<ChangeMembersRequest>,
    ) -> Result<Response<ChangeMembersReply>, Status> {
        self.gate.member(&call)?;
        let change =
            call.into_inner().change.ok_or_else(|| Status::invalid_argument("no change is asked for"))?;
        self.forward
            .change_here(&change)
            .await
            .map(Response::new)
            .map_err(|error| ApiError::from(error).into())
    }

    async fn drill(&self, call: Request<DrillOrder>) -> Result<Response<DrillDone>, Status> {
        self.gate.member(&call)?;
        self.drills.obey(call.into_inner())?;
        Ok(Response::new(DrillDone {}))
    }

    async fn report(&self, call: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        self.gate.member(&call)?;
        let ReportRequest { member, disk_full } = call.into_inner();
        self.forward.room().told(member, disk_full);
        Ok(Response::new(ReportReply {}))
    }

    type TelemetryStream = tokio_stream::Iter<std::vec::IntoIter<Result<TelemetryReply, Status>>>;

    async fn telemetry(
        &self,
        call: Request<TelemetryRequest>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        self.gate.member(&call)?;
        let fresh = self.leader.telemetries().fresh(Instant::now());
        let parts = fresh.chunks(MEASURED_MAX).map(|part| Ok(TelemetryReply { telemetry: pack(&part) }));
        Ok(Response::new(tokio_stream::iter(parts.collect::<Vec<_>>())))
    }

    async fn signals(&self, call: Request<SignalsRequest>) -> Result<Response<SignalsReply>, Status> {
        self.gate.member(&call)?;
        let SignalsRequest { term, version, wait_ms } = call.into_inner();
        let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms).min(WAIT_MAX);
        let doc = signals::own(&self.forward, self.leader.signals(), term.zip(version), until).await?;
        let json = serde_json::to_string(&*doc).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(SignalsReply { json }))
    }

    type RelayStream = UnboundedReceiverStream<Result<RelayDown, Status>>;

    /// One call a follower: it carries all of its sessions, and its end is theirs here; the follower takes them to the next leader.
    async fn relay(&self, call: Request<Streaming<RelayUp>>) -> Result<Response<Self::RelayStream>, Status> {
        self.gate.member(&call)?;
        let ups = call.into_inner();
        let (send, receive) = mpsc::unbounded_channel();
        let (leader, leadership) = (self.leader.clone(), self.forward.leadership());
        tokio::spawn(async move {
            if let Err(status) = relay::serve(&leader, leadership, ups, &send).await {
                let _ = send.send(Err(status));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receive)))
    }

    type WorkerLogStream = ReceiverStream<Result<WorkerLogChunk, Status>>;

    async fn worker_log(
        &self,
        call: Request<WorkerLogRequest>,
    ) -> Result<Response<Self::WorkerLogStream>, Status> {
        self.gate.member(&call)?;
        let asked = call.into_inner();
        let reader = self.sessions.read_log(
            WorkerId(asked.worker),
            asked.token,
            asked.stderr,
            asked.offset,
            asked.follow,
        );
        let Some(mut reader) = reader else {
            return Err(Status::not_found("the worker is not connected here"));
        };
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let part = tokio::select! {
                    part = reader.next() => part,
                    () = send.closed() => return,
                };
                let (chunk, is_last) = match part {
                    Some(LogPart::Bytes { offset, bytes }) => {
                        (WorkerLogChunk { offset, bytes, ..WorkerLogChunk::default() }, false)
                    }
                    Some(LogPart::End) => (WorkerLogChunk { end: true, ..WorkerLogChunk::default() }, true),
                    Some(LogPart::Failed(error)) => {
                        (WorkerLogChunk { error, ..WorkerLogChunk::default() }, true)
                    }
                    None => return,
                };
                if send.send(Ok(chunk)).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}
