//! openraft's network over gRPC, the calling side: one lazy channel per peer and purpose, so that neither a snapshot nor a large
//! append holds up a heartbeat.
//!
//! Append is one bidirectional stream with many requests in flight. Every message names the cluster and the member it is meant for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use muster_proto::channel::{Bearer, MESSAGE_BYTES_MAX, Tls, dial_lazy};
use muster_proto::raft::raft_client::RaftClient;
use muster_proto::raft::snapshot_part::Part as WirePart;
use muster_proto::raft::{ConfirmRequest, RaftMessage, ReadIndexRequest, SnapshotPart};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::machine::Answer;
use super::snapshot::{self, Part};
use super::types::{SnapshotMeta, Tokio, Types, Vote};
use crate::storage::{Checkpoint, Disk, RocksDisk};

/// An append stream on which requests wait and nothing comes back for this long is dropped. Far above a slow fsync; the failure
/// detector is the heartbeat, not this.
const APPEND_STALL: Duration = Duration::from_secs(2);

/// A call for a read (the leader's index, a follower's term) ends after this long.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

type C<A> = Types<A, Tokio>;
type Client = RaftClient<InterceptedService<Channel, Bearer>>;

/// Who calls.
#[derive(Clone)]
pub struct Caller {
    /// The cluster's id.
    pub cluster: String,
    /// The calling member.
    pub member: u64,
    /// The cluster's secret, put on every call.
    pub bearer: Bearer,
    /// Certificates, beyond loopback.
    pub tls: Option<Tls>,
    /// Connections for reads, by address: apart from those of the log, so that no large append is before them.
    reads: Arc<Mutex<BTreeMap<String, Client>>>,
}

impl Caller {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(cluster: String, member: u64, bearer: Bearer, tls: Option<Tls>) -> Self {
        Self { cluster, member, bearer, tls, reads: Arc::default() }
    }

    fn client(&self, address: &str) -> Result<Client, String> {
        let channel = dial_lazy(address, self.tls.as_ref()).map_err(|error| error.to_string())?;
        Ok(RaftClient::with_interceptor(channel, self.bearer.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn message<T: Serialize>(&self, to: u64, value: &T) -> Result<RaftMessage, postcard::Error> {
        let payload = postcard::to_stdvec(value)?.into();
        Ok(RaftMessage { cluster_id: self.cluster.clone(), member: self.member, payload, to })
    }

    /// The kept connection to `address`; it dials again by itself when it broke.
    fn reader(&self, address: &str) -> Result<Client, Status> {
        let mut kept = self.reads.lock();
        if let Some(client) = kept.get(address) {
            return Ok(client.clone());
        }
        let client = self.client(address).map_err(Status::unavailable)?;
        kept.insert(address.to_owned(), client.clone());
        Ok(client)
    }

    /// The read index of the leader at `address`.
    ///
    /// # Errors
    /// The peer's refusal, an absent peer.
    pub async fn read_index(&self, address: &str) -> Result<u64, Status> {
        let mut client = self.reader(address)?;
        let call = client.read_index(ReadIndexRequest { cluster_id: self.cluster.clone() });
        match tokio::time::timeout(READ_TIMEOUT, call).await {
            Ok(reply) => Ok(reply?.into_inner().index),
            Err(_) => Err(Status::deadline_exceeded("the leader did not answer in time")),
        }
    }

    /// The term that member `to` at `address` is in now.
    ///
    /// # Errors
    /// The peer's refusal, an absent peer.
    pub async fn term_of(&self, to: u64, address: &str) -> Result<u64, Status> {
        let mut client = self.reader(address)?;
        let call = client.confirm(ConfirmRequest { cluster_id: self.cluster.clone(), to });
        match tokio::time::timeout(READ_TIMEOUT, call).await {
            Ok(reply) => Ok(reply?.into_inner().term),
            Err(_) => Err(Status::deadline_exceeded("the member did not answer in time")),
        }
    }
}

/// Makes a [`Peer`] for each member.
pub struct Network(pub Arc<Caller>);

impl<A: Answer> RaftNetworkFactory<C<A>> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        let client = self.0.client(&node.addr);
        if let Err(reason) = &client {
            tracing::error!(member = target, address = node.addr, reason, "cannot dial a member");
        }
        Peer { target, caller: self.0.clone(), client }
    }
}

/// One member, as seen from another.
pub struct Peer {
    target: u64,
    caller: Arc<Caller>,
    client: Result<Client, String>,
}

fn failed<A: Answer>(status: &Status) -> RPCError<C<A>> {
    match status.code() {
        // Openraft backs off before it tries an unreachable member again.
        Code::Unavailable | Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition => {
            RPCError::Unreachable(Unreachable::from_string(status))
        }
        _ => RPCError::Network(NetworkError::from_string(status)),
    }
}

fn garbled<A: Answer>(error: &postcard::Error) -> RPCError<C<A>> {
    RPCError::Network(NetworkError::new(error))
}

impl Peer {
    fn client<A: Answer>(&self) -> Result<Client, RPCError<C<A>>> {
        self.client.clone().map_err(|reason| RPCError::Unreachable(Unreachable::from_string(reason)))
    }

