//! How a job flows: tasks open when their parents allow it, and end when their indices have; ends reach the children.

use super::Apply;
use crate::dag::{Verdict, verdict};
use crate::event::Event;
use crate::model::attempt::Cause;
use crate::model::ids::{JobId, TaskNo};
use crate::model::job::{IndexState, TaskOutcome};
use crate::model::job_spec::{JobSpec, TaskSpec};
use crate::state::job::Phase;
use crate::state::rows::Key;

/// The phase in which a submission leaves a task.
pub(in crate::state) fn first_phase(spec: &JobSpec, task: &TaskSpec) -> Phase {
    match verdict(spec.common(task).rule, &task.needs, &crate::dag::Parents::default()) {
        Verdict::Run if task.when().is_some() => Phase::Asking,
        Verdict::Run => Phase::Open,
        Verdict::Wait | Verdict::Skip => Phase::Waiting,
    }
}

impl Apply<'_> {
    /// At submission: tasks without parents open. Their rows stay unwritten, the spec says it all; so does the event of the job.
    pub(super) fn open_if_free(&mut self, id: JobId, no: TaskNo) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        let phase = first_phase(&job.spec, &job.spec.tasks[no.0 as usize]);
        job.task_mut(no).phase = phase;
        if phase != Phase::Waiting {
            self.changes.reread(id, no);
        }
    }

    /// Looks at a waiting task again.
    pub(super) fn consider(&mut self, id: JobId, no: TaskNo) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        let spec = job.spec.clone();
        let task = &spec.tasks[no.0 as usize];
        let run = job.task_mut(no);
        if run.phase != Phase::Waiting {
            return;
        }
        match verdict(spec.common(task).rule, &task.needs, &run.parents) {
            Verdict::Wait => {}
            Verdict::Run if task.when().is_some() => {
                run.phase = Phase::Asking;
                self.changes.reread(id, no);
            }
            Verdict::Run => self.open(id, no),
            Verdict::Skip => self.skip(id, no, None),
        }
    }

    /// The task's indices may be placed.
    pub(super) fn open(&mut self, id: JobId, no: TaskNo) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        job.task_mut(no).phase = Phase::Open;
        self.touch(Key::Task(id, no));
        self.changes.reread(id, no);
        self.events.push(Event::TaskReady { job: id, task: no });
    }

    /// Nothing of the task will run.
    pub(super) fn skip(&mut self, id: JobId, no: TaskNo, reason: Option<&str>) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        let run = job.task_mut(no);
        run.indices.set_all(IndexState::Skipped, |s| matches!(s, IndexState::Pending | IndexState::Held));
        run.reason = reason.map(Into::into);
        if run.indices.count(IndexState::Live) > 0 {
            // Something of it outlived a rerun. Should it be tried again, it is asked again: nobody listens to an answer twice.
            run.phase = Phase::Waiting;
        }
        self.touch_all(id, no);
        self.close_if_done(id, no);
    }

    /// Ends the task if its indices have ended, tells its children, ends the job with its last task. A work list, not recursion:
    /// a chain may be 100,000 long.
    pub(super) fn close_if_done(&mut self, id: JobId, no: TaskNo) {
        let mut work = vec![no];
        while let Some(no) = work.pop() {
            let Some(job) = self.state.jobs.get_mut(&id) else { return };
            let run = job.task_mut(no);
            if !run.indices.is_over() || run.outcome().is_some() {
                continue;
            }
            let outcome = outcome_of(run);
            run.phase = Phase::Done(outcome);
            job.open -= 1;
            let children: Vec<u32> = job.children(no).to_vec();
            self.touch(Key::Task(id, no));
            self.changes.reread(id, no);
            self.events.push(Event::TaskFinished { job: id, task: no });
            let mut last = None;
            for child in children {
                // A child with two edges to this task is listed twice, side by side.
                if last != Some(child) {
                    self.tell_child(id, no, TaskNo(child), outcome, &mut work);
                }
                last = Some(child);
            }
        }
        self.end_job_if_done(id);
    }

    fn tell_child(
        &mut self,
        id: JobId,
        parent: TaskNo,
        no: TaskNo,
        outcome: TaskOutcome,
        work: &mut Vec<TaskNo>,
    ) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        let spec = job.spec.clone();
        let task = &spec.tasks[no.0 as usize];
        let run = job.task_mut(no);
        for need in task.needs.iter().filter(|n| n.task == parent) {
            run.parents.count(outcome, need.when);
        }
        self.touch(Key::Task(id, no));
        if self.state.jobs[&id].task(no).phase != Phase::Waiting {
            return;
        }
        let parents = self.state.jobs[&id].task(no).parents;
        if verdict(spec.common(task).rule, &task.needs, &parents) == Verdict::Skip {
            let Some(job) = self.state.jobs.get_mut(&id) else { return };
            let run = job.task_mut(no);
            run.indices.set_all(IndexState::Skipped, |s| matches!(s, IndexState::Pending | IndexState::Held));
            self.touch_all(id, no);
            work.push(no);
        } else {
            self.consider(id, no);
        }
    }

    fn end_job_if_done(&mut self, id: JobId) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        if job.open == 0 && job.ended.is_none() {
            job.ended = Some(self.stamp);
            self.touch(Key::Job(id));
            self.events.push(Event::JobFinished { job: id });
        }
    }

    /// Remembers the first index that failed for good.
    pub(super) fn note_failure(&mut self, id: JobId, cause: &Cause) {
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        if job.first_failure.is_none() {
            job.first_failure = Some(cause.clone());
            self.touch(Key::Job(id));
        }
    }
}

fn outcome_of(run: &crate::state::job::TaskRun) -> TaskOutcome {
    let count = |state| run.indices.count(state);
    if count(IndexState::Failed) > 0 {
        TaskOutcome::Failed
    } else if count(IndexState::Cancelled) > 0 {
        TaskOutcome::Cancelled
    } else if count(IndexState::Skipped) > 0 {
        // After a rerun some indices may have succeeded before the rest was skipped. SPEC section 3: `all_success` and `one_success` speak
        // of tasks, and a task of which a part never ran did not succeed; nothing of it failed either. Its counts say the rest.
        TaskOutcome::Skipped
    } else {
        TaskOutcome::Succeeded
    }
}
