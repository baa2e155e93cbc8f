//! `/v1/jobs`: what is submitted, and what became of it.

use super::super::error::ApiError;
use super::super::service::{Service, Verb};
use super::super::submit::Submission;
use super::super::views::JobFilter;
use super::doc::{Changed, Doc};
use super::extract::{Id, Mutation, Query, media_type, read_body, unsupported};
use super::openapi::Api;
use super::operation::Operation;
use super::page;
use super::problem::Problem;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use muster_core::model::job::JobState;
use muster_core::spec::{Format, JobFile, limits};
use muster_core::view_doc::{ExplainDoc, JobDoc, JobsDoc, TaskDoc, parse_rfc3339};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Content types of a job file.
const JOB_FILES: &[(&str, Format)] =
    &[("application/json", Format::Json), ("application/yaml", Format::Yaml)];

/// Which jobs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Jobs of a page.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 100))]
    limit: Option<u32>,
    /// Only ids below this one: the last id of the page before.
    before: Option<u64>,
    /// Only these states.
    #[serde(default)]
    state: Vec<StateWord>,
    /// Only this queue.
    queue: Option<String>,
    /// Only of this user.
    user: Option<String>,
    /// Only with all of these labels: `key=value` or `key`.
    #[serde(default)]
    label: Vec<String>,
    /// Only submitted at or after this time.
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
}

/// A state of a job.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum StateWord {
    Pending,
    Running,
    Held,
    Succeeded,
    Failed,
    Cancelled,
}

impl StateWord {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => JobState::Pending,
            Self::Running => JobState::Running,
            Self::Held => JobState::Held,
            Self::Succeeded => JobState::Succeeded,
            Self::Failed => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
        }
        .as_str()
    }
}

/// How to submit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct How {
    /// `name=value` for each parameter of the file that is to be another.
    #[serde(default)]
    #[schemars(inner(regex(pattern = "^[^=]+=")))]
    param: Vec<String>,
}

/// Which tasks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tasks {
    /// Tasks of a page.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 100))]
    limit: Option<u32>,
    /// Only those behind the task of this name: the last one of the page before.
    after: Option<String>,
}

/// A job was made.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Submitted")]
struct SubmittedDoc {
    /// Its id.
    job: u64,
    tasks: u32,
    /// Task indices, arrays counted out.
    indices: u64,
    name: String,
}

/// Tasks of a job, in the order of its file.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TasksDoc")]
struct TasksDoc {
    tasks: Vec<TaskDoc>,
}

/// A job's id in a path.
fn id_schema() -> Value {
    json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX })
}

/// A job, a task or an index in a path.
fn target_schema() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]{1,19}(\\.[a-zA-Z0-9_-]{1,128}(\\[[0-9]{1,9}\\])?)?$", "examples": ["42", "42.train", "42.train[7]"] })
}

pub(super) fn routes(api: Api) -> Api {
    let list = "Jobs, the newest first.\nFinished ones too. `Link` names the next page.";
    let submit = "Submit a job.\nThe body is a job file as JSON or YAML. A job that no worker could ever run is refused. What ships a working directory \
        (`workdir`) is submitted with `muster submit`.";
    let types: Vec<&'static str> = JOB_FILES.iter().map(|(media, _)| *media).collect();
    let submit = Operation::new("jobs", "submitJob", submit)
        .query::<How>()
        .mutation()
        .bodies::<JobFile>(&types)
        .answers::<SubmittedDoc>("The job")
        .status(201)
        .answer_header("Location", "The job")
        .link("getJob", "job")
        .link("listTasks", "job")
        .link("explain", "job")
        .link("getLogs", "job")
        .link("hold", "job")
        .link("release", "job")
        .link("cancel", "job")
        .link("rerun", "job")
        .refuses(&[422]);
    let a_job = "The job's id";
    let get_job = "A job with its tasks, attempts and timeline.";
    let tasks = "The tasks of a job, with their attempts.\n`Link` names the next page.";
    let explain = "Why a job, a task or an index waits.";
    let api = api
        .get(
            "/v1/jobs",
            list_jobs,
            Operation::new("jobs", "listJobs", list)
                .query::<Listed>()
                .answers::<JobsDoc>("A page of jobs")
                .answer_header("Link", "`rel=\"next\"`: the next page, if there is one"),
        )
        .private(
            "post",
            "/v1/jobs",
            post(submit_job).layer(DefaultBodyLimit::max(limits::FILE_BYTES)),
            &submit,
        )
        .get(
            "/v1/jobs/{id}",
            get,
            Operation::new("jobs", "getJob", get_job)
                .path("id", a_job, id_schema())
                .answers::<JobDoc>("The job"),
        )
        .get(
            "/v1/jobs/{id}/tasks",
            list_tasks,
            Operation::new("jobs", "listTasks", tasks)
                .path("id", a_job, id_schema())
                .query::<Tasks>()
                .answers::<TasksDoc>("A page of tasks")
                .answer_header("Link", "`rel=\"next\"`: the next page, if there is one"),
        )
        .get(
            "/v1/jobs/{id}/explain",
            explain_target,
            Operation::new("jobs", "explain", explain)
                .path("id", "A job, a task or an index", target_schema())
                .answers::<ExplainDoc>("Its blockers"),
        );
    let changed = |id, about| {
        Operation::new("jobs", id, about)
            .path("id", "A job, a task or an index", target_schema())
            .mutation()
            .answers::<Changed>("How many indices changed")
    };
    api.post(
        "/v1/jobs/{id}/cancel",
        cancel,
        changed("cancel", "Cancel: what runs is stopped, what waits never runs."),
    )
    .post(
        "/v1/jobs/{id}/hold",
        hold,
        changed("hold", "Hold: what has not started does not start; what runs goes on."),
    )
    .post("/v1/jobs/{id}/release", release, changed("release", "Release what is held."))
    .post(
        "/v1/jobs/{id}/rerun",
        rerun,
        changed("rerun", "Run again what failed or was cancelled, and what waits for it."),
    )
}

