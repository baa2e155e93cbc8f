//! A connected client: submit and watch, as the command line does, without its retries: a benchmark wants to see a failure.

use anyhow::{Context, Result, bail};
use muster_core::view_doc::{ClusterDoc, WorkersDoc};
use muster_proto::api::api_client::ApiClient;
use muster_proto::api::{ListRequest, SubmitPart, SubmitReply, WatchRequest};
use muster_proto::channel::{Bearer, MESSAGE_BYTES_MAX, Tls, dial};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// Bytes of a job file in one message.
const PART_BYTES: usize = 1 << 20;

/// A cluster and the right to call it.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub addresses: Vec<String>,
    pub token: String,
    pub tls: Option<Tls>,
}

/// The generated client behind a token.
pub type Api = ApiClient<InterceptedService<Channel, Bearer>>;

/// Connects to one address.
///
/// # Errors
/// Nothing answers there.
pub async fn connect_to(target: &Target, address: &str) -> Result<Api> {
    if target.tls.is_some() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let channel = dial(address, target.tls.as_ref()).await?;
    Ok(ApiClient::with_interceptor(channel, Bearer::new(&target.token))
        .max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// Connects to the first address that answers.
///
/// # Errors
/// None does.
pub async fn connect(target: &Target) -> Result<Api> {
    let mut last = None;
    for address in &target.addresses {
        match connect_to(target, address).await {
            Ok(api) => return Ok(api),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("the cluster has no address")))
}

/// Submits a job file as JSON text.
///
/// # Errors
/// It was refused.
pub async fn submit(api: &mut Api, job: &str, hold: bool) -> Result<SubmitReply> {
    let mut parts: Vec<SubmitPart> = job
        .as_bytes()
        .chunks(PART_BYTES)
        .map(|chunk| SubmitPart { job: chunk.to_vec().into(), ..SubmitPart::default() })
        .collect();
    if let Some(first) = parts.first_mut() {
        first.request_id = request_id();
        "bench".clone_into(&mut first.user);
        first.hold = hold;
    }
    let reply = api.submit(tokio_stream::iter(parts)).await;
    Ok(reply.context("the job was refused")?.into_inner())
}

/// Waits for the end of a job.
///
/// # Errors
/// It did not succeed, or the stream broke.
pub async fn until_succeeded(api: &mut Api, job: u64) -> Result<()> {
    let mut events = api.watch(WatchRequest { job }).await.context("cannot watch")?.into_inner();
    while let Some(event) = events.message().await.context("the watch broke")? {
        if event.terminal {
            if event.state != "succeeded" {
                bail!("job {job} {}, exit code {}", event.state, event.exit_code);
            }
            return Ok(());
        }
    }
    bail!("the watch of job {job} ended before the job did")
}

/// Submits and waits; returns seconds from submission to the end.
///
/// # Errors
/// As the two.
pub async fn run_job(api: &mut Api, job: &str) -> Result<f64> {
    let started = std::time::Instant::now();
    let id = submit(api, job, false).await?.job;
    until_succeeded(api, id).await?;
    Ok(started.elapsed().as_secs_f64())
}

/// The members.
///
/// # Errors
/// No answer.
pub async fn cluster_status(api: &mut Api) -> Result<ClusterDoc> {
    Ok(serde_json::from_str(&api.cluster_status(ListRequest {}).await?.into_inner().json)?)
}

/// The workers.
///
/// # Errors
/// No answer.
pub async fn workers(api: &mut Api) -> Result<WorkersDoc> {
    Ok(serde_json::from_str(&api.list_workers(ListRequest {}).await?.into_inner().json)?)
}

/// Which isolation the workers use: the cgroup backend.
///
/// # Errors
/// No answer.
pub async fn isolation(api: &mut Api) -> Result<String> {
    let mut kinds: Vec<String> =
        workers(api).await?.workers.into_iter().map(|worker| worker.isolation).collect();
    kinds.sort();
    kinds.dedup();
    Ok(kinds.join(", "))
}

/// A new request id.
#[must_use]
pub fn request_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
