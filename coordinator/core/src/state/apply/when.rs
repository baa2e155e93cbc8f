//! The leader's verdict on a `when:`. The expression itself never runs here.

use super::{Answer, Apply};
use crate::model::ids::{JobId, TaskNo};
use crate::reply::{Rejection, Reply};
use crate::state::job::Phase;

impl Apply<'_> {
    pub(super) fn resolve_when(&mut self, id: JobId, no: TaskNo, run: bool, reason: &str) -> Answer {
        let job = self.state.jobs.get(&id).ok_or(Rejection::NoJob(id))?;
        let task = job.tasks.get(no.0 as usize).ok_or(Rejection::NoTask { job: id, task: no.0 })?;
        if task.phase == Phase::Asking {
            if run { self.open(id, no) } else { self.skip(id, no, Some(reason)) }
        }
        Ok(Reply::Done)
    }
}
