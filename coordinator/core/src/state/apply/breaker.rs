//! Circuit breakers: who is blamed for an end, which placement is a probe, and what its end says.

use super::Apply;
use crate::command::Placement;
use crate::event::Event;
use crate::model::attempt::{Attempt, Cause};
use crate::model::breaker::{Breaker, BreakerKey, FAST_MS, Failure, Gate};
use crate::model::ids::{IndexRef, TaskNo, Token, WorkerId};
use crate::model::job_spec::JobSpec;
use crate::model::placement::Seat;
use crate::model::worker::WorkerState;
use crate::state::rows::Key;

/// The breaker of a command: jobs of one queue and name that run the same in the same workdir share it.
#[must_use]
pub fn command_key(spec: &JobSpec, no: TaskNo) -> BreakerKey {
    let run = spec.task(no).map(|task| &task.run);
    let bytes = postcard::to_extend(&(&spec.queue, &spec.name, run, &spec.workdir), Vec::new());
    let digest = blake3::hash(&bytes.unwrap_or_default());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    BreakerKey::Command(u64::from_be_bytes(first))
}

fn workers_of(seats: &[Seat]) -> Vec<WorkerId> {
    seats.iter().map(|seat| seat.worker).collect()
}

impl Apply<'_> {
    /// Whether no breaker is in the way of this placement.
    pub(super) fn breakers_let_pass(&self, placement: &Placement) -> bool {
        // Nearly always there are none, and a digest costs more than all else that is checked here.
        if self.state.breakers.is_empty() {
            return true;
        }
        let keys = self.breaker_keys(placement.at, workers_of(&placement.seats));
        keys.iter()
            .all(|key| self.state.breakers.get(key).is_none_or(|b| b.gate(self.stamp.tick).lets_pass()))
    }

    /// A placement that a half-open breaker let pass is its probe.
    pub(super) fn mark_probes(&mut self, placement: &Placement, token: Token) {
        if self.state.breakers.is_empty() {
            return;
        }
        for key in self.breaker_keys(placement.at, workers_of(&placement.seats)) {
            let Some(breaker) = self.state.breakers.get_mut(&key) else { continue };
            if breaker.gate(self.stamp.tick) == Gate::HalfOpen {
                breaker.probe = Some(token);
                self.touch(Key::Breaker(key));
            }
        }
    }

    fn breaker_keys(&self, at: IndexRef, workers: Vec<WorkerId>) -> Vec<BreakerKey> {
        let command = self.state.jobs.get(&at.job).map(|job| command_key(&job.spec, at.task));
        workers.into_iter().map(BreakerKey::Worker).chain(command).collect()
    }

    /// An attempt ended. Its own failures count when they came fast; what we did to it says nothing of anybody.
    pub(super) fn blame_end(&mut self, attempt: &Attempt, cause: &Cause) {
        let ran = attempt.started.map(|at| self.stamp.tick.since(at.tick));
        let is_fast = ran.is_none_or(|ms| ms < FAST_MS);
        let failed = match cause {
            Cause::Exit(0) => return self.clear_breakers(attempt),
            Cause::Exit(_) | Cause::Signal(_) | Cause::Launch(_) => is_fast,
            _ => false,
        };
        // One that ran for long did get to its work, whatever came of it.
        let proved = !is_fast && cause.is_charged();
        if failed {
            self.blame(attempt);
        } else if !self.state.breakers.is_empty() {
            self.end_probe(attempt, proved);
        }
    }

    fn blame(&mut self, attempt: &Attempt) {
        let Some(job) = self.state.jobs.get(&attempt.at.job) else { return };
        let command = command_key(&job.spec, attempt.at.task);
        let BreakerKey::Command(digest) = command else { return };
        let workers = workers_of(&attempt.seats);
        let tick = self.stamp.tick;
        // Of a gang nobody knows which worker it was.
        if let [worker] = workers[..] {
            self.count_failure(
                BreakerKey::Worker(worker),
                attempt.token,
                Failure::Fast { tick, other: digest },
            );
        }
        if let Some(worker) = workers.first() {
            self.count_failure(command, attempt.token, Failure::Fast { tick, other: worker.0 });
        }
        if workers.len() > 1 {
            self.end_probe(attempt, false);
        }
    }

    /// The worker was lost.
    pub(super) fn blame_loss(&mut self, worker: WorkerId) {
        let failure = Failure::Lost { tick: self.stamp.tick };
        self.count_failure(BreakerKey::Worker(worker), Token(0), failure);
    }

    fn count_failure(&mut self, key: BreakerKey, token: Token, failure: Failure) {
        let (stamp, may_open) = (self.stamp, self.may_open(key));
        let breaker = self.state.breakers.entry(key).or_default();
        match breaker.probe == Some(token) {
            true if may_open => breaker.probe_failed(key, stamp),
            true => *breaker = Breaker::default(),
            false => {
                breaker.failed(key, failure, stamp, may_open);
            }
        }
        self.touch(Key::Breaker(key));
        if let BreakerKey::Worker(worker) = key {
            self.events.push(Event::WorkerChanged { worker });
        }
    }

    /// A worker is left alone only while another one takes work: on the last one it would hold up everything and find out nothing.
    fn may_open(&self, key: BreakerKey) -> bool {
        let BreakerKey::Worker(worker) = key else { return true };
        self.state.workers.values().any(|other| {
            let breaker = self.state.breakers.get(&BreakerKey::Worker(other.id));
            other.id != worker
                && other.state == WorkerState::Ready
                && breaker.is_none_or(|b| b.gate(self.stamp.tick) == Gate::Closed)
        })
    }

    /// A success: nothing is wrong with its worker, nor with its command. That the worker was lost stays remembered.
    fn clear_breakers(&mut self, attempt: &Attempt) {
        if self.state.breakers.is_empty() {
            return;
        }
        for key in self.breaker_keys(attempt.at, workers_of(&attempt.seats)) {
            let Some(breaker) = self.state.breakers.get_mut(&key) else { continue };
            breaker.failures.retain(|f| matches!(f, Failure::Lost { .. }));
            if breaker.failures.is_empty() {
                self.state.breakers.remove(&key);
            } else if breaker.probe == Some(attempt.token) {
                let failures = std::mem::take(&mut breaker.failures);
                *breaker = Breaker { failures, ..Breaker::default() };
            }
            self.touch(Key::Breaker(key));
        }
    }

    /// The probe ended without an answer: the next one asks again. Or it proved enough.
    fn end_probe(&mut self, attempt: &Attempt, proved: bool) {
        for key in self.breaker_keys(attempt.at, workers_of(&attempt.seats)) {
            let Some(breaker) = self.state.breakers.get_mut(&key) else { continue };
            if breaker.probe != Some(attempt.token) {
                continue;
            }
            breaker.probe = None;
            if proved {
                self.state.breakers.remove(&key);
            }
            self.touch(Key::Breaker(key));
        }
    }

    /// Breakers in which nothing matters any more.
    pub(super) fn forget_breakers(&mut self) {
        let now = self.stamp.tick;
        let stale: Vec<BreakerKey> =
            self.state.breakers.iter().filter(|(_, b)| b.is_stale(now)).map(|(key, _)| *key).collect();
        for key in stale {
            self.state.breakers.remove(&key);
            self.touch(Key::Breaker(key));
        }
    }
}
