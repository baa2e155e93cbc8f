//! Spot, on-demand or neither, for tasks with a deadline: the policy of `spot` fed with what this leader has seen of its pools.
//!
//! A pool of spot workers is looked at every ten minutes: is one of them ready, busy or not? What was seen is kept by the leader alone; a new
//! one begins anew, with what is usual.
//!
//! Left out: what runs is not moved. Prices: a spot worker is taken to be the cheaper one.

use super::board::Board;
use super::feasible::fits_empty;
use super::plan::Cycle;
use super::ranking::Ask;
use super::view::View;
use crate::command::Placement;
use crate::model::ids::IndexRef;
use crate::model::job_spec::Deadline;
use crate::model::time::Tick;
use crate::model::worker::WorkerSpec;
use crate::spot::{Choice, History, LOOK_MS, RESTART_MS, Runs, Standing, choose};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Pools that are remembered.
const POOLS_MAX: usize = 1_000;
/// Indices with a deadline that are looked at in one cycle; what is behind them waits for the next.
pub(super) const DEADLINES_MAX: usize = 4_096;

const SPOT: &str = "worker.spot";
const ON_DEMAND: &str = "!worker.spot";

/// A pool with spot workers.
#[derive(Debug, Clone)]
struct Pool {
    /// One of them: the workers of a pool are alike.
    like: WorkerSpec,
    history: History,
}

/// Pools with spot workers, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct SpotPools(BTreeMap<String, Pool>);

impl SpotPools {
    /// There is such a worker, whatever its state.
    pub(super) fn know(&mut self, spec: &WorkerSpec) {
        if !spec.spot {
            return;
        }
        if let Some(pool) = self.0.get_mut(&spec.pool) {
            pool.like.clone_from(spec);
        } else if self.0.len() < POOLS_MAX {
            let pool = Pool { like: spec.clone(), history: History::default() };
            self.0.insert(spec.pool.clone(), pool);
        }
    }

    /// One look at all of them; in these one is ready. A pool of which no worker is left is not forgotten: nothing is there.
    fn look(&mut self, ready: &BTreeSet<&str>) {
        for (name, pool) in &mut self.0 {
            pool.history.look(ready.contains(name.as_str()));
        }
    }
}

/// How an idle index stands that was submitted then and has saved so much run time.
pub(super) fn standing(deadline: &Deadline, submitted: Tick, worked_ms: u64, now: Tick) -> Standing {
    Standing {
        left_ms: submitted.plus(deadline.within_ms).since(now),
        // Longer than expected: how much is left nobody knows.
        work_ms: deadline.work_ms.saturating_sub(worked_ms).max(LOOK_MS.min(deadline.work_ms)),
        restart_ms: RESTART_MS,
        runs: Runs::Nothing,
    }
}

/// Whether it would wait for a spot worker, by what is usual; for people.
pub(super) fn would_wait(task: &Standing) -> bool {
    choose(&History::default(), false, task) == Choice::Wait
}

impl View {
    /// One look at the spot workers; due every [`LOOK_MS`].
    pub fn look_at_spot(&mut self) {
        let workers = self.workers.values().filter(|w| w.worker.spec.spot && Self::is_usable(w));
        let ready = workers.map(|w| w.worker.spec.pool.as_str()).collect();
        self.spot.look(&ready);
    }
}

impl Cycle {
    /// A place for an index with a deadline; none also when it is better to wait for a spot worker.
    pub(super) fn place_in_time(
        &mut self,
        view: &View,
        board: &mut Board,
        (ask, deadline): (&Ask, &Deadline),
        at: IndexRef,
    ) -> Option<Placement> {
        let worked = view.worked.get(&at).copied().unwrap_or(0);
        let task = standing(deadline, view.jobs.get(&at.job)?.submitted, worked, view.tick);
        let only = |text: &str| {
            let mut ask = ask.clone();
            ask.constraints.push(text.to_owned());
            ask
        };
        let spot = only(SPOT);
        // Whether a running one is worth leaving depends on the past; whether an idle task takes it does not.
        if choose(&History::default(), true, &task) == Choice::Spot
            && let Some(placement) = self.place(view, board, &spot, at)
        {
            return Some(placement);
        }
        let history = self.history(view, &spot);
        if history.is_some_and(|history| choose(history, false, &task) == Choice::Wait) {
            return None;
        }
        let on_demand = self.place(view, board, &only(ON_DEMAND), at);
        // None is free: a spot worker is better than nothing.
        on_demand.or_else(|| self.place(view, board, &spot, at))
    }

    /// Of the pools whose spot workers could take it, the one where one was there last, or comes most often; none: no such pool is known.
    fn history<'a>(&mut self, view: &'a View, ask: &Ask) -> Option<&'a History> {
        let could =
            |pool: &&Pool| fits_empty(&ask.resources, &pool.like) && self.facts.hold_of_kind(ask, &pool.like);
        let histories = view.spot.0.values().filter(could).map(|pool| &pool.history);
        histories.min_by_key(|h| (h.age(false), Reverse(h.spells_milli(LOOK_MS * 1_000))))
    }
}
