//! The gRPC service between members, the answering side: checks the secret, the cluster and whom it is for, decodes, hands to openraft.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use muster_proto::channel::{MESSAGE_BYTES_MAX, bearer_of};
use muster_proto::raft::raft_server::{Raft as RaftApi, RaftServer};
use muster_proto::raft::snapshot_part::Part as WirePart;
use muster_proto::raft::{
    ConfirmReply, ConfirmRequest, RaftMessage, ReadIndexReply, ReadIndexRequest, SnapshotPart,
};
use openraft::raft::AppendEntriesRequest;
use openraft::{Raft, Snapshot};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

use super::machine::Machine;
use super::node::{Node, ReadError};
use super::snapshot::{ReceiveError, Receiver};
use super::state_machine::{StateMachine, check_copy};
use super::types::{SnapshotMeta, Tokio, Types, Vote};
use crate::storage::{Checkpoint, RocksDisk};

type C<M> = Types<<M as Machine>::Replies, Tokio>;

/// When a leader last sent something.
#[derive(Debug)]
pub struct Heard(Mutex<Instant>);

impl Default for Heard {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heard {
    fn now(&self) {
        *self.0.lock() = Instant::now();
    }

    /// For how long nothing came.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

/// Answers other members.
pub struct Service<M: Machine> {
    node: Node<M>,
    raft: Raft<C<M>, StateMachine<M, Tokio, RocksDisk>>,
    disk: Arc<RocksDisk>,
    cluster: String,
    secret: blake3::Hash,
    member: u64,
    heard: Arc<Heard>,
}

/// The service, ready to be added to a server.
pub type Server<M> = RaftServer<Service<M>>;

impl<M: Machine> Service<M> {
    pub(super) fn server(
        node: Node<M>,
        raft: Raft<C<M>, StateMachine<M, Tokio, RocksDisk>>,
        disk: Arc<RocksDisk>,
        cluster: String,
        secret: &str,
        member: u64,
        heard: Arc<Heard>,
    ) -> Server<M> {
        let secret = blake3::hash(secret.as_bytes());
        let service = Self { node, raft, disk, cluster, secret, member, heard };
        RaftServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        // Hashes compare in constant time.
        match bearer_of(request) {
            Some(token) if blake3::hash(token.as_bytes()) == self.secret => Ok(()),
            _ => Err(Status::unauthenticated("members show the cluster's secret")),
        }
    }

    fn decode<T: DeserializeOwned>(&self, message: &RaftMessage) -> Result<T, Status> {
        same_cluster(&self.cluster, &message.cluster_id)?;
        meant_for(self.member, message.to)?;
        postcard::from_bytes(&message.payload)
            .map_err(|error| Status::invalid_argument(format!("a message does not decode: {error}")))
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Response<RaftMessage>, Status> {
        message(&self.cluster, self.member, value).map(Response::new)
    }
}

fn same_cluster(mine: &str, theirs: &str) -> Result<(), Status> {
    if mine == theirs {
        return Ok(());
    }
    Err(Status::failed_precondition(format!("this member belongs to cluster {mine}, the caller to {theirs}")))
}

/// An address may have been another member's: a machine whose directory was lost joins as a new member where the old one was. What is
/// meant for the old one must not be answered by the new: its vote would count twice, and for entries that it does not hold.
fn meant_for(mine: u64, to: u64) -> Result<(), Status> {
    if mine == to {
        return Ok(());
    }
    Err(Status::failed_precondition(format!("this is member {mine}; the message is for member {to}")))
}

fn message<T: Serialize>(cluster: &str, member: u64, value: &T) -> Result<RaftMessage, Status> {
    let payload = postcard::to_stdvec(value).map_err(|error| Status::internal(error.to_string()))?.into();
    Ok(RaftMessage { cluster_id: cluster.to_owned(), member, payload, to: 0 })
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this member stopped: {error}"))
}

#[tonic::async_trait]
impl<M: Machine> RaftApi for Service<M> {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<RaftMessage, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<RaftMessage>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.admit(&request)?;
        let (cluster, member, heard) = (self.cluster.clone(), self.member, self.heard.clone());
        let requests = request.into_inner().map(move |message| {
            let message = message?;
            same_cluster(&cluster, &message.cluster_id)?;
            meant_for(member, message.to)?;
            heard.now();
            postcard::from_bytes::<AppendEntriesRequest<C<M>>>(&message.payload)
                .map_err(|error| Status::invalid_argument(format!("an append does not decode: {error}")))
        });
        let requests = requests
            .map(|request: Result<_, Status>| {
                request.inspect_err(|status| tracing::debug!(%status, "an append stream ends")).ok()
            })
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready);
        let cluster = self.cluster.clone();
        let replies = self.raft.stream_append(requests).map(move |reply| match reply {
            Ok(result) => message(&cluster, member, &result),
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.admit(&request)?;
        let asked = self.decode(request.get_ref())?;
        self.encode(&self.raft.vote(asked).await.map_err(stopped)?)
    }

    async fn pre_vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.admit(&request)?;
        let asked = self.decode(request.get_ref())?;
        self.encode(&self.raft.pre_vote(asked).await.map_err(stopped)?)
    }

