//! What is too old leaves memory: finished jobs, their checkpoints, their requests, staged parts nobody completed. History rows stay on
//! disk; the bytes of checkpoints are the shell's to remove: it looks which jobs the store holds something of and the state does not.

use super::{Answer, Apply};
use crate::model::budget::Scope;
use crate::model::ids::{IndexRef, JobId, TaskNo};
use crate::model::time::Tick;
use crate::reply::Reply;
use crate::state::rows::Key;

/// A request without a job, or whose job is gone, is remembered at least this long, ms.
pub const REQUEST_MS: u64 = 24 * 3600 * 1000;
/// A staged part waits this long for its submission, ms.
pub const PART_MS: u64 = 10 * 60 * 1000;
/// Finished jobs above this many leave memory, oldest first, even before their time.
pub const FINISHED_MAX: usize = 10_000;

impl Apply<'_> {
    /// Jobs that ended before `before` go, and the oldest finished ones above [`FINISHED_MAX`].
    pub(super) fn retire(&mut self, before: Tick) -> Answer {
        let finished: Vec<(JobId, Tick)> =
            self.state.jobs.values().filter_map(|j| j.ended.map(|e| (j.id, e.tick))).collect();
        let surplus = finished.len().saturating_sub(FINISHED_MAX);
        let gone: Vec<JobId> = finished
            .iter()
            .enumerate()
            .filter(|(n, (_, t))| *n < surplus || *t < before)
            .map(|(_, (id, _))| *id)
            .collect();
        for id in &gone {
            self.retire_job(*id);
        }
        let now = self.stamp.tick;
        let jobs = &self.state.jobs;
        let requests: Vec<String> = self
            .state
            .requests
            .iter()
            .filter(|(_, r)| now.since(r.tick) > REQUEST_MS && r.job.is_none_or(|j| !jobs.contains_key(&j)))
            .map(|(k, _)| k.clone())
            .collect();
        for key in requests {
            self.state.requests.remove(&key);
            self.touch(Key::Request(key));
        }
        let parts: Vec<(String, u32)> = self
            .state
            .parts
            .iter()
            .filter(|(_, p)| now.since(p.tick) > PART_MS)
            .map(|(k, _)| k.clone())
            .collect();
        for key in parts {
            self.state.parts.remove(&key);
            self.touch(Key::Part(key.0, key.1));
        }
        self.forget_breakers();
        let touched = &mut self.touched;
        self.state.ledger.drop_old(&mut |key| touched.add(key));
        Ok(Reply::Changed { indices: gone.len() as u64 })
    }

    fn retire_job(&mut self, id: JobId) {
        let tasks = self.state.jobs.get(&id).map_or(0, |j| j.tasks.len() as u32);
        for no in (0..tasks).map(TaskNo) {
            let indices = &self.state.jobs[&id].task(no).indices;
            let artifacts: Vec<u32> = indices.with_artifacts().collect();
            self.touch_all(id, no);
            artifacts.into_iter().for_each(|i| self.touch(Key::Artifacts(id, no, i)));
        }
        let of_job = IndexRef::new(id, TaskNo(0), 0)..=IndexRef::new(id, TaskNo(u32::MAX), u32::MAX);
        let saved: Vec<IndexRef> = self.state.checkpoints.range(of_job).map(|(at, _)| *at).collect();
        for at in saved {
            self.state.checkpoints.remove(&at);
            self.touch(Key::Checkpoints(at));
        }
        self.touch(Key::Spec(id));
        self.touch(Key::Job(id));
        self.touch(Key::Spent(id));
        self.state.ledger.jobs.remove(&id);
        if self.state.ledger.budgets.remove(&Scope::Job(id)).is_some() {
            self.touch(Key::Budget(Scope::Job(id)));
        }
        self.state.jobs.remove(&id);
    }
}
