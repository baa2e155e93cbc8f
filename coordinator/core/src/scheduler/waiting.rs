//! What waits, for whoever decides how many machines there are to be: the same queue that the plan serves, in the same order, counted
//! instead of placed.

use super::spot::{standing, would_wait};
use super::view::{JobView, View};
use crate::autoscale::Waiting;
use crate::model::ids::{IndexRef, JobId, TaskNo};
use crate::model::job_spec::TaskCommon;
use crate::model::ranges::Ranges;
use std::borrow::Cow;

/// What a task with a deadline asks for while it had better wait for a spot worker.
const SPOT: &str = "worker.spot";

impl View {
    /// Everything that could start now were there room, and what is being evicted and will wait in a moment. `run_ms`: how long an index of
    /// a task of this job runs, as far as is known.
    pub fn waiting<'a>(&'a self, run_ms: impl Fn(JobId, u32) -> Option<u64>) -> Vec<Waiting<'a>> {
        let mut all = Vec::new();
        for (class @ (_, id, common), tasks) in &self.queue {
            let Some(job) = self.jobs.get(id).filter(|job| !job.held) else { continue };
            let evicted = self.evicting.get(class).map_or(0, std::collections::BTreeSet::len) as u64;
            self.of_class(*id, job, *common, (Some(tasks), evicted), &run_ms, &mut all);
        }
        for (class @ (_, id, common), tokens) in &self.evicting {
            let Some(job) = self.jobs.get(id).filter(|job| !job.held && !self.queue.contains_key(class))
            else {
                continue;
            };
            self.of_class(*id, job, *common, (None, tokens.len() as u64), &run_ms, &mut all);
        }
        all
    }

    fn of_class<'a>(
        &'a self,
        id: JobId,
        job: &'a JobView,
        number: u32,
        (tasks, evicted): (Option<&Ranges>, u64),
        run_ms: &impl Fn(JobId, u32) -> Option<u64>,
        all: &mut Vec<Waiting<'a>>,
    ) {
        let common = &job.spec.commons[number as usize];
        let (count, first) = tasks.map_or((0, None), |tasks| self.ready_of(id, job, tasks));
        let count = count + evicted;
        let task = first.or_else(|| {
            let at = job.spec.tasks.iter().position(|task| task.common == number)?;
            u32::try_from(at).ok().map(TaskNo)
        });
        let Some(task) = task.filter(|_| count > 0) else { return };
        let (constraints, left) = self.in_time(id, job, task, common);
        all.push(Waiting {
            job: id,
            task,
            resources: &common.resources,
            constraints,
            gang: common.gang.as_deref(),
            count,
            run_ms: left.or_else(|| run_ms(id, number)),
            since: job.submitted,
        });
    }

    /// How many indices of these tasks may run now, and the first of the tasks.
    fn ready_of(&self, id: JobId, job: &JobView, tasks: &Ranges) -> (u64, Option<TaskNo>) {
        // Nearly always nothing holds them back, and a hundred thousand of them are a few ranges.
        let (mut count, mut first) = (0, None);
        for no in tasks.iter().map(TaskNo) {
            let task = &job.spec.tasks[no.0 as usize];
            let waiting = match task.array() {
                Some(_) => self.arrays.get(&(id, no)).map_or(0, Ranges::count),
                None => 1,
            };
            let running = self.running.get(&(id, no)).copied().unwrap_or(0);
            let room = task.max_running().map_or(u32::MAX, |max| max.saturating_sub(running));
            let ready = waiting.min(u64::from(room.min(self.command_room(id, no))));
            if ready > 0 && first.is_none() {
                first = Some(no);
            }
            count += ready;
        }
        (count, first)
    }

    /// The constraints of a task, with that of its deadline, and the run time that it still needs.
    fn in_time<'a>(
        &self,
        id: JobId,
        job: &JobView,
        task: TaskNo,
        common: &'a TaskCommon,
    ) -> (Cow<'a, [String]>, Option<u64>) {
        let Some(deadline) = common.deadline.as_deref() else {
            return (Cow::Borrowed(&common.constraints), None);
        };
        let worked = self.worked.get(&IndexRef::new(id, task, 0)).copied().unwrap_or(0);
        let stands = standing(deadline, job.submitted, worked, self.tick);
        if would_wait(&stands) {
            let more = common.constraints.iter().cloned().chain([SPOT.to_owned()]).collect();
            return (Cow::Owned(more), Some(stands.work_ms));
        }
        (Cow::Borrowed(&common.constraints), Some(stands.work_ms))
    }
}