    async fn transfer_leader(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        self.admit(&request)?;
        let asked = self.decode(request.get_ref())?;
        self.encode(&self.raft.handle_transfer_leader(asked).await.map_err(stopped)?)
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<RaftMessage>, Status> {
        self.admit(&request)?;
        let (head, snapshot) =
            receive(&self.disk, &self.cluster, self.member, &self.heard, request.into_inner()).await?;
        let (vote, meta): (Vote, SnapshotMeta) = postcard::from_bytes(&head).map_err(|error| {
            Status::invalid_argument(format!("a snapshot's head does not decode: {error}"))
        })?;
        let copy = snapshot.clone();
        tokio::task::spawn_blocking(move || check_copy::<M, RocksDisk>(&copy))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| {
                tracing::error!(%error, snapshot = %meta, "a snapshot that arrived whole is damaged; it is not installed");
                Status::data_loss(format!("the snapshot is damaged: {error}"))
            })?;
        tracing::info!(snapshot = %meta, "received a snapshot");
        let reply =
            self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await.map_err(stopped)?;
        self.encode(&reply.vote)
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexReply>, Status> {
        self.admit(&request)?;
        same_cluster(&self.cluster, &request.get_ref().cluster_id)?;
        match self.node.confirm_leadership().await {
            Ok(index) => Ok(Response::new(ReadIndexReply { index })),
            Err(error @ ReadError::NotLeader { .. }) => Err(Status::failed_precondition(error.to_string())),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmReply>, Status> {
        self.admit(&request)?;
        let asked = request.get_ref();
        same_cluster(&self.cluster, &asked.cluster_id)?;
        meant_for(self.member, asked.to)?;
        Ok(Response::new(ConfirmReply { term: self.node.promised_term() }))
    }
}

async fn receive(
    disk: &RocksDisk,
    cluster: &str,
    member: u64,
    heard: &Heard,
    mut parts: Streaming<SnapshotPart>,
) -> Result<(bytes::Bytes, Checkpoint), Status> {
    let refused = |error: ReceiveError| Status::data_loss(error.to_string());
    let mut head = None;
    let mut receiver = Receiver::new(disk.staging()?);
    while let Some(part) = parts.message().await? {
        same_cluster(cluster, &part.cluster_id)?;
        meant_for(member, part.to)?;
        match part.part {
            Some(WirePart::Head(bytes)) => head = Some(bytes),
            Some(WirePart::File(file)) => {
                heard.now();
                receiver = tokio::task::spawn_blocking(move || receiver.take(file).map(|()| receiver))
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?
                    .map_err(refused)?;
            }
            Some(WirePart::End(end)) => {
                let snapshot = tokio::task::spawn_blocking(move || receiver.finish(end))
                    .await
                    .map_err(|error| Status::internal(error.to_string()))?
                    .map_err(refused)?;
                let head = head.ok_or_else(|| Status::invalid_argument("a snapshot came without a head"))?;
                return Ok((head, snapshot));
            }
            None => return Err(Status::invalid_argument("an empty part")),
        }
    }
    Err(refused(ReceiveError::Unfinished))
}
