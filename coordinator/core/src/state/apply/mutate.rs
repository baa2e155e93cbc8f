//! Cancel, hold, release, rerun: of a job, one task of it, or one index.

use super::{Answer, Apply};
use crate::command::Target;
use crate::dag::Parents;
use crate::model::attempt::StopReason;
use crate::model::ids::{IndexRef, JobId, TaskNo, Token};
use crate::model::job::IndexState;
use crate::model::time::Tick;
use crate::reply::{Rejection, Reply};
use crate::state::job::{Job, Phase};
use crate::state::rows::Key;

impl Apply<'_> {
    /// The tasks a target speaks of.
    fn tasks_of(&self, target: &Target) -> Result<Vec<TaskNo>, Rejection> {
        let job = self.state.jobs.get(&target.job).ok_or(Rejection::NoJob(target.job))?;
        let Some(no) = target.task else { return Ok((0..job.tasks.len() as u32).map(TaskNo).collect()) };
        let run = job.tasks.get(no.0 as usize).ok_or(Rejection::NoTask { job: job.id, task: no.0 })?;
        match target.index {
            Some(index) if index >= run.indices.len() => Err(Rejection::NoIndex {
                job: job.id,
                task: job.spec.tasks[no.0 as usize].name.to_string(),
                index,
                last: run.indices.len() - 1,
            }),
            _ => Ok(vec![no]),
        }
    }

    fn live_of(&self, target: &Target) -> Vec<Token> {
        self.state.live_of_job(target.job).filter(|a| covers(target, a.at)).map(|a| a.token).collect()
    }

    fn refuse_finished(&self, target: &Target, verb: &str) -> Result<(), Rejection> {
        let job = &self.state.jobs[&target.job];
        if !job.state().is_terminal() {
            return Ok(());
        }
        Err(Rejection::WrongState {
            job: job.id,
            state: job.state().as_str().to_owned(),
            verb: verb.to_owned(),
        })
    }

    /// Final from the moment it is acknowledged: a result that is accepted later does not win (I10).
    pub(super) fn cancel(&mut self, target: &Target) -> Answer {
        let tasks = self.tasks_of(target)?;
        self.refuse_finished(target, "cancelled")?;
        let mut indices = 0;
        if target.task.is_none() {
            self.job_mut(target.job).cancelled = true;
            self.touch(Key::Job(target.job));
        }
        for token in self.live_of(target) {
            indices += u64::from(self.stop_attempt(token, StopReason::Cancel));
        }
        for no in tasks {
            let run = self.job_mut(target.job).task_mut(no);
            let waits = |s| matches!(s, IndexState::Pending | IndexState::Held);
            match target.index {
                Some(i) if run.indices.state(i).is_some_and(waits) => {
                    run.indices.set(i, IndexState::Cancelled);
                    indices += 1;
                }
                Some(_) => {}
                None => indices += u64::from(run.indices.set_all(IndexState::Cancelled, waits)),
            }
            self.touch_all(target.job, no);
            self.changes.reread(target.job, no);
            self.close_if_done(target.job, no);
        }
        Ok(Reply::Changed { indices })
    }

    /// What runs goes on; nothing more of it is placed.
    pub(super) fn hold(&mut self, target: &Target) -> Answer {
        let tasks = self.tasks_of(target)?;
        self.refuse_finished(target, "held")?;
        let mut indices = 0;
        if target.task.is_none() {
            self.job_mut(target.job).held = true;
            self.touch(Key::Job(target.job));
        }
        for no in tasks {
            let run = self.job_mut(target.job).task_mut(no);
            indices += u64::from(run.indices.count(IndexState::Pending));
            match (target.task, target.index) {
                (Some(_), Some(i)) if run.indices.state(i) == Some(IndexState::Pending) => {
                    run.indices.set(i, IndexState::Held);
                }
                (Some(_), None) => run.held = true,
                _ => {}
            }
            self.touch_all(target.job, no);
            self.changes.reread(target.job, no);
        }
        Ok(Reply::Changed { indices })
    }

    pub(super) fn release(&mut self, target: &Target) -> Answer {
        let tasks = self.tasks_of(target)?;
        self.refuse_finished(target, "released")?;
        let mut indices = 0;
        if target.task.is_none() {
            self.job_mut(target.job).held = false;
            self.touch(Key::Job(target.job));
        }
        for no in tasks {
            let run = self.job_mut(target.job).task_mut(no);
            if target.index.is_none() {
                run.held = false;
            }
            let held: Vec<u32> =
                run.indices.ranges(IndexState::Held).into_iter().flat_map(|(a, b)| a..=b).collect();
            for i in held.into_iter().filter(|i| target.index.is_none_or(|t| t == *i)) {
                run.indices.set(i, IndexState::Pending);
                let memory = run.indices.remember(i);
                memory.lost = 0;
                memory.launch = 0;
                memory.device = 0;
                indices += 1;
            }
            run.reason = None;
            self.touch_all(target.job, no);
            self.changes.reread(target.job, no);
        }
        Ok(Reply::Changed { indices })
    }

    /// Indices that failed, were skipped or cancelled wait again; what succeeded stays. Parents are counted anew. An index that runs again
    /// begins from its newest checkpoint that is kept, as after any other end.
    pub(super) fn rerun(&mut self, target: &Target) -> Answer {
        let tasks = self.tasks_of(target)?;
        let job = self.job_mut(target.job);
        let mut indices = 0;
        for no in &tasks {
            let run = job.task_mut(*no);
            let bad = |s| matches!(s, IndexState::Failed | IndexState::Skipped | IndexState::Cancelled);
            let picked: Vec<u32> = run
                .indices
                .runs()
                .into_iter()
                .filter(|r| bad(r.2))
                .flat_map(|r| r.0..=r.1)
                .filter(|i| target.index.is_none_or(|t| t == *i))
                .collect();
            for i in picked {
                run.indices.set(i, IndexState::Pending);
                if run.indices.memory(i).is_some() {
                    let memory = run.indices.remember(i);
                    (memory.charged, memory.lost, memory.launch, memory.device) = (0, 0, 0, 0);
                    memory.not_before = Tick(0);
                }
                indices += 1;
            }
        }
        if indices == 0 {
            let (id, state) = (job.id, job.state().as_str().to_owned());
            return Err(Rejection::WrongState {
                job: id,
                state,
                verb: "rerun: nothing in it failed".to_owned(),
            });
        }
        reopen(job);
        self.touch(Key::Job(target.job));
        let all: Vec<TaskNo> = (0..self.state.jobs[&target.job].tasks.len() as u32).map(TaskNo).collect();
        for no in &all {
            self.touch_all(target.job, *no);
            self.changes.reread(target.job, *no);
        }
        for no in all {
            self.consider(target.job, no);
        }
        Ok(Reply::Changed { indices })
    }

    fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.state.jobs.get_mut(&id).expect("tasks_of found it")
    }
}

