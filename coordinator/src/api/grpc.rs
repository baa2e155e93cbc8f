//! The adapter of `muster.api.v1`: wire types in, use cases, wire types out.

use super::error::ApiError;
use super::logs::{LogItem, LogQuery};
use super::service::{Service, Verb, request};
use super::submit::Submission;
use super::views::JobFilter;
use crate::security::{Caller, Gate};
use futures::{Stream, StreamExt};
use muster_core::model::blob::BlobId;
use muster_core::model::ids::JobId;
use muster_core::spec::{Format, limits};
use muster_proto::api::api_server::{Api, ApiServer};
use muster_proto::api::{
    BackupChunk, BackupRequest, Blob, BlobIds, CostRequest, DeviceRequest, Document, DrainRequest,
    DrillReply, DrillRequest, GetRequest, ListJobsRequest, ListRequest, LogChunk, LogsRequest, Mutation,
    MutationReply, NoticeRequest, PrepareMemberReply, PrepareMemberRequest, RemoveMemberReply,
    RemoveMemberRequest, SetBudgetRequest, SignalsRequest, SubmitPart, SubmitReply, TransferLeaderReply,
    TransferLeaderRequest, WatchEvent, WatchRequest, WorkerRequest,
};
use muster_proto::channel::MESSAGE_BYTES_MAX;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

/// Most blob ids of one question.
const BLOB_IDS_MAX: usize = 200_000;

/// The service behind its gate.
pub struct Grpc(Service);

impl Grpc {
    /// Ready to be added to a server.
    #[must_use]
    #[allow(clippy::type_complexity)] // the interceptor has no name
    pub fn server(
        service: Service,
        gate: Gate,
    ) -> InterceptedService<
        ApiServer<Self>,
        impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + use<>,
    > {
        let server = ApiServer::new(Self(service))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(64 << 20);
        InterceptedService::new(server, move |request| gate.user(request))
    }

    async fn mutate(&self, verb: Verb, call: Request<Mutation>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let mutation = call.into_inner();
        let request = request(mutation.request_id, named(mutation.user, user))?;
        let indices = self.0.mutate(verb, request, &mutation.target).await?;
        Ok(Response::new(MutationReply { indices }))
    }
}

fn user_of<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map_or_else(String::new, |caller| caller.0.clone())
}

/// The name that the command line gives (who is logged in there), else the token's.
fn named(said: String, token: String) -> String {
    if said.is_empty() { token } else { said }
}

fn document<T: serde::Serialize>(doc: &T) -> Result<Response<Document>, Status> {
    let json = serde_json::to_string(doc).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(Document { json }))
}

fn blob_id(bytes: &[u8]) -> Result<BlobId, ApiError> {
    bytes.try_into().map(BlobId).map_err(|_| ApiError::BadRequest("a blob id has 32 bytes".to_owned()))
}

#[tonic::async_trait]
impl Api for Grpc {
    async fn submit(&self, call: Request<Streaming<SubmitPart>>) -> Result<Response<SubmitReply>, Status> {
        let user = user_of(&call);
        let mut parts = call.into_inner();
        let first =
            parts.message().await?.ok_or_else(|| ApiError::BadRequest("an empty submission".to_owned()))?;
        let mut submission = Submission {
            request: Some(request(first.request_id, named(first.user, user))?),
            params: first.params.into_iter().collect(),
            workdir: if first.workdir.is_empty() { None } else { Some(blob_id(&first.workdir)?) },
            job: first.job.to_vec(),
            format: Format::Json,
            hold: first.hold,
        };
        while let Some(part) = parts.message().await? {
            submission.job.extend_from_slice(&part.job);
            if submission.job.len() > limits::FILE_BYTES {
                return Err(ApiError::TooLarge(limits::FILE_BYTES).into());
            }
        }
        let done = self.0.submit(submission).await?;
        Ok(Response::new(SubmitReply {
            job: done.job.0,
            tasks: done.tasks,
            indices: done.indices,
            name: done.name,
        }))
    }

    async fn cancel(&self, call: Request<Mutation>) -> Result<Response<MutationReply>, Status> {
        self.mutate(Verb::Cancel, call).await
    }

    async fn hold(&self, call: Request<Mutation>) -> Result<Response<MutationReply>, Status> {
        self.mutate(Verb::Hold, call).await
    }

    async fn release(&self, call: Request<Mutation>) -> Result<Response<MutationReply>, Status> {
        self.mutate(Verb::Release, call).await
    }

    async fn rerun(&self, call: Request<Mutation>) -> Result<Response<MutationReply>, Status> {
        self.mutate(Verb::Rerun, call).await
    }

    async fn drain(&self, call: Request<DrainRequest>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let drain = call.into_inner();
        let request = request(drain.request_id, named(drain.user, user))?;
        let indices = self.0.drain(request, &drain.worker, drain.deadline_ms, drain.reason).await?;
        Ok(Response::new(MutationReply { indices }))
    }

