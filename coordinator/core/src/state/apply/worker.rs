//! Workers come, return, are lost, drain.

use super::inventory::{keep_numbers, vanished};
use super::{Answer, Apply};
use crate::event::Event;
use crate::model::attempt::{Cause, StopReason};
use crate::model::ids::{Token, WorkerId};
use crate::model::worker::{Drain, Incarnation, Worker, WorkerSpec, WorkerState};
use crate::reply::{Rejection, Reply};
use crate::state::rows::Key;

impl Apply<'_> {
    /// A worker keeps its id by its name.
    ///
    /// A new incarnation knows nothing of the old one's attempts, and is never told to start them. But its coming ends none of them: a
    /// registration can be committed long after it was made (a stopped member held it, a new leader inherited it), and then the
    /// incarnation in it is dead and the one before it lives, with its processes. Giving their indices away here would start a second
    /// process beside a first that has a valid lease (I3). What the living incarnation does not hold ends `lost` by the leader's lease
    /// timer, as after any silence; a machine that comes back from a reboot is seldom faster than that.
    pub(super) fn register(
        &mut self,
        spec: &WorkerSpec,
        incarnation: &Incarnation,
        _held: &[Token],
    ) -> Answer {
        let id = match self.state.names.get(&spec.name) {
            Some(id) => *id,
            None => {
                self.state.meta.last_worker += 1;
                WorkerId(self.state.meta.last_worker)
            }
        };
        let old = self.state.workers.get(&id).cloned();
        let same = old.as_ref().is_some_and(|w| w.incarnation == *incarnation);
        let former = old.as_ref().filter(|_| same).map_or(self.state.last_token(), |w| w.former);
        let drain = old.as_ref().and_then(|w| w.drain.clone());
        // Another incarnation is another machine, or this one after a reboot: it went, and is here again.
        let notice = old.as_ref().filter(|_| same).and_then(|w| w.notice.clone());
        let empty = self.state.tokens_of(id).is_empty();
        let mut worker = Worker {
            id,
            spec: spec.clone(),
            incarnation: incarnation.clone(),
            former,
            events_seen: old.as_ref().filter(|_| same).map_or(0, |w| w.events_seen),
            state: WorkerState::Ready,
            drain,
            notice,
            joined: old.as_ref().map_or(self.stamp, |w| w.joined),
            changed: self.stamp,
        };
        worker.state = worker.standing(empty);
        let unchanged = old.as_ref().is_some_and(|w| same && w.spec == *spec && w.state == worker.state);
        if !unchanged {
            if same {
                self.keep_amounts(id, former, &mut worker.spec);
            }
            let before = old.as_ref().map_or(&[][..], |old| &old.spec.devices);
            let gone = vanished(before, &worker.spec.devices);
            if !empty {
                keep_numbers(before, &mut worker.spec.devices);
            }
            self.count_worker(old.as_ref(), &worker);
            self.state.names.insert(spec.name.clone(), id);
            self.state.workers.insert(id, worker);
            self.count_worker_as_it_is(id);
            self.events.push(Event::WorkerChanged { worker: id });
            // Of the same boot of the same machine: it was there a moment ago, and no driver says why it is not now.
            gone.iter().filter(|_| same).for_each(|uuid| self.device_vanished(id, uuid));
        }
        self.touch(Key::Worker(id));
        Ok(Reply::Registered { worker: id })
    }

    /// In the books of its pool. One that comes back as another before its lease was over was lost all the same.
    fn count_worker(&mut self, old: Option<&Worker>, new: &Worker) {
        let (pool, heard) = (&new.spec.pool, old.filter(|w| w.state != WorkerState::Lost));
        let Some(old) = heard else { return self.came(pool) };
        if old.incarnation != new.incarnation && !old.is_reclaimed() && old.state != WorkerState::Drained {
            self.count_loss(&old.spec.pool);
        }
        if old.spec.pool != *pool {
            self.went(&old.spec.pool);
            self.came(pool);
        }
    }

    /// While its own attempts live on it, an incarnation does not shrink in the books below what they take: else it would give more
    /// than it has. An older incarnation's are not its own; they only take room until they end.
    fn keep_amounts(&self, id: WorkerId, former: Token, spec: &mut WorkerSpec) {
        let used = self.state.used_after(id, former);
        spec.cpu_milli = spec.cpu_milli.max(used.cpu_milli);
        spec.memory = spec.memory.max(used.memory);
        spec.disk = spec.disk.max(used.disk);
    }

    pub(super) fn lose_worker(&mut self, id: WorkerId, incarnation: &Incarnation) -> Answer {
        let worker = self.state.workers.get_mut(&id).ok_or(Rejection::NoWorker(id))?;
        if worker.incarnation != *incarnation {
            return Err(Rejection::OldIncarnation { got: incarnation.0.clone() });
        }
        let was_lost = worker.state == WorkerState::Lost;
        // Whose going was announced is counted already, and one that was emptied first costs nobody anything.
        let counts = !worker.is_reclaimed() && worker.state != WorkerState::Drained;
        let pool = worker.spec.pool.clone();
        worker.state = WorkerState::Lost;
        worker.changed = self.stamp;
        self.count_worker_as_it_is(id);
        self.touch(Key::Worker(id));
        self.events.push(Event::WorkerChanged { worker: id });
        for token in self.state.tokens_of(id) {
            self.lose(token, id);
        }
        if !was_lost {
            self.blame_loss(id);
            if counts {
                self.count_loss(&pool);
            }
            self.went(&pool);
        }
        Ok(Reply::Done)
    }

    /// The worker is gone, and with it this rank of the attempt. A cancel that was acknowledged before is final all the same (I10).
    pub(super) fn lose(&mut self, token: Token, worker: WorkerId) {
        let Some(attempt) = self.state.live.get(&token).filter(|a| a.lives_on(worker)) else { return };
        let Some((rank, _)) = attempt.seat_on(worker) else { return };
        let cancelled = attempt.stop == Some(StopReason::Cancel);
        self.rank_ends(token, rank, if cancelled { Cause::Cancelled } else { Cause::Lost }, &[]);
    }

    pub(super) fn drain(&mut self, id: WorkerId, deadline_ms: Option<u64>, reason: &str) -> Answer {
        let empty = self.state.tokens_of(id).is_empty();
        let worker = self.state.workers.get_mut(&id).ok_or(Rejection::NoWorker(id))?;
        worker.drain = Some(Drain {
            deadline: deadline_ms.map(|ms| self.stamp.tick.plus(ms)),
            reason: reason.to_owned(),
            // Whoever drains what leaves already only says by when.
            leaves: worker.drain.as_ref().is_some_and(|drain| drain.leaves),
        });
        if worker.state != WorkerState::Lost {
            worker.state = worker.standing(empty);
        }
        worker.changed = self.stamp;
        self.touch(Key::Worker(id));
        self.events.push(Event::WorkerChanged { worker: id });
        Ok(Reply::Done)
    }

    /// A notice is another matter: it is withdrawn, not undrained.
    pub(super) fn undrain(&mut self, id: WorkerId) -> Answer {
        let empty = self.state.tokens_of(id).is_empty();
        let worker = self.state.workers.get_mut(&id).ok_or(Rejection::NoWorker(id))?;
        // Its machine may be ended at any moment: what was placed there now would be lost.
        if worker.state != WorkerState::Draining && worker.drain.as_ref().is_some_and(|drain| drain.leaves) {
            return Err(Rejection::WorkerLeaves { worker: id });
        }
        worker.drain = None;
        if worker.state != WorkerState::Lost {
            worker.state = worker.standing(empty);
        }
        worker.changed = self.stamp;
        self.touch(Key::Worker(id));
        self.events.push(Event::WorkerChanged { worker: id });
        Ok(Reply::Done)
    }
}
