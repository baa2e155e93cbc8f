//! Calls of users, to a member that the caller names, each with a time limit and an honest outcome: heard, refused, or unknown.

use muster_core::view_doc::{ClusterDoc, CostDoc, JobDoc, JobsDoc, WorkersDoc};
use muster_proto::api::api_client::ApiClient;
use muster_proto::api::{
    CostRequest, Document, DrainRequest, GetRequest, ListJobsRequest, ListRequest, Mutation, SubmitPart,
};
use muster_proto::channel::{Bearer, ChannelError, MESSAGE_BYTES_MAX, Tls, dial_lazy};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

type Api = ApiClient<InterceptedService<Channel, Bearer>>;

/// A member gives up on a leader after 5 s; a little later a call without an answer has none.
const LIMIT: Duration = Duration::from_secs(7);
/// Documents of the end are large, and the machine is small.
const LIST_LIMIT: Duration = Duration::from_secs(30);

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    Heard(T),
    /// A definite no, by its code: nothing happened.
    Refused(String),
    /// Perhaps it took effect, perhaps not, perhaps it still will.
    Unknown(String),
}

impl<T> Answer<T> {
    /// What was heard.
    #[must_use]
    pub fn heard(self) -> Option<T> {
        match self {
            Self::Heard(value) => Some(value),
            Self::Refused(_) | Self::Unknown(_) => None,
        }
    }
}

/// What changes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Cancel,
    Hold,
    Release,
    Rerun,
}

/// A channel for each way to call: member by member. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    apis: Vec<Api>,
}

impl Client {
    /// Channels that connect when first used.
    ///
    /// # Errors
    /// Bad addresses or certificates.
    pub fn new(addresses: &[String], tls: &Tls, token: &str) -> Result<Self, ChannelError> {
        let api = |address: &String| {
            Ok(ApiClient::with_interceptor(dial_lazy(address, Some(tls))?, Bearer::new(token))
                .max_decoding_message_size(MESSAGE_BYTES_MAX.max(64 << 20)))
        };
        Ok(Self { apis: addresses.iter().map(api).collect::<Result<_, _>>()? })
    }

    /// How many ways there are to call.
    #[must_use]
    pub fn ways(&self) -> usize {
        self.apis.len()
    }

    /// Submits the JSON text of a job; its id.
    pub async fn submit(&self, way: usize, request_id: &str, job: &str, hold: bool) -> Answer<u64> {
        let part = SubmitPart {
            request_id: request_id.to_owned(),
            job: job.as_bytes().to_vec().into(),
            user: "chaos".into(),
            hold,
            ..SubmitPart::default()
        };
        let mut api = self.apis[way].clone();
        let call = api.submit(tokio_stream::iter([part]));
        limited(LIMIT, call, |reply| Some(reply.job)).await
    }

    /// Changes a job; how many indices changed.
    pub async fn mutate(&self, way: usize, verb: Verb, request_id: &str, target: &str) -> Answer<u64> {
        let mutation =
            Mutation { request_id: request_id.to_owned(), target: target.to_owned(), user: "chaos".into() };
        let mut api = self.apis[way].clone();
        let read = |reply: muster_proto::api::MutationReply| Some(reply.indices);
        match verb {
            Verb::Cancel => limited(LIMIT, api.cancel(mutation), read).await,
            Verb::Hold => limited(LIMIT, api.hold(mutation), read).await,
            Verb::Release => limited(LIMIT, api.release(mutation), read).await,
            Verb::Rerun => limited(LIMIT, api.rerun(mutation), read).await,
        }
    }

    /// Drains a worker, or undrains it.
    pub async fn drain(
        &self,
        way: usize,
        request_id: &str,
        worker: &str,
        deadline_ms: Option<u64>,
    ) -> Answer<u64> {
        let request = DrainRequest {
            request_id: request_id.to_owned(),
            worker: worker.to_owned(),
            deadline_ms,
            reason: "chaos".into(),
            user: "chaos".into(),
        };
        let mut api = self.apis[way].clone();
        match deadline_ms {
            Some(_) => limited(LIMIT, api.drain(request), |reply| Some(reply.indices)).await,
            None => limited(LIMIT, api.undrain(request), |reply| Some(reply.indices)).await,
        }
    }

    /// One job.
    pub async fn job(&self, way: usize, id: u64) -> Answer<JobDoc> {
        let mut api = self.apis[way].clone();
        limited(LIMIT, api.get_job(GetRequest { id: id.to_string() }), read).await
    }

    /// All jobs, newest first.
    pub async fn jobs(&self, way: usize) -> Answer<JobsDoc> {
        let mut all = JobsDoc::default();
        loop {
            let before = all.jobs.last().map_or(0, |job| job.id);
            let mut api = self.apis[way].clone();
            let page = ListJobsRequest { limit: 500, before, ..ListJobsRequest::default() };
            match limited(LIST_LIMIT, api.list_jobs(page), read::<JobsDoc>).await {
                Answer::Heard(page) if page.jobs.is_empty() => return Answer::Heard(all),
                Answer::Heard(page) => all.jobs.extend(page.jobs),
                other => return other,
            }
        }
    }

    /// All workers.
    pub async fn workers(&self, way: usize) -> Answer<WorkersDoc> {
        let mut api = self.apis[way].clone();
        limited(LIMIT, api.list_workers(ListRequest {}), read).await
    }

    /// Where time and money went, by pool.
    pub async fn cost(&self, way: usize) -> Answer<CostDoc> {
        let mut api = self.apis[way].clone();
        let request = CostRequest { by: "pool".to_owned(), ..CostRequest::default() };
        limited(LIMIT, api.get_cost(request), read).await
    }

    /// Who leads, by this member.
    pub async fn status(&self, way: usize) -> Answer<ClusterDoc> {
        let mut api = self.apis[way].clone();
        limited(Duration::from_secs(2), api.cluster_status(ListRequest {}), read).await
    }
}

fn read<T: DeserializeOwned>(document: Document) -> Option<T> {
    serde_json::from_str(&document.json).ok()
}

async fn limited<W, T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<W>, Status>>,
    read: impl FnOnce(W) -> Option<T>,
) -> Answer<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => match read(response.into_inner()) {
            Some(value) => Answer::Heard(value),
            None => Answer::Refused("UNREADABLE".into()),
        },
        Ok(Err(status)) => of_status(&status),
        Err(_) => Answer::Unknown(format!("no answer in {} s", limit.as_secs())),
    }
}

/// A refusal is one that names its code and is about the call itself; everything else leaves open what happened.
fn of_status<T>(status: &Status) -> Answer<T> {
    let code = status.metadata().get("muster-code").and_then(|code| code.to_str().ok());
    let definite = matches!(
        status.code(),
        Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::PermissionDenied
    );
    match code {
        Some(code) if definite => Answer::Refused(code.to_owned()),
        _ => Answer::Unknown(format!("{:?}: {}", status.code(), status.message())),
    }
}
