//! Pools, from the leader's side: once a second the situation is made of the view and of what providers said, and what was decided goes into
//! the log. Providers are given orders only for what is in the log, so that a new leader gives the same ones.
//!
//! Architecture invariants (I13): a machine is ended only when its worker is drained or lost in the log, and what leaves is never placed on
//! again; nothing is decided before the workers of an older leader have been heard, nor on what a provider said too long ago.

use super::drive::leaves;
use super::io::{Output, PoolUse, Signals};
use super::step::Leader;
use crate::autoscale::{Decision, GROUP_STALE_MS, GroupSeen, Machine, MachineState, Situation, decide, kind};
use crate::command::Command;
use crate::model::ids::{JobId, Token, WorkerId};
use crate::model::lease::LEADER_LEASE_MS;
use crate::model::time::Tick;
use crate::model::worker::{IMAGE_LABEL, WorkerState};
use crate::scheduler::View;
use std::collections::BTreeMap;

/// Between two decisions, ms: a signal is never older than a second and what it takes to reckon.
const DECIDE_EVERY_MS: u64 = 1_000;
/// A decision waits for a plan that is due, but not longer than this, ms: on a busy cluster one always is.
const PLAN_FIRST_MS: u64 = 3_000;
/// The configuration is proposed again after this long, should the proposal have been lost, ms.
const FLEET_AGAIN_MS: u64 = 5_000;
/// Workers that are asked to go in one entry of the log at most.
const CHOSEN_MAX: usize = 1_024;

impl Leader {
    /// The configuration into the log; then, when one is due, a decision and what follows from it.
    pub(super) fn autoscale(
        &mut self,
        now: u64,
        tick: Tick,
        commands: &mut Vec<Command>,
        outputs: &mut Vec<Output>,
    ) {
        self.configure(now, commands);
        if self.view.fleet.pools.is_empty() || now < self.scaling.due || !self.has_settled(now) {
            return;
        }
        // What can be placed is placed first: nothing is bought for it.
        if self.must_plan && self.view.has_ready() {
            let since = *self.scaling.waits.get_or_insert(now);
            if now.saturating_sub(since) < PLAN_FIRST_MS {
                return;
            }
        }
        self.scaling.waits = None;
        self.scaling.due = now + DECIDE_EVERY_MS;
        self.match_workers();
        let decision = self.decide(now, tick);
        let fresh = |pool: &str| {
            self.scaling.groups.get(pool).filter(|group| tick.since(group.at) <= GROUP_STALE_MS).cloned()
        };
        let groups: BTreeMap<String, GroupSeen> =
            self.view.fleet.pools.keys().filter_map(|pool| Some((pool.clone(), fresh(pool)?))).collect();
        self.record(&decision, commands);
        for (pool, group) in &groups {
            self.orders(now, pool, group, &decision, outputs, commands);
        }
        self.forget(tick, &groups, commands);
        self.signal(tick, decision, outputs);
    }

    fn configure(&mut self, now: u64, commands: &mut Vec<Command>) {
        let Some(configured) = &self.scaling.configured else { return };
        if *configured != self.view.fleet && now >= self.scaling.fleet_due {
            self.scaling.fleet_due = now + FLEET_AGAIN_MS;
            commands.push(Command::SetFleet { fleet: Box::new(configured.clone()) });
        }
    }

    /// Until all workers of before were heard or given up, what they hold and what is free is not known.
    fn has_settled(&mut self, now: u64) -> bool {
        let since = *self.scaling.elected_at.get_or_insert(now);
        if !self.scaling.settled {
            let all = self.view.workers.values();
            let mut there = all.filter(|view| view.worker.state != WorkerState::Lost);
            self.scaling.settled =
                there.all(|view| view.connected) || now.saturating_sub(since) > LEADER_LEASE_MS;
        }
        self.scaling.settled
    }

    fn decide(&mut self, now: u64, tick: Tick) -> Decision {
        let Self { view, scaling, .. } = self;
        scaling.idle.retain(|id, _| view.workers.contains_key(id));
        let mut machines = Vec::with_capacity(view.workers.len());
        for (id, of) in &view.workers {
            let worker = &of.worker;
            if worker.state == WorkerState::Lost || !view.fleet.pools.contains_key(&worker.spec.pool) {
                continue;
            }
            let is_empty = view.tokens_of(*id).next().is_none();
            if is_empty {
                scaling.idle.entry(*id).or_insert(tick);
            } else {
                scaling.idle.remove(id);
            }
            let state = match () {
                () if worker.state != WorkerState::Ready => MachineState::Leaving,
                () if View::is_usable(of) => MachineState::Ready,
                () if !of.connected => MachineState::Unheard,
                () => MachineState::Unusable,
            };
            machines.push(Machine {
                id: *id,
                kind: *scaling.kinds.entry(*id).or_insert_with(|| kind(&worker.spec)),
                spec: &worker.spec,
                used: &of.used,
                state,
                leaves: leaves(worker),
                idle_since: scaling.idle.get(id).copied(),
                at_risk_ms: at_risk(view, *id, tick),
                free_at: free_at(view, *id, tick, &scaling.runs),
                joined: worker.joined.tick,
                image: worker.spec.labels.get(IMAGE_LABEL).map(String::as_str),
            });
        }
        let runs = &scaling.runs;
        let situation = Situation {
            now: tick,
            fleet: &view.fleet,
            scales: &view.scales,
            machines,
            waiting: view.waiting(|job, common| runs.get(&(job, common)).copied()),
            groups: scaling.groups.clone(),
            boots: std::mem::take(&mut scaling.boots),
            troubles: troubles(&scaling.troubles, now),
        };
        let mut decision = decide(&situation);
        for unmet in &mut decision.unmet {
            let task = self.view.job(unmet.job).and_then(|job| job.spec.task(unmet.task));
            unmet.name = format!("{}.{}", unmet.job, task.map_or("?", |task| &*task.name));
        }
        decision
    }