    fn timeout<A: Answer>(&self, action: RPCTypes, timeout: Duration) -> RPCError<C<A>> {
        RPCError::Timeout(Timeout { action, id: self.caller.member, target: self.target, timeout })
    }

    async fn call<A: Answer, Q: Serialize, P: DeserializeOwned, F>(
        &self,
        request: &Q,
        action: RPCTypes,
        option: RPCOption,
        call: impl FnOnce(Client, RaftMessage) -> F,
    ) -> Result<P, RPCError<C<A>>>
    where
        F: Future<Output = Result<tonic::Response<RaftMessage>, Status>>,
    {
        let message = self.caller.message(self.target, request).map_err(|error| garbled(&error))?;
        let limit = option.hard_ttl();
        match tokio::time::timeout(limit, call(self.client()?, message)).await {
            Ok(Ok(reply)) => {
                postcard::from_bytes(&reply.into_inner().payload).map_err(|error| garbled(&error))
            }
            Ok(Err(status)) => Err(failed(&status)),
            Err(_) => Err(self.timeout(action, limit)),
        }
    }
}

impl<A: Answer> RaftNetworkV2<C<A>> for Peer {
    type SnapshotData = Checkpoint;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C<A>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C<A>>, RPCError<C<A>>> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let mut replies =
            RaftNetworkV2::<C<A>>::stream_append(self, Box::pin(stream::iter([request])), option).await?;
        match replies.next().await {
            Some(Ok(Ok(matched))) if matched == last => Ok(AppendEntriesResponse::Success),
            Some(Ok(Ok(matched))) => Ok(AppendEntriesResponse::PartialSuccess(matched)),
            Some(Ok(Err(openraft::raft::StreamAppendError::Conflict(_)))) => {
                Ok(AppendEntriesResponse::Conflict)
            }
            Some(Ok(Err(openraft::raft::StreamAppendError::HigherVote(vote)))) => {
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            Some(Err(error)) => Err(error),
            None => {
                Err(RPCError::Network(NetworkError::from_string("the append stream ended without a reply")))
            }
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<C<A>>, RPCError<C<A>>>>, RPCError<C<A>>>>
    where
        S: Stream<Item = AppendEntriesRequest<C<A>>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let mut client = self.client::<A>()?;
            let sent = Arc::new(AtomicU64::new(0));
            let counted = sent.clone();
            let (caller, target) = (self.caller.clone(), self.target);
            // A request that cannot be encoded ends the stream; the leader hears that and starts another.
            let requests = input
                .map(move |request| {
                    caller
                        .message(target, &request)
                        .inspect_err(|error| tracing::error!(%error, "cannot encode an append"))
                        .ok()
                })
                .take_while(|message| std::future::ready(message.is_some()))
                .filter_map(std::future::ready)
                .inspect(move |_| {
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            let limit = option.hard_ttl().max(APPEND_STALL);
            let replies = match tokio::time::timeout(limit, client.append(requests)).await {
                Ok(Ok(replies)) => replies.into_inner(),
                Ok(Err(status)) => return Err(failed(&status)),
                Err(_) => return Err(self.timeout(RPCTypes::AppendEntries, limit)),
            };
            let peer: &'s Peer = self;
            let replies = stream::unfold(Some((replies, 0u64)), move |state| {
                let sent = sent.clone();
                async move {
                    let (mut replies, mut received) = state?;
                    loop {
                        let before = sent.load(Ordering::Relaxed);
                        match tokio::time::timeout(APPEND_STALL, replies.message()).await {
                            Ok(Ok(Some(message))) => {
                                received += 1;
                                let result =
                                    postcard::from_bytes(&message.payload).map_err(|error| garbled(&error));
                                let next = result.is_ok().then_some((replies, received));
                                return Some((result, next));
                            }
                            // A member that stopped Raft in a living process ends the stream without an error. Without one
                            // openraft would think that what it sent was taken, and keep the log for it.
                            Ok(Ok(None)) if sent.load(Ordering::Relaxed) > received => {
                                let reason = "the append stream ended with requests unanswered";
                                let error = RPCError::Unreachable(Unreachable::from_string(reason));
                                return Some((Err(error), None));
                            }
                            Ok(Ok(None)) => return None,
                            Ok(Err(status)) => return Some((Err(failed(&status)), None)),
                            // Idle is fine; requests that were on their way before this wait and have no reply are not.
                            Err(_) if before > received => {
                                return Some((
                                    Err(peer.timeout(RPCTypes::AppendEntries, APPEND_STALL)),
                                    None,
                                ));
                            }
                            Err(_) => {}
                        }
                    }
                }
            });
            let replies: BoxStream<'s, _> = Box::pin(replies);
            Ok(replies)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<C<A>>,
        option: RPCOption,
    ) -> Result<VoteResponse<C<A>>, RPCError<C<A>>> {
        self.call(&request, RPCTypes::Vote, option, async |mut client: Client, message| {
            client.vote(message).await
        })
        .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<C<A>>,
        option: RPCOption,
    ) -> Result<VoteResponse<C<A>>, RPCError<C<A>>> {
        self.call(&request, RPCTypes::Vote, option, async |mut client: Client, message| {
            client.pre_vote(message).await
        })
        .await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C<A>>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<C<A>>, RPCError<C<A>>> {
        self.call(&request, RPCTypes::TransferLeader, option, async |mut client: Client, message| {
            client.transfer_leader(message).await
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<C<A>, Checkpoint>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C<A>>, StreamingError<C<A>>> {
        let mut client = self.client::<A>().map_err(StreamingError::from)?;
        let head: (Vote, SnapshotMeta) = (vote, snapshot.meta.clone());
        let head =
            postcard::to_stdvec(&head).map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let (sender, receiver) = mpsc::channel(4);
        let (cluster, to) = (self.caller.cluster.clone(), self.target);
        let files = snapshot.snapshot;
        let sent = files.clone();
        // Each part must be taken within the limit: a peer that stands still is given up.
        let limit = option.hard_ttl();
        let progress = Arc::new(AtomicU64::new(0));
        let counted = progress.clone();
        tokio::task::spawn_blocking(move || {
            let send = |part| {
                sender
                    .blocking_send(SnapshotPart { cluster_id: cluster.clone(), part: Some(part), to })
                    .is_ok()
            };
            let mut read = Ok(());
            if send(WirePart::Head(head.into())) {
                read = snapshot::read(&files, |part| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    send(match part {
                        Part::File(file) => WirePart::File(file),
                        Part::End(end) => WirePart::End(end),
                    })
                });
            }
            if let Err(error) = read {
                tracing::error!(%error, "cannot read a snapshot");
            }
        });
        let mut cancel = std::pin::pin!(cancel);
        let mut call = std::pin::pin!(client.snapshot(ReceiverStream::new(receiver)));
        let mut seen = 0;
        let reply = loop {
            tokio::select! {
                closed = &mut cancel => return Err(StreamingError::Closed(closed)),
                reply = &mut call => break reply,
                () = tokio::time::sleep(limit) => {
                    let now = progress.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(self.timeout::<A>(RPCTypes::InstallSnapshot, limit).into());
                    }
                    seen = now;
                }
            }
        };
        match reply {
            Ok(reply) => postcard::from_bytes::<Vote>(&reply.into_inner().payload)
                .map(SnapshotResponse::new)
                .map_err(|error| StreamingError::Network(NetworkError::new(&error))),
            Err(status) => {
                if status.code() == Code::DataLoss {
                    tracing::error!(
                        member = self.target,
                        reason = status.message(),
                        "a snapshot was refused"
                    );
                    look_for_damage(sent);
                }
                Err(failed::<A>(&status).into())
            }
        }
    }
}

/// The other side found damage: whether it is in the copy that was sent, and so in this member's own state, is told in the log.
fn look_for_damage(copy: Checkpoint) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = RocksDisk::scan_snapshot(&copy, &[], &mut |_, _| {}) {
            tracing::error!(%error, "this member's own state is damaged: stop it, and start it again to have it checked");
        }
    });
}
