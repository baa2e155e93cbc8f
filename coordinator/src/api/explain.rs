//! `muster explain`: why something waits, from the state of whichever member is asked.

use super::error::ApiError;
use super::service::Service;
use muster_core::model::ids::TaskNo;
use muster_core::scheduler::{Blocker, Explanation, explain};
use muster_core::state::{Job, State};
use muster_core::view_doc::{BlockerDoc, ExplainDoc, TaskExplainDoc};

/// Tasks that are explained of one job: those that come first.
const TASKS_MAX: usize = 50;

impl Service {
    /// Why a job, a task or an index waits. Waits until this member knows all that was acknowledged.
    ///
    /// # Errors
    /// No such job, task or index; no leader.
    pub async fn explain(&self, id: &str) -> Result<ExplainDoc, ApiError> {
        let target = self.target(id).await?;
        self.forward.read(|state| {
            let job = state.job(target.job).ok_or(ApiError::NoJob(target.job.0))?;
            let all = 0..u32::try_from(job.tasks.len()).unwrap_or(u32::MAX);
            let asked = all.map(TaskNo).filter(|no| target.task.is_none_or(|task| task == *no));
            let explained = asked.map(|no| task(state, job, no, target.index)).filter(waits);
            let tasks: Vec<TaskExplainDoc> = explained.take(TASKS_MAX).collect();
            // What can run next says more than what waits for it.
            let first = tasks.iter().find(|t| t.position.is_some()).or_else(|| tasks.first()).cloned();
            let first = first.unwrap_or_default();
            Ok(ExplainDoc {
                id: id.to_owned(),
                state: job.state().as_str().to_owned(),
                blockers: first.blockers,
                position: first.position,
                estimated_start: None,
                smallest_change: first.smallest_change,
                tasks,
            })
        })
    }
}

fn waits(task: &TaskExplainDoc) -> bool {
    !task.blockers.is_empty() || task.position.is_some() || !task.notes.is_empty()
}

fn task(state: &State, job: &Job, no: TaskNo, index: Option<u32>) -> TaskExplainDoc {
    let Explanation { blockers, position, fitting, workers, smallest_change, notes } =
        explain(state, job, no, index, state.tick());
    TaskExplainDoc {
        task: job.spec.task(no).map_or_else(String::new, |task| task.name.to_string()),
        state: job.task_state(no).to_owned(),
        blockers: blockers.into_iter().map(blocker).collect(),
        position,
        fitting_workers: fitting,
        workers,
        smallest_change,
        notes,
    }
}

fn blocker(blocker: Blocker) -> BlockerDoc {
    let Blocker { reason, count, holders } = blocker;
    BlockerDoc { reason, count, holders: holders.into_iter().map(|job| job.0).collect() }
}