    async fn notice(&self, call: Request<NoticeRequest>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let NoticeRequest { request_id, worker, kind, in_ms, detail, drill, user: said } = call.into_inner();
        let request = request(request_id, named(said, user))?;
        let indices = self.0.notice(request, &worker, &kind, in_ms, (detail, drill)).await?;
        Ok(Response::new(MutationReply { indices }))
    }

    async fn list_checkpoints(&self, call: Request<GetRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.list_checkpoints(&call.into_inner().id).await?)
    }

    async fn undrain(&self, call: Request<DrainRequest>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let drain = call.into_inner();
        let request = request(drain.request_id, named(drain.user, user))?;
        let indices = self.0.undrain(request, &drain.worker).await?;
        Ok(Response::new(MutationReply { indices }))
    }

    async fn remove_worker(&self, call: Request<WorkerRequest>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let asked = call.into_inner();
        let request = request(asked.request_id, named(asked.user, user))?;
        self.0.remove_worker(request, &asked.worker).await?;
        Ok(Response::new(MutationReply { indices: 0 }))
    }

    async fn list_jobs(&self, call: Request<ListJobsRequest>) -> Result<Response<Document>, Status> {
        let asked = call.into_inner();
        let filter = JobFilter {
            states: asked.states,
            queue: asked.queue,
            user: asked.user,
            labels: asked.labels,
            since_ms: asked.since_ms,
            limit: asked.limit,
            before: asked.before,
        };
        document(&self.0.list_jobs(&filter).await?)
    }

    async fn get_job(&self, call: Request<GetRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.get_job(&call.into_inner().id).await?)
    }

    async fn list_workers(&self, _: Request<ListRequest>) -> Result<Response<Document>, Status> {
        let mut doc = self.0.list_workers().await?;
        self.0.drills.mark(&mut doc.workers);
        document(&doc)
    }

    async fn get_worker(&self, call: Request<GetRequest>) -> Result<Response<Document>, Status> {
        let mut doc = self.0.get_worker(&call.into_inner().id).await?;
        self.0.drills.mark(std::slice::from_mut(&mut doc));
        document(&doc)
    }

    async fn explain(&self, call: Request<GetRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.explain(&call.into_inner().id).await?)
    }

    async fn list_devices(&self, _: Request<ListRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.list_devices().await?)
    }

    async fn get_device(&self, call: Request<GetRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.get_device(&call.into_inner().id).await?)
    }

    async fn quarantine_device(
        &self,
        call: Request<DeviceRequest>,
    ) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let asked = call.into_inner();
        let request = request(asked.request_id, named(asked.user, user))?;
        let indices = self.0.quarantine_device(request, &asked.uuid, asked.reason).await?;
        Ok(Response::new(MutationReply { indices }))
    }

    async fn return_device(&self, call: Request<DeviceRequest>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let asked = call.into_inner();
        let request = request(asked.request_id, named(asked.user, user))?;
        let indices = self.0.return_device(request, &asked.uuid, asked.reason).await?;
        Ok(Response::new(MutationReply { indices }))
    }

    async fn list_queues(&self, _: Request<ListRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.list_queues().await?)
    }

    async fn cluster_status(&self, _: Request<ListRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.cluster().await)
    }

    async fn list_pools(&self, _: Request<ListRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.list_pools().await?)
    }

    async fn get_pool(&self, call: Request<GetRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.get_pool(&call.into_inner().id).await?)
    }

    async fn get_signals(&self, call: Request<SignalsRequest>) -> Result<Response<Document>, Status> {
        let SignalsRequest { term, version, wait_ms } = call.into_inner();
        document(&*self.0.signals(term.zip(version), Duration::from_millis(wait_ms)).await?)
    }

    async fn get_cost(&self, call: Request<CostRequest>) -> Result<Response<Document>, Status> {
        let CostRequest { by, label, from, to } = call.into_inner();
        document(&self.0.cost(&by, Some(&label), Some(&from), Some(&to)).await?)
    }

    async fn list_budgets(&self, _: Request<ListRequest>) -> Result<Response<Document>, Status> {
        document(&self.0.budgets().await?)
    }

    async fn set_budget(&self, call: Request<SetBudgetRequest>) -> Result<Response<MutationReply>, Status> {
        let user = user_of(&call);
        let asked = call.into_inner();
        let request = request(asked.request_id, named(asked.user, user))?;
        self.0.set_budget(request, &asked.scope, asked.usd, &asked.on_exceed).await?;
        Ok(Response::new(MutationReply { indices: 1 }))
    }

    async fn prepare_member(
        &self,
        call: Request<PrepareMemberRequest>,
    ) -> Result<Response<PrepareMemberReply>, Status> {
        let asked = call.into_inner();
        let replace = (asked.replace != 0).then_some(asked.replace);
        Ok(Response::new(self.0.prepare_member(&asked.address, replace).await?))
    }

    async fn remove_member(
        &self,
        call: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberReply>, Status> {
        let RemoveMemberRequest { member, force } = call.into_inner();
        let done = self.0.remove_member(member, force).await?;
        Ok(Response::new(RemoveMemberReply {
            member,
            removed_now: done.changed,
            warning: done.warning,
            address: done.address,
        }))
    }

    async fn transfer_leader(
        &self,
        call: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        let done = self.0.transfer_leader(call.into_inner().to).await?;
        Ok(Response::new(TransferLeaderReply {
            from: done.from,
            to: done.to,
            changed: done.changed,
            took_ms: done.took_ms,
        }))
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupChunk, Status>> + Send>>;

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let (total, chunks) = self.0.backup().await?;
        let chunks = ReceiverStream::new(chunks).map(move |data| match data {
            Ok(data) => Ok(BackupChunk { data, total }),
            Err(error) => Err(ApiError::Backup(error).into()),
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, call: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let job = JobId(call.into_inner().job);
        let mut watcher = self.0.hub.watch(job);
        self.0.target(&job.to_string()).await?;
        let service = self.0.clone();
        let (sink, events) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut last = None;
            while let Some((summary, code)) = service.peek(job) {
                let terminal = code.is_some();
                if last.as_ref() != Some(&summary) {
                    let event = WatchEvent {
                        state: summary.state.clone(),
                        json: serde_json::to_string(&summary).unwrap_or_default(),
                        terminal,
                        exit_code: code.unwrap_or_default(),
                        text: format!(
                            "job {job} is {}: {} of {} done",
                            summary.state,
                            summary.tasks.finished(),
                            summary.tasks.total
                        ),
                    };
                    if sink.send(Ok(event)).await.is_err() {
                        return;
                    }
                    last = Some(summary);
                }
                if terminal {
                    return;
                }
                tokio::select! {
                    _ = watcher.next() => {}
                    () = sink.closed() => return,
                }
                // Many changes at once are one message.
                while watcher.try_next().is_some() {}
            }
            let _ = sink.send(Err(ApiError::NoJob(job.0).into())).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn drill(&self, call: Request<DrillRequest>) -> Result<Response<DrillReply>, Status> {
        let user = user_of(&call);
        let DrillRequest { confirmed, user: said, fault } = call.into_inner();
        Ok(Response::new(self.0.drill(confirmed, named(said, user), fault).await?))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogChunk, Status>> + Send>>;

    async fn logs(&self, call: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let asked = call.into_inner();
        let query = LogQuery {
            job: JobId(asked.job),
            task: asked.task,
            index: asked.index,
            attempt: asked.attempt,
            follow: asked.follow,
            stdout: asked.both || !asked.only_stderr,
            stderr: asked.both || asked.only_stderr,
            tail: asked.tail,
            rank: asked.rank,
        };
        let items = self.0.logs(query).await?;
        let chunks = ReceiverStream::new(items).map(|item| Ok(chunk(item?)));
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn missing_blobs(&self, call: Request<BlobIds>) -> Result<Response<BlobIds>, Status> {
        let ids = call.into_inner().ids;
        if ids.len() > BLOB_IDS_MAX {
            return Err(
                ApiError::BadRequest(format!("{} blob ids; the most is {BLOB_IDS_MAX}", ids.len())).into()
            );
        }
        let store = &self.0.store;
        let asked = futures::stream::iter(ids).map(|bytes| async move {
            let id = blob_id(&bytes)?;
            Ok::<_, ApiError>((!store.exists(id).await?).then_some(bytes))
        });
        let answers: Vec<Result<_, ApiError>> = asked.buffered(16).collect().await;
        let mut missing = Vec::new();
        for answer in answers {
            missing.extend(answer?);
        }
        Ok(Response::new(BlobIds { ids: missing }))
    }

    async fn put_blobs(&self, call: Request<Streaming<Blob>>) -> Result<Response<BlobIds>, Status> {
        let mut blobs = call.into_inner();
        let mut ids = Vec::new();
        while let Some(blob) = blobs.message().await? {
            let said = blob_id(&blob.id)?;
            if BlobId::of(&blob.bytes) != said {
                return Err(ApiError::WrongBlob(said.to_string()).into());
            }
            self.0.store.put(blob.bytes).await.map_err(ApiError::from)?;
            ids.push(blob.id);
        }
        Ok(Response::new(BlobIds { ids }))
    }
}

fn chunk(item: LogItem) -> LogChunk {
    match item {
        LogItem::Chunk { task, index, attempt, rank, stderr, offset, bytes } => LogChunk {
            task: task.to_string(),
            index,
            attempt,
            rank,
            stderr,
            offset,
            bytes,
            ..LogChunk::default()
        },
        LogItem::Note(note) => LogChunk { note, ..LogChunk::default() },
        LogItem::End { state, exit_code } => {
            LogChunk { terminal: true, exit_code, state, ..LogChunk::default() }
        }
    }
}
