//! The pools as configured, how far their scaling has got, and the workers that go for it.

use super::{Answer, Apply};
use crate::event::Event;
use crate::model::breaker::BreakerKey;
use crate::model::fleet::{Fleet, PoolScale};
use crate::model::ids::WorkerId;
use crate::model::worker::{Drain, Incarnation, WorkerState};
use crate::reply::{Rejection, Reply};
use crate::state::rows::Key;

impl Apply<'_> {
    pub(super) fn set_fleet(&mut self, fleet: &Fleet) -> Answer {
        if self.state.fleet != *fleet {
            self.state.fleet = fleet.clone();
            self.touch(Key::Fleet);
            self.count_prices();
        }
        let gone: Vec<String> =
            self.state.scales.keys().filter(|name| !fleet.pools.contains_key(*name)).cloned().collect();
        for name in gone {
            self.state.scales.remove(&name);
            self.touch(Key::Scale(name));
        }
        Ok(Reply::Done)
    }

    pub(super) fn scale(&mut self, pool: &str, based_on: u64, scale: &PoolScale) -> Answer {
        let old = self.state.scales.get(pool);
        let is = old.map_or(0, |old| old.generation);
        if is != based_on || !self.state.fleet.pools.contains_key(pool) {
            return Err(Rejection::OldScale { pool: pool.to_owned(), is, based_on });
        }
        // One entry may hold several commands; a generation is given once.
        let generation = self.index.max(is + 1);
        self.state.scales.insert(pool.to_owned(), PoolScale { generation, ..scale.clone() });
        self.touch(Key::Scale(pool.to_owned()));
        Ok(Reply::Done)
    }

    /// Whoever got work since it was chosen goes all the same, by its deadline: what runs there is evicted as in any drain, and commits
    /// before. What is drained already keeps its own reason, and its machine.
    pub(super) fn scale_in(
        &mut self,
        workers: &[(WorkerId, Incarnation)],
        deadline_ms: u64,
        reason: &str,
    ) -> Answer {
        let mut chosen = 0;
        for (id, incarnation) in workers {
            let empty = self.state.tokens_of(*id).is_empty();
            let Some(worker) = self.state.workers.get_mut(id) else { continue };
            let stays = worker.state == WorkerState::Lost || worker.drain.is_some();
            if stays || worker.incarnation != *incarnation {
                continue;
            }
            let deadline = Some(self.stamp.tick.plus(deadline_ms));
            worker.drain = Some(Drain { deadline, reason: reason.to_owned(), leaves: true });
            worker.state = worker.standing(empty);
            worker.changed = self.stamp;
            chosen += 1;
            self.touch(Key::Worker(*id));
            self.events.push(Event::WorkerChanged { worker: *id });
        }
        Ok(Reply::Changed { indices: chosen })
    }

    /// Its name may come again, as a new worker with another id.
    pub(super) fn forget(&mut self, id: WorkerId, incarnation: Option<&Incarnation>) -> Answer {
        let worker = self.state.workers.get(&id).ok_or(Rejection::NoWorker(id))?;
        if let Some(other) = incarnation.filter(|incarnation| worker.incarnation != **incarnation) {
            return Err(Rejection::OldIncarnation { got: other.0.clone() });
        }
        let live = self.state.tokens_of(id).len();
        let is_gone = matches!(worker.state, WorkerState::Lost | WorkerState::Drained);
        if !is_gone || live > 0 {
            let state = worker.state.as_str().to_owned();
            return Err(Rejection::WorkerInUse { worker: id, state, live });
        }
        let (name, pool) = (worker.spec.name.clone(), worker.spec.pool.clone());
        let was_there = worker.state != WorkerState::Lost;
        self.state.workers.remove(&id);
        self.state.loads.remove(&id);
        self.count_worker_as_it_is(id);
        if self.state.names.get(&name) == Some(&id) {
            self.state.names.remove(&name);
        }
        if was_there {
            self.went(&pool);
        }
        if self.state.breakers.remove(&BreakerKey::Worker(id)).is_some() {
            self.touch(Key::Breaker(BreakerKey::Worker(id)));
        }
        self.touch(Key::Worker(id));
        self.events.push(Event::WorkerChanged { worker: id });
        Ok(Reply::Done)
    }
}
