//! The adapter of `muster.member.v1`: what members ask each other beside Raft's own calls.

use super::error::ApiError;
use super::forward::Forward;
use crate::leader::LeaderHandle;
use crate::raft::{Node, ProposeError, Role};
use crate::relay;
use crate::security::Gate;
use crate::sessions::{LogPart, Sessions};
use muster_core::command::Command;
use muster_core::model::ids::WorkerId;
use muster_proto::channel::{Bearer, MESSAGE_BYTES_MAX, bearer_of};
use muster_proto::convert::{pack, unpack};
use muster_proto::member::member_api_server::{MemberApi, MemberApiServer};
use muster_proto::member::{
    CommandReplies, Commands, JoinMemberReply, JoinMemberRequest, ReadIndexReply, ReadIndexRequest,
    RelayDown, RelayUp, WorkerLogChunk, WorkerLogRequest,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// How long a joining member waits for its id to be in the membership.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// Serves members.
#[derive(Clone)]
pub struct Members {
    pub forward: Forward,
    pub sessions: Sessions,
    pub leader: LeaderHandle,
    pub gate: Gate,
    pub cluster_id: String,
    pub store_url: String,
    /// One join at a time, so that no id is given twice.
    pub joining: Arc<Mutex<()>>,
}

impl Members {
    /// Ready to be added to a server; checks tokens itself, as its calls differ.
    #[must_use]
    pub fn server(self) -> MemberApiServer<Self> {
        MemberApiServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Gives the next id and begins to replicate to it; it votes once it has caught up.
    async fn admit(&self, address: String) -> Result<u64, Status> {
        let _one = self.joining.lock().await;
        let node: &Node<_> = self.forward.node();
        let mut status = node.status();
        // Members leave the membership only by a command that this version has not: the greatest id is the last one given.
        let id = status.borrow().members.iter().map(|member| member.id).max().unwrap_or(0) + 1;
        let (adding, to) = (node.clone(), address.clone());
        tokio::spawn(async move {
            if let Err(error) = adding.add_learner(id, to).await {
                tracing::debug!(member = id, %error, "waiting for it ended");
            }
        });
        let known = tokio::time::timeout(
            JOIN_WITHIN,
            status.wait_for(|status| status.members.iter().any(|m| m.id == id)),
        );
        let is_known = matches!(known.await, Ok(Ok(_)));
        if !is_known {
            return Err(ApiError::NoLeader("the membership did not change".to_owned()).into());
        }
        // Once more through the log: what the id rests on is committed.
        self.forward.propose_here(Vec::new()).await.map_err(|error| Status::from(ApiError::from(error)))?;
        tracing::info!(member = id, %address, "joins");
        Ok(id)
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
        let member = self.admit(call.into_inner().address).await?;
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
