//! The use cases on core types: what a user may ask of jobs and workers. Left out: the wire (`grpc`), documents (`views`).

use super::drill::Drills;
use super::error::ApiError;
use super::forward::Forward;
use crate::history::HistoryReader;
use crate::metrics::Counters;
use crate::security::Gate;
use crate::sessions::Sessions;
use crate::signals::Signals;
use crate::store::Store;
use crate::telemetry::Telemetries;
use crate::watch::Hub;
use muster_core::command::{Command, Request, Target};
use muster_core::model::ids::{JobId, WorkerId};
use muster_core::model::notice::{Notice, NoticeKind, NoticeSource};
use muster_core::reply::Reply;
use muster_proto::convert::TargetName;
use std::sync::Arc;

/// What the use cases work with. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub forward: Forward,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub history: HistoryReader,
    pub sessions: Sessions,
    pub cluster_id: Arc<str>,
    pub gate: Gate,
    pub telemetries: Telemetries,
    pub drills: Drills,
    pub signals: Signals,
    pub counters: Counters,
}

/// The four mutations of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Cancel,
    Hold,
    Release,
    Rerun,
}

/// Longest time that a notice by a call may give, ms: a week.
const NOTICE_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Longest detail of one, characters.
const NOTICE_DETAIL_MAX: usize = 512;
/// Longest request id, bytes.
const REQUEST_ID_MAX: usize = 128;

/// A request with an id, made up when the caller gave none.
///
/// # Errors
/// An id that is too long.
pub fn request(id: String, user: String) -> Result<Request, ApiError> {
    if id.len() > REQUEST_ID_MAX {
        return Err(ApiError::BadRequest(format!(
            "the request id has {} bytes; the most is {REQUEST_ID_MAX}",
            id.len()
        )));
    }
    let id = if id.is_empty() { format!("auto-{:032x}", rand::random::<u128>()) } else { id };
    Ok(Request { id, user })
}

impl Service {
    /// The numbers behind a written name. Waits until this member knows all that was acknowledged.
    ///
    /// # Errors
    /// A name that names nothing.
    pub async fn target(&self, text: &str) -> Result<Target, ApiError> {
        let name: TargetName = text.parse()?;
        self.forward.catch_up().await?;
        let job_id = JobId(name.job);
        self.forward.read(|state| {
            let job = state.job(job_id).ok_or(ApiError::NoJob(name.job))?;
            let Some(task_name) = name.task else {
                return Ok(Target { job: job_id, task: None, index: None });
            };
            let no = job
                .spec
                .find(&task_name)
                .ok_or_else(|| ApiError::NoTask { job: name.job, task: task_name.clone() })?;
            let index = match (name.index, job.spec.task(no).and_then(|task| task.array())) {
                (None, _) => None,
                (Some(index), Some(array)) => Some(array.position(index).ok_or(ApiError::NoIndex {
                    job: name.job,
                    task: task_name,
                    index,
                })?),
                (Some(0), None) => Some(0),
                (Some(index), None) => {
                    return Err(ApiError::NoIndex { job: name.job, task: task_name, index });
                }
            };
            Ok(Target { job: job_id, task: Some(no), index })
        })
    }

    /// Changes a job, a task or an index; returns how many indices changed.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn mutate(&self, verb: Verb, request: Request, target: &str) -> Result<u64, ApiError> {
        let target = self.target(target).await?;
        let command = match verb {
            Verb::Cancel => Command::Cancel { request, target },
            Verb::Hold => Command::Hold { request, target },
            Verb::Release => Command::Release { request, target },
            Verb::Rerun => Command::Rerun { request, target },
        };
        Ok(changed(&self.forward.one(command).await?))
    }

    /// A worker's id by its number or name.
    ///
    /// # Errors
    /// No such worker.
    pub async fn worker(&self, text: &str) -> Result<WorkerId, ApiError> {
        self.forward.catch_up().await?;
        self.forward
            .read(|state| {
                let by_name = state.worker_named(text).map(|worker| worker.id);
                by_name.or_else(|| text.parse().ok().map(WorkerId).filter(|id| state.worker(*id).is_some()))
            })
            .ok_or_else(|| ApiError::NoWorker(text.to_owned()))
    }

    /// No new placements on the worker; what runs finishes, or is evicted by the deadline.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn drain(
        &self,
        request: Request,
        worker: &str,
        deadline_ms: Option<u64>,
        reason: String,
    ) -> Result<u64, ApiError> {
        let worker = self.worker(worker).await?;
        Ok(changed(&self.forward.one(Command::Drain { request, worker, deadline_ms, reason }).await?))
    }

    /// The worker's machine is said to go (`preemption`), that it may go (`advice`), or that it stays after all (`withdrawn`). Returns how
    /// many attempts were asked to stop.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn notice(
        &self,
        request: Request,
        worker: &str,
        kind: &str,
        in_ms: Option<u64>,
        (detail, drill): (String, bool),
    ) -> Result<u64, ApiError> {
        let kind = NoticeKind::named(kind).ok_or_else(|| {
            ApiError::BadRequest(format!("{kind:?} is no kind of notice: preemption, advice or withdrawn"))
        })?;
        if kind == NoticeKind::Withdrawn && in_ms.is_some() {
            return Err(ApiError::BadRequest("a notice that is withdrawn has no time left".to_owned()));
        }
        if let Some(ms) = in_ms.filter(|ms| *ms > NOTICE_MS_MAX) {
            let message = format!("a notice of {} s; the most is {} s", ms / 1_000, NOTICE_MS_MAX / 1_000);
            return Err(ApiError::BadRequest(message));
        }
        let length = detail.chars().count();
        if length > NOTICE_DETAIL_MAX {
            let message = format!("the detail has {length} characters; the most is {NOTICE_DETAIL_MAX}");
            return Err(ApiError::BadRequest(message));
        }
        let worker = self.worker(worker).await?;
        let notice = Notice { source: NoticeSource::Operator, kind, in_ms, detail, drill };
        let request = Some(request);
        let command = Command::Notice { request, worker, incarnation: None, notice };
        Ok(changed(&self.forward.one(command).await?))
    }

    /// A worker that is lost, or drained and empty, is forgotten. Its machine, if it is there, may join again as a new worker.
    ///
    /// # Errors
    /// [`ApiError`]; one that is neither.
    pub async fn remove_worker(&self, request: Request, worker: &str) -> Result<(), ApiError> {
        let worker = match self.worker(worker).await {
            // The answer to the first try was lost, and with the worker went its name.
            Err(ApiError::NoWorker(_))
                if self.forward.read(|state| state.answer_to(&request) == Some(&Reply::Done)) =>
            {
                return Ok(());
            }
            found => found?,
        };
        let command = Command::Forget { request: Some(request), worker, incarnation: None };
        self.forward.one(command).await.map(|_| ())
    }

    /// Placements again.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn undrain(&self, request: Request, worker: &str) -> Result<u64, ApiError> {
        let worker = self.worker(worker).await?;
        Ok(changed(&self.forward.one(Command::Undrain { request, worker }).await?))
    }
}

pub(super) fn changed(reply: &Reply) -> u64 {
    match reply {
        Reply::Changed { indices } => *indices,
        _ => 0,
    }
}