/// Reads the id of a job.
pub(super) fn job_id(text: &str) -> Result<u64, Problem> {
    let bad = || Problem::bad_request(format!("{text:?} is no job's id: a number, as in 42"));
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().map_err(|_| bad()) } else { Err(bad()) }
}

async fn list_jobs(
    State(service): State<Service>,
    uri: Uri,
    Query(asked): Query<Listed>,
) -> Result<Response, Problem> {
    let limit = page::limit(asked.limit)?;
    let since_ms = asked.since.as_deref().map(parse_rfc3339).transpose();
    let filter = JobFilter {
        states: asked.state.iter().map(|state| state.as_str().to_owned()).collect(),
        queue: asked.queue.unwrap_or_default(),
        user: asked.user.unwrap_or_default(),
        labels: asked.label,
        since_ms: since_ms.map_err(|error| Problem::bad_request(format!("since: {error}")))?,
        // One more than asked for says whether there is a next page.
        limit: u32::try_from(limit + 1).unwrap_or(u32::MAX),
        before: asked.before.unwrap_or_default(),
    };
    if asked.before == Some(0) {
        // Of the service zero means all; nothing is below it.
        return Ok(Doc(JobsDoc::default()).into_response());
    }
    let mut doc = service.list_jobs(&filter).await?;
    let more = page::cut(&mut doc.jobs, limit, None::<fn(&_) -> bool>).unwrap_or_default();
    let last = doc.jobs.last().filter(|_| more).map(|job| job.id.to_string());
    Ok(page::linked(Doc(doc), &uri, last.as_deref().map(|last| ("before", last))))
}

async fn submit_job(
    State(service): State<Service>,
    Query(how): Query<How>,
    Mutation(call): Mutation,
    request: Request,
) -> Result<Response, Problem> {
    let media = media_type(request.headers()).map(str::to_owned);
    let format =
        JOB_FILES.iter().find(|(known, _)| Some(*known) == media.as_deref()).map(|(_, format)| *format);
    let format =
        format.ok_or_else(|| unsupported(media.as_deref(), "application/json or application/yaml"))?;
    let mut params = BTreeMap::new();
    for text in &how.param {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Problem::bad_request(format!("param: {text:?} has no name or no value"))
                .hint("write param=NAME%3DVALUE")
        })?;
        params.insert(name.to_owned(), value.to_owned());
    }
    let job = read_body(request, &()).await?.into();
    let submission = Submission { request: Some(call), params, workdir: None, job, format, hold: false };
    let done = service.submit(submission).await?;
    let doc = SubmittedDoc { job: done.job.0, tasks: done.tasks, indices: done.indices, name: done.name };
    let mut response = (StatusCode::CREATED, Doc(doc)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/jobs/{}", done.job)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

async fn get(State(service): State<Service>, Id(id): Id) -> Result<Doc<JobDoc>, Problem> {
    let id = job_id(&id)?;
    Ok(Doc(service.get_job(&id.to_string()).await?))
}

async fn list_tasks(
    State(service): State<Service>,
    Id(id): Id,
    uri: Uri,
    Query(asked): Query<Tasks>,
) -> Result<Response, Problem> {
    let (id, limit) = (job_id(&id)?, page::limit(asked.limit)?);
    let mut tasks = service.get_job(&id.to_string()).await?.tasks;
    let after = asked.after.clone();
    let is_after = after.as_deref().map(|after| move |task: &TaskDoc| task.name == after);
    let more = page::cut(&mut tasks, limit, is_after)
        .ok_or_else(|| ApiError::NoTask { job: id, task: asked.after.unwrap_or_default() })?;
    let last = tasks.last().filter(|_| more).map(|task| task.name.clone());
    Ok(page::linked(Doc(TasksDoc { tasks }), &uri, last.as_deref().map(|last| ("after", last))))
}

async fn explain_target(State(service): State<Service>, Id(id): Id) -> Result<Doc<ExplainDoc>, Problem> {
    Ok(Doc(service.explain(&id).await?))
}

async fn cancel(State(service): State<Service>, Id(id): Id, call: Mutation) -> Result<Doc<Changed>, Problem> {
    mutate(&service, Verb::Cancel, &id, call).await
}

async fn hold(State(service): State<Service>, Id(id): Id, call: Mutation) -> Result<Doc<Changed>, Problem> {
    mutate(&service, Verb::Hold, &id, call).await
}

async fn release(
    State(service): State<Service>,
    Id(id): Id,
    call: Mutation,
) -> Result<Doc<Changed>, Problem> {
    mutate(&service, Verb::Release, &id, call).await
}

async fn rerun(State(service): State<Service>, Id(id): Id, call: Mutation) -> Result<Doc<Changed>, Problem> {
    mutate(&service, Verb::Rerun, &id, call).await
}

async fn mutate(
    service: &Service,
    verb: Verb,
    id: &str,
    Mutation(call): Mutation,
) -> Result<Doc<Changed>, Problem> {
    Ok(Doc(Changed { changed: service.mutate(verb, call, id).await? }))
}
