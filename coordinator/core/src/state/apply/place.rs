//! The plan, checked again: capacity, lease and state. Constraints and scores were the scheduler's; they never run here.

use super::{Answer, Apply};
use crate::command::Placement;
use crate::event::Event;
use crate::model::attempt::{Attempt, AttemptState, StopReason};
use crate::model::ids::Token;
use crate::model::job::IndexState;
use crate::model::worker::WorkerState;
use crate::reply::Reply;
use crate::state::job::Phase;
use crate::state::rows::Key;

impl Apply<'_> {
    pub(super) fn apply_plan(&mut self, placements: &[Placement]) -> Answer {
        let mut accepted = Vec::with_capacity(placements.len());
        let mut refused = 0;
        for placement in placements {
            if self.fits(placement) && self.in_service(placement) && self.breakers_let_pass(placement) {
                let token = self.grant(placement);
                self.mark_probes(placement, token);
                accepted.push(token);
            } else {
                refused += 1;
                if self.state.jobs.contains_key(&placement.at.job) {
                    self.changes.reread(placement.at.job, placement.at.task);
                    self.touch(Key::Worker(placement.worker));
                }
            }
        }
        Ok(Reply::Placed { accepted, refused })
    }

    fn fits(&self, placement: &Placement) -> bool {
        let at = placement.at;
        let Some(job) = self.state.jobs.get(&at.job) else { return false };
        let Some(run) = job.tasks.get(at.task.0 as usize) else { return false };
        let Some(worker) = self.state.workers.get(&placement.worker) else { return false };
        let task = &job.spec.tasks[at.task.0 as usize];
        let resources = &job.common(at.task).resources;
        let used = self.state.loads.get(&placement.worker).map(|load| &load.used);
        let (cpu, memory, disk) = used.map_or((0, 0, 0), |u| (u.cpu_milli, u.memory, u.disk));
        let devices_free = placement.devices.iter().enumerate().all(|(i, d)| {
            usize::from(*d) < worker.spec.devices.len()
                && !placement.devices[..i].contains(d)
                && used.is_none_or(|u| !u.devices.contains(d))
        });
        !job.held
            && !job.cancelled
            && !run.held
            && run.phase == Phase::Open
            && run.indices.state(at.index) == Some(IndexState::Pending)
            && run.indices.memory(at.index).is_none_or(|m| m.not_before <= self.stamp.tick)
            && task.max_running().is_none_or(|max| run.indices.count(IndexState::Live) < max)
            && worker.state == WorkerState::Ready
            && cpu + resources.cpu_milli <= worker.spec.cpu_milli
            && memory + resources.memory <= worker.spec.memory
            && disk + resources.disk <= worker.spec.disk
            && placement.devices.len() as u32 == resources.gpu_count()
            && devices_free
    }

    /// The fencing token is `max(last + 1, log index)`: one a grant, it only grows.
    fn grant(&mut self, placement: &Placement) -> Token {
        let at = placement.at;
        let token = Token((self.state.meta.last_token + 1).max(self.index));
        self.state.meta.last_token = token.0;
        let stamp = self.stamp;
        let mut number = 1;
        if let Some(job) = self.state.jobs.get_mut(&at.job) {
            if job.started.is_none() {
                job.started = Some(stamp);
                self.touched.add(Key::Job(at.job));
            }
            let run = job.task_mut(at.task);
            number += run.indices.memory(at.index).map_or(0, |m| m.attempts);
            run.indices.set(at.index, IndexState::Live);
        }
        self.state.link(Attempt {
            at,
            number,
            token,
            worker: placement.worker,
            devices: placement.devices.clone(),
            state: AttemptState::Starting,
            stop: None,
            placed: stamp,
            started: None,
        });
        self.touch(Key::Live(token));
        self.events.push(Event::AttemptPlaced { at, number, token, worker: placement.worker });
        token
    }

    /// Asks attempts to stop. The first reason stays, but a cancel replaces it.
    pub(super) fn stop_attempts(&mut self, tokens: &[Token], reason: StopReason) -> Answer {
        let mut indices = 0;
        for token in tokens {
            indices += u64::from(self.stop_attempt(*token, reason));
        }
        Ok(Reply::Changed { indices })
    }

    pub(super) fn stop_attempt(&mut self, token: Token, reason: StopReason) -> bool {
        let Some(attempt) = self.state.live.get_mut(&token) else { return false };
        let replaces =
            attempt.stop.is_none() || (reason == StopReason::Cancel && attempt.stop != Some(reason));
        if replaces {
            attempt.stop = Some(reason);
            attempt.state = AttemptState::Stopping;
            self.touch(Key::Live(token));
        }
        replaces
    }
}
