//! `/v1/jobs/{id}/logs`: captured output as plain text, as it is now. Left out: following it (`muster logs -f`).

use super::super::error::ApiError;
use super::super::logs::{LogItem, LogQuery};
use super::super::service::Service;
use super::extract::{Id, Query};
use super::jobs::job_id;
use super::openapi::Api;
use super::operation::Operation;
use super::problem::Problem;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use futures::{StreamExt, stream};
use muster_core::model::ids::JobId;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

/// Which output.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only of this task.
    #[schemars(length(min = 1), regex(pattern = "^[a-zA-Z0-9_-]+$"))]
    task: Option<String>,
    /// Only of this index of an array.
    index: Option<u32>,
    /// Only of this attempt.
    attempt: Option<u32>,
    /// Only of this rank of a gang.
    rank: Option<u32>,
    /// Which stream; both when unsaid, one after the other.
    stream: Option<StreamWord>,
    /// Only so many last lines of each attempt's streams.
    tail: Option<u64>,
}

/// A stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum StreamWord {
    Stdout,
    Stderr,
}

pub(super) fn routes(api: Api) -> Api {
    let about = "The output of a job, as it is now.\nBytes as the processes wrote them, attempt by attempt. Where something can't be shown, a line that begins with \
        `muster: ` says why.";
    let id = json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX });
    let operation = Operation::new("jobs", "getLogs", about)
        .path("id", "The job's id", id)
        .query::<Which>()
        .text("The output", "text/plain");
    api.get("/v1/jobs/{id}/logs", get, operation)
}

async fn get(
    State(service): State<Service>,
    Id(id): Id,
    Query(asked): Query<Which>,
) -> Result<Response, Problem> {
    let query = LogQuery {
        job: JobId(job_id(&id)?),
        task: asked.task,
        index: asked.index,
        attempt: asked.attempt,
        follow: false,
        stdout: asked.stream != Some(StreamWord::Stderr),
        stderr: asked.stream != Some(StreamWord::Stdout),
        tail: asked.tail,
        rank: asked.rank,
    };
    let mut items = ReceiverStream::new(service.logs(query).await?);
    // What fails before anything was sent is a problem; later the connection breaks off, so that nobody takes a part for the whole.
    let first = items.next().await.transpose()?;
    let all = stream::iter(first.map(Ok)).chain(items);
    let bytes = all.filter_map(async |item: Result<LogItem, ApiError>| item.map(text).transpose());
    let mut response = Response::new(Body::from_stream(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

fn text(item: LogItem) -> Option<Bytes> {
    match item {
        LogItem::Chunk { bytes, .. } => Some(bytes),
        LogItem::Note(note) => Some(format!("muster: {note}\n").into()),
        LogItem::End { .. } => None,
    }
}
