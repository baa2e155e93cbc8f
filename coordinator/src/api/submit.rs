//! A submission: parse and check with the same code as the command line, refuse what no worker could ever run, then into the log,
//! in parts when it is large.

use super::error::ApiError;
use super::service::Service;
use crate::proposer::BATCH_BYTES_MAX;
use muster_core::command::{Command, Request, Target};
use muster_core::ledger::forecast;
use muster_core::model::blob::BlobId;
use muster_core::model::budget::Scope;
use muster_core::model::ids::JobId;
use muster_core::model::job_spec::JobSpec;
use muster_core::reply::Reply;
use muster_core::scheduler::{could_ever_fit, nearest};
use muster_core::spec::{self, Format, SpecBytes};
use muster_failpoint::{Point, pass};
use std::collections::BTreeMap;

/// Staged in pieces of this size, bytes.
const PART_BYTES: usize = 3 << 20;

/// What a user submits.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    pub request: Option<Request>,
    /// Overrides, as texts.
    pub params: BTreeMap<String, String>,
    pub workdir: Option<BlobId>,
    /// Text of the public schema.
    pub job: Vec<u8>,
    /// How it is written.
    pub format: Format,
    pub hold: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub job: JobId,
    pub tasks: u32,
    pub indices: u64,
    pub name: String,
}

impl Service {
    /// Makes a job. The same request id gives the same job.
    ///
    /// # Errors
    /// [`ApiError`]: nothing was made.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, ApiError> {
        let Submission { request, params, workdir, job, format, hold } = submission;
        let request =
            request.ok_or_else(|| ApiError::BadRequest("the first message lacks the request".to_owned()))?;
        // 1. Checking a large file takes a while: beside the runtime's threads.
        let check = move || -> Result<JobSpec, ApiError> {
            let mut file = spec::parse(&job, format, "job").map_err(ApiError::Spec)?;
            if workdir.is_none() && file.workdir_path().is_some() {
                return Err(ApiError::WorkdirNotSent);
            }
            let texts: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            file.set_params(&texts).map_err(ApiError::Spec)?;
            Ok(spec::check(&file, workdir).map_err(ApiError::Spec)?.spec)
        };
        let (resolved, bytes) = tokio::task::spawn_blocking(move || {
            let spec = check()?;
            let bytes = SpecBytes::encode(&spec);
            Ok::<_, ApiError>((spec, bytes))
        })
        .await
        .map_err(|error| ApiError::Stopped(error.to_string()))??;
        // 2. What could never run is said now.
        if let Some(workdir) = resolved.workdir
            && !self.store.exists(workdir).await?
        {
            return Err(ApiError::NoWorkdir);
        }
        self.refuse_impossible(&resolved)?;
        // 3. Into the log.
        let forecast = self.forecast(&resolved);
        let reply = self.propose_job(&request, bytes, forecast).await?;
        let Reply::Submitted { job, tasks, indices } = reply else {
            return Err(ApiError::Stopped("the leader answered something else".to_owned()));
        };
        if hold {
            let request = Request { id: format!("{}:hold", request.id), user: request.user };
            self.forward
                .one(Command::Hold { request, target: Target { job, task: None, index: None } })
                .await?;
        }
        pass(Point::SubmitReplyBefore);
        Ok(Submitted { job, tasks, indices, name: resolved.name })
    }

    async fn propose_job(
        &self,
        request: &Request,
        spec: SpecBytes,
        forecast_micro_usd: Option<u64>,
    ) -> Result<Reply, ApiError> {
        if spec.0.len() <= BATCH_BYTES_MAX - 4096 {
            let request = request.clone();
            let command = Command::Submit { request, spec, parts: 0, forecast_micro_usd };
            return self.forward.one(command).await;
        }
        let mut parts = 0;
        for bytes in spec.0.chunks(PART_BYTES) {
            self.forward
                .one(Command::SubmitPart { request: request.clone(), part: parts, bytes: bytes.to_vec() })
                .await?;
            parts += 1;
        }
        self.forward
            .one(Command::Submit {
                request: request.clone(),
                spec: SpecBytes(Vec::new()),
                parts,
                forecast_micro_usd,
            })
            .await
    }

    /// What the job is thought to cost, where a budget asks for it.
    fn forecast(&self, spec: &JobSpec) -> Option<u64> {
        self.forward.read(|state| {
            let queue = Scope::Queue(spec.queue.clone());
            let asked = spec.budget.is_some() || state.ledger().budgets().contains_key(&queue);
            let workers: Vec<_> = state.workers().map(|worker| &worker.spec).collect();
            asked.then(|| forecast(spec, &workers, state.fleet())).flatten()
        })
    }

    /// Refuses a job of which a task fits no registered worker. Without workers nothing is refused: they may come.
    fn refuse_impossible(&self, spec: &JobSpec) -> Result<(), ApiError> {
        for (number, common) in spec.commons.iter().enumerate() {
            // Under the lock, without a copy: of ten thousand workers the first that fits is seldom far.
            let fits = self
                .forward
                .read(|state| could_ever_fit(&common.resources, state.workers().map(|worker| &worker.spec)));
            let Err(short) = fits else { continue };
            let task =
                spec.tasks.iter().find(|task| task.common as usize == number).map_or("", |task| &task.name);
            let message = if short.what == "resources" {
                format!("task \"{task}\" asks for more than any one worker has together")
            } else {
                let (asked, largest, worker) = (&short.asked, &short.largest, &short.worker);
                format!(
                    "task \"{task}\" asks for {asked} {}; the largest worker, \"{worker}\", has {largest}",
                    short.what
                )
            };
            let nearest = self
                .forward
                .read(|state| nearest(&common.resources, state.workers().map(|worker| &worker.spec)));
            let hint = match short.what {
                _ if nearest.is_some() => nearest.unwrap_or_default(),
                "resources" => "ask for less, or add a worker that has it all".to_owned(),
                what => format!("ask for at most {} {what}, or add a larger worker", short.largest),
            };
            return Err(ApiError::Impossible { message, hint });
        }
        Ok(())
    }
}