fn covers(target: &Target, at: IndexRef) -> bool {
    target.task.is_none_or(|t| t == at.task) && target.index.is_none_or(|i| i == at.index)
}

/// Puts every task that is not done back to waiting and counts its parents anew.
fn reopen(job: &mut Job) {
    job.cancelled = false;
    job.ended = None;
    job.first_failure = None;
    let spec = job.spec.clone();
    for run in &mut job.tasks {
        run.parents = Parents::default();
        if !run.indices.is_over() {
            run.phase = Phase::Waiting;
            run.reason = None;
        }
    }
    let outcomes: Vec<_> = job.tasks.iter().map(super::super::job::TaskRun::outcome).collect();
    for (no, task) in spec.tasks.iter().enumerate() {
        for need in &*task.needs {
            if let Some(outcome) = outcomes[need.task.0 as usize] {
                job.tasks[no].parents.count(outcome, need.when);
            }
        }
    }
    job.open = outcomes.iter().filter(|o| o.is_none()).count() as u32;
    job.first_failure = job
        .tasks
        .iter()
        .filter(|t| t.outcome() == Some(crate::model::job::TaskOutcome::Failed))
        .find_map(|t| {
            t.indices.ranges(IndexState::Failed).first().and_then(|r| t.indices.memory(r.0)?.cause.clone())
        });
}