    /// What was decided, into the log.
    fn record(&self, decision: &Decision, commands: &mut Vec<Command>) {
        for pool in &decision.pools {
            let Some(spec) = self.view.fleet.pools.get(&pool.pool) else { continue };
            if let Some(scale) = &pool.scale {
                let based_on = self.view.scales.get(&pool.pool).map_or(0, |known| known.generation);
                let (pool, scale) = (pool.pool.clone(), scale.clone());
                commands.push(Command::Scale { pool, based_on, scale });
            }
            // Without a driver nobody would end them: whoever scales drains them first, or asks us to.
            let chosen = pool.chosen.iter().take(CHOSEN_MAX).filter(|_| spec.driven);
            let workers: Vec<_> = chosen
                .filter_map(|id| Some((*id, self.view.workers.get(id)?.worker.incarnation.clone())))
                .collect();
            if !workers.is_empty() {
                let reason = format!("autoscale: {}", pool.reason);
                commands.push(Command::ScaleIn { workers, deadline_ms: spec.timing.drain_ms, reason });
            }
        }
    }

    fn signal(&mut self, tick: Tick, decision: Decision, outputs: &mut Vec<Output>) {
        let mut uses: BTreeMap<String, PoolUse> = BTreeMap::new();
        for pool in &decision.pools {
            let booting = pool.booting;
            let of = uses.entry(pool.pool.clone()).or_default();
            if booting > 0 {
                of.workers.insert("booting", booting);
            }
        }
        for view in self.view.workers.values() {
            let worker = &view.worker;
            let Some(of) = uses.get_mut(&worker.spec.pool) else { continue };
            *of.workers.entry(worker.state.as_str()).or_default() += 1;
            if View::is_usable(view) {
                of.cpu_milli += worker.spec.cpu_milli;
                of.cpu_milli_granted += view.used.cpu_milli;
                of.gpu_milli += 1_000 * worker.spec.devices.len() as u64;
                of.gpu_milli_granted += view.used.devices.values().map(|d| u64::from(d.milli)).sum::<u64>();
            }
        }
        let (term, last) = (self.term.unwrap_or_default(), &self.scaling.last);
        let version = if (&last.decision, &last.uses, &last.fleet) == (&decision, &uses, &self.view.fleet) {
            last.version
        } else {
            last.version + 1
        };
        let signals = Signals { term, version, tick, fleet: self.view.fleet.clone(), decision, uses };
        self.scaling.last = signals.clone();
        outputs.push(Output::Signals(Box::new(signals)));
    }
}

fn troubles(all: &BTreeMap<String, (String, u64)>, now: u64) -> BTreeMap<String, String> {
    let open = all.iter().filter(|(_, (_, until))| now < *until);
    open.map(|(pool, (reason, _))| (pool.clone(), reason.clone())).collect()
}

/// What is lost if all that lives on the worker is stopped now: the time since each attempt's last checkpoint, times its devices.
fn at_risk(view: &View, worker: WorkerId, tick: Tick) -> u64 {
    let of = |token: Token| {
        let live = view.live.get(&token)?;
        let own = live.kept.last().filter(|checkpoint| checkpoint.token == token);
        let since = own.map(|checkpoint| checkpoint.committed).or(live.attempt.started)?;
        let seats = &live.attempt.seats;
        let devices: usize = seats.iter().map(|seat| seat.devices.len().max(1)).sum();
        Some(tick.since(since.tick).saturating_mul(devices as u64))
    };
    view.tokens_of(worker).filter_map(of).sum()
}

/// When all that lives on the worker is expected to be over.
fn free_at(view: &View, worker: WorkerId, now: Tick, runs: &BTreeMap<(JobId, u32), u64>) -> Option<Tick> {
    let mut last = None;
    for token in view.tokens_of(worker) {
        let attempt = &view.live.get(&token)?.attempt;
        let spec = &view.job(attempt.at.job)?.spec;
        let task = spec.task(attempt.at.task)?;
        let expected = spec.common(task).deadline.as_ref().map(|deadline| deadline.work_ms);
        let run_ms = expected.or_else(|| runs.get(&(attempt.at.job, task.common)).copied())?;
        let end = attempt.started.map_or(attempt.placed.tick, |started| started.tick).plus(run_ms);
        // It runs longer than expected: how much longer nobody knows.
        if end <= now {
            return None;
        }
        last = last.max(Some(end));
    }
    last
}
