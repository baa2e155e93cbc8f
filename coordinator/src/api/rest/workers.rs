//! `/v1/workers`: machines, and what an operator or a provider says of them.

use super::super::service::Service;
use super::doc::{Changed, Doc};
use super::extract::{Id, Json, Mutation, Query};
use super::openapi::Api;
use super::operation::Operation;
use super::page;
use super::problem::Problem;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use muster_core::view_doc::{WorkerDoc, WorkersDoc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest deadline of a drain: a year. Who wants more wants none.
const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Longest reason, characters: it is kept with the worker, on every member.
const REASON_MAX: usize = 512;

/// Which workers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Workers of a page.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 100))]
    limit: Option<u32>,
    /// Only ids above this one: the last id of the page before.
    after: Option<u64>,
}

/// How to drain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Drain")]
struct DrainBody {
    /// What still runs then is evicted, with its checkpoint; without: it may finish.
    #[schemars(range(min = 0, max = 31_536_000))]
    deadline_seconds: Option<f64>,
    /// Why, for people.
    #[schemars(length(max = 512))]
    reason: String,
}

/// What is said of a worker's machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Notice")]
#[schemars(extend("not" = { "required": ["kind", "in_seconds"], "properties": { "kind": { "const": "withdrawn" }, "in_seconds": { "type": "number" } } }))]
struct NoticeBody {
    kind: KindWord,
    /// The time until then, a week at most; without: unknown.
    #[schemars(range(min = 0, max = 604_800))]
    in_seconds: Option<f64>,
    /// In the words of who says it.
    #[schemars(length(max = 512))]
    detail: String,
    /// An exercise: the machine stays.
    drill: bool,
}

/// A kind of notice.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "NoticeKind")]
enum KindWord {
    /// The machine goes.
    #[default]
    Preemption,
    /// It may go.
    Advice,
    /// It stays after all.
    Withdrawn,
}

impl KindWord {
    fn as_str(self) -> &'static str {
        match self {
            Self::Preemption => "preemption",
            Self::Advice => "advice",
            Self::Withdrawn => "withdrawn",
        }
    }
}

fn id_schema() -> Value {
    json!({ "type": "string", "minLength": 1, "examples": ["7", "w1"] })
}

pub(super) fn routes(api: Api) -> Api {
    let a_worker = "Its number or its name";
    let list = "Workers, by id.\nLost ones too, as long as they are known. `Link` names the next page.";
    let changed = |id, about| {
        Operation::new("workers", id, about)
            .path("id", a_worker, id_schema())
            .mutation()
            .answers::<Changed>("How many attempts were asked to stop")
    };
    let drain_it = "Drain: no new placements.\nWhat runs finishes, or is evicted by the deadline.";
    let notice_it = "Tell a worker that its machine goes.\nFor a provider's hook or an operator; what runs there saves and stops in time.";
    api.get(
        "/v1/workers",
        list_workers,
        Operation::new("workers", "listWorkers", list)
            .query::<Listed>()
            .answers::<WorkersDoc>("A page of workers")
            .answer_header("Link", "`rel=\"next\"`: the next page, if there is one"),
    )
    .get(
        "/v1/workers/{id}",
        get,
        Operation::new("workers", "getWorker", "A worker with its devices and leases.")
            .path("id", a_worker, id_schema())
            .answers::<WorkerDoc>("The worker"),
    )
    .post("/v1/workers/{id}/drain", drain, changed("drainWorker", drain_it).body::<DrainBody>())
    .post("/v1/workers/{id}/undrain", undrain, changed("undrainWorker", "Placements again."))
    .post("/v1/workers/{id}/notice", notice, changed("noticeWorker", notice_it).body::<NoticeBody>())
}

async fn list_workers(
    State(service): State<Service>,
    uri: Uri,
    Query(asked): Query<Listed>,
) -> Result<Response, Problem> {
    let limit = page::limit(asked.limit)?;
    let mut doc = service.list_workers().await?;
    if let Some(after) = asked.after {
        doc.workers.retain(|worker| worker.id > after);
    }
    let more = page::cut(&mut doc.workers, limit, None::<fn(&_) -> bool>).unwrap_or_default();
    service.drills.mark(&mut doc.workers);
    let last = doc.workers.last().filter(|_| more).map(|worker| worker.id.to_string());
    Ok(page::linked(Doc(doc), &uri, last.as_deref().map(|last| ("after", last))))
}

async fn get(State(service): State<Service>, Id(id): Id) -> Result<Doc<WorkerDoc>, Problem> {
    let mut doc = service.get_worker(&id).await?;
    service.drills.mark(std::slice::from_mut(&mut doc));
    Ok(Doc(doc))
}

/// Milliseconds of a number of seconds.
fn millis(name: &str, seconds: Option<f64>, max: Duration) -> Result<Option<u64>, Problem> {
    let Some(seconds) = seconds else { return Ok(None) };
    let read = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= max);
    let duration = read.ok_or_else(|| {
        Problem::bad_request(format!("{name}: {seconds} is not from 0 to {}", max.as_secs()))
    })?;
    Ok(u64::try_from(duration.as_millis()).ok())
}

async fn drain(
    State(service): State<Service>,
    Id(id): Id,
    Mutation(call): Mutation,
    Json(body): Json<DrainBody>,
) -> Result<Doc<Changed>, Problem> {
    let deadline_ms = millis("deadline_seconds", body.deadline_seconds, DEADLINE_MAX)?;
    let length = body.reason.chars().count();
    if length > REASON_MAX {
        let message = format!("reason: {length} characters; the most is {REASON_MAX}");
        return Err(Problem::bad_request(message));
    }
    Ok(Doc(Changed { changed: service.drain(call, &id, deadline_ms, body.reason).await? }))
}

async fn undrain(
    State(service): State<Service>,
    Id(id): Id,
    Mutation(call): Mutation,
) -> Result<Doc<Changed>, Problem> {
    Ok(Doc(Changed { changed: service.undrain(call, &id).await? }))
}

async fn notice(
    State(service): State<Service>,
    Id(id): Id,
    Mutation(call): Mutation,
    Json(body): Json<NoticeBody>,
) -> Result<Doc<Changed>, Problem> {
    // The service has the limit.
    let in_ms = millis("in_seconds", body.in_seconds, Duration::MAX)?;
    let changed = service.notice(call, &id, body.kind.as_str(), in_ms, (body.detail, body.drill)).await?;
    Ok(Doc(Changed { changed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_up_to_a_limit() {
        let read =
            |seconds| millis("deadline_seconds", Some(seconds), Duration::from_secs(10)).ok().flatten();
        assert_eq!([read(0.0), read(1.5), read(10.0)], [Some(0), Some(1_500), Some(10_000)]);
        assert_eq!([read(-1.0), read(10.001), read(f64::NAN), read(f64::INFINITY)], [None; 4]);
    }
}
