//! Spot, on-demand or neither, for tasks with a deadline: the policy of `spot` fed with what this leader has seen of its pools.
//!
//! A pool of spot workers is looked at every ten minutes: is one of them ready, busy or not? What was seen is kept by the leader alone; a new
//! one begins anew, with what is usual.
//!
//! Where workers say what they cost, a spot pool that is not cheaper is nothing to wait for; else it is taken to be cheaper.
//!
//! Left out: what runs is not moved.

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

/// The label of a worker that says what it costs an hour, USD.
const PRICE: &str = "usd_per_hour";
const SPOT: &str = "worker.spot";
const ON_DEMAND: &str = "!worker.spot";

/// A pool with spot workers.
#[derive(Debug, Clone)]
struct Pool {
    /// One of them: the workers of a pool are alike.
    like: WorkerSpec,
    history: History,
}

/// Pools by name: those with spot workers, and one worker of each of the others.
#[derive(Debug, Clone, Default)]
pub(super) struct SpotPools {
    spot: BTreeMap<String, Pool>,
    on_demand: BTreeMap<String, WorkerSpec>,
}

impl SpotPools {
    /// There is such a worker, whatever its state.
    pub(super) fn know(&mut self, spec: &WorkerSpec) {
        let (name, like) = (&spec.pool, spec.clone());
        if !spec.spot {
            if self.on_demand.len() < POOLS_MAX || self.on_demand.contains_key(name) {
                self.on_demand.insert(name.clone(), like);
            }
        } else if let Some(pool) = self.spot.get_mut(name) {
            pool.like = like;
        } else if self.spot.len() < POOLS_MAX {
            self.spot.insert(name.clone(), Pool { like, history: History::default() });
        }
    }

    /// One look at all of them; in these one is ready. A pool of which no worker is left is not forgotten: nothing is there.
    fn look(&mut self, ready: &BTreeSet<&str>) {
        for (name, pool) in &mut self.spot {
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

/// Millionths of a USD an hour, if the worker says so.
fn price(spec: &WorkerSpec) -> Option<u64> {
    let usd: f64 = spec.labels.get(PRICE)?.parse().ok()?;
    (usd.is_finite() && usd >= 0.0).then_some((usd * 1e6) as u64)
}

/// What tasks that ask for the same may expect of spot workers.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    spot: Ask,
    on_demand: Ask,
    /// Of the pools whose spot workers could take it, the one where one was there last, or comes most often; none: no such pool is known,
    /// or none that is cheaper.
    history: Option<History>,
}

impl Cycle {
    pub(super) fn outlook(&mut self, view: &View, ask: &Ask) -> Outlook {
        if let Some(outlook) = self.outlooks.get(ask) {
            return outlook.clone();
        }
        let only = |text: &str| {
            let mut ask = ask.clone();
            ask.constraints.push(text.to_owned());
            ask
        };
        let mut could =
            |spec: &WorkerSpec| fits_empty(&ask.resources, spec) && self.facts.hold_of_kind(ask, spec);
        let pools: Vec<&Pool> = view.spot.spot.values().filter(|pool| could(&pool.like)).collect();
        let others = view.spot.on_demand.values().filter(|spec| price(spec).is_some() && could(spec));
        let on_demand = others.filter_map(price).min();
        let spot = pools.iter().filter_map(|pool| price(&pool.like)).min();
        let is_dearer = spot.zip(on_demand).is_some_and(|(spot, on_demand)| spot >= on_demand);
        let histories = pools.iter().map(|pool| &pool.history).filter(|_| !is_dearer);
        let history = histories.min_by_key(|h| (h.age(false), Reverse(h.spells_milli(LOOK_MS * 1_000))));
        let outlook = Outlook { spot: only(SPOT), on_demand: only(ON_DEMAND), history: history.cloned() };
        self.outlooks.insert(ask.clone(), outlook.clone());
        outlook
    }

    /// A place for an index with a deadline; none also when it is better to wait for a spot worker.
    pub(super) fn place_in_time(
        &mut self,
        view: &View,
        board: &mut Board,
        (outlook, deadline): (&Outlook, &Deadline),
        at: IndexRef,
    ) -> Option<Placement> {
        let worked = view.worked.get(&at).copied().unwrap_or(0);
        let task = standing(deadline, view.jobs.get(&at.job)?.submitted, worked, view.tick);
        let Outlook { spot, on_demand, history } = outlook;
        if let Some(history) = history {
            if choose(history, true, &task) == Choice::Spot
                && let Some(placement) = self.place(view, board, spot, at)
            {
                return Some(placement);
            }
            if choose(history, false, &task) == Choice::Wait {
                return None;
            }
        }
        // Where no on-demand worker is free, a spot worker is better than nothing.
        self.place(view, board, on_demand, at).or_else(|| self.place(view, board, spot, at))
    }
}
