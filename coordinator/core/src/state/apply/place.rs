//! The plan, checked again: capacity, lease and state. Constraints and scores were the scheduler's; they never run here.

use super::{Answer, Apply};
use crate::command::Placement;
use crate::event::Event;
use crate::model::attempt::{Attempt, AttemptState, RankState, StopReason, first_worker};
use crate::model::checkpoint::Progress;
use crate::model::ids::Token;
use crate::model::job::IndexState;
use crate::model::placement::{Seat, Share};
use crate::model::resources::Resources;
use crate::model::worker::WorkerState;
use crate::reply::Reply;
use crate::state::job::Phase;
use crate::state::rows::Key;
use crate::state::store::Used;

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
                    placement.seats.iter().for_each(|seat| self.touched.add(Key::Worker(seat.worker)));
                }
            }
        }
        Ok(Reply::Placed { accepted, refused })
    }

    fn fits(&self, placement: &Placement) -> bool {
        let at = placement.at;
        let Some(job) = self.state.jobs.get(&at.job) else { return false };
        let Some(run) = job.tasks.get(at.task.0 as usize) else { return false };
        let task = &job.spec.tasks[at.task.0 as usize];
        let common = job.common(at.task);
        !job.held
            && !job.cancelled
            && !run.held
            && run.phase == Phase::Open
            && run.indices.state(at.index) == Some(IndexState::Pending)
            && run.indices.memory(at.index).is_none_or(|m| m.not_before <= self.stamp.tick)
            && task.max_running().is_none_or(|max| run.indices.count(IndexState::Live) < max)
            && common.takes_seats(placement.seats.len())
            && self.may_meet(placement, common.gang.is_some())
            && placement.seats.iter().all(|seat| self.has_room(seat, &common.resources))
    }

    /// Whether the worker can take this seat beside what is on it.
    fn has_room(&self, seat: &Seat, resources: &Resources) -> bool {
        let Some(worker) = self.state.workers.get(&seat.worker) else { return false };
        let none = Used::default();
        let used = self.state.loads.get(&seat.worker).map_or(&none, |load| &load.used);
        let milli = resources.gpus.as_ref().map_or(0, |g| g.amount.milli());
        let shares_free = seat.devices.iter().enumerate().all(|(i, share)| {
            let device = worker.spec.devices.get(usize::from(share.device));
            share.milli == milli
                && seat.devices[..i].iter().all(|other| other.device != share.device)
                && device.is_some_and(|d| !d.absent && used.has_room(share, d.memory))
        });
        worker.state == WorkerState::Ready
            && used.cpu_milli + resources.cpu_milli <= worker.spec.cpu_milli
            && used.memory + resources.memory <= worker.spec.memory
            && used.disk + resources.disk <= worker.spec.disk
            && seat.devices.len() as u32 == resources.gpu_count()
            && shares_free
    }

    /// The seat as it is granted: its shares say their memory in bytes.
    fn granted(&self, seat: &Seat) -> Seat {
        let devices = self.state.workers.get(&seat.worker).map(|w| &w.spec.devices);
        let total = |s: &Share| devices.and_then(|d| d.get(usize::from(s.device))).map_or(0, |d| d.memory);
        Seat { worker: seat.worker, devices: seat.devices.iter().map(|s| s.of(total(s))).collect() }
    }

    /// The fencing token is `max(last + 1, log index)`: one a grant, it only grows.
    fn grant(&mut self, placement: &Placement) -> Token {
        let at = placement.at;
        let token = Token((self.state.meta.last_token + 1).max(self.index));
        self.state.meta.last_token = token.0;
        let stamp = self.stamp;
        let mut number = 1;
        let seats: Vec<Seat> = placement.seats.iter().map(|seat| self.granted(seat)).collect();
        let mut ranks = Vec::new();
        if let Some(job) = self.state.jobs.get_mut(&at.job) {
            if job.started.is_none() {
                job.started = Some(stamp);
                self.touched.add(Key::Job(at.job));
            }
            let run = job.task_mut(at.task);
            number += run.indices.memory(at.index).map_or(0, |m| m.attempts);
            run.indices.set(at.index, IndexState::Live);
            if job.common(at.task).gang.is_some() {
                ranks = vec![RankState::Starting; seats.len()];
            }
        }
        let worker = first_worker(&seats);
        let resumed = self.state.checkpoints(at).last().map(|newest| newest.step);
        self.state.link(Attempt {
            at,
            number,
            token,
            seats,
            port: placement.port,
            ranks,
            failed: None,
            artifacts: Vec::new(),
            state: AttemptState::Starting,
            stop: None,
            asked: None,
            placed: stamp,
            started: None,
            progress: Progress { resumed, ..Progress::default() },
        });
        self.touch(Key::Live(token));
        self.count_attempt(token);
        self.events.push(Event::AttemptPlaced { at, number, token, worker });
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
            attempt.asked = attempt.asked.or(Some(self.stamp));
            attempt.state = AttemptState::Stopping;
            self.touch(Key::Live(token));
        }
        replaces
    }
}
