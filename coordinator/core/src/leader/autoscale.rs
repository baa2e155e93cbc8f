//! Pools, from the leader's side: once a second the situation is made of the view and of what providers said, and what was decided goes into
//! the log. Providers are given orders only for what is in the log, so that a new leader gives the same ones.
//!
//! Architecture invariants (I13): a machine is ended only when its worker is drained or lost in the log, and what leaves is never placed on
//! again; nothing is decided before the workers of an older leader have been heard, nor on what a provider said too long ago.

use super::io::{Output, PoolUse, Signals};
use super::step::Leader;
use crate::autoscale::{
    Decision, GROUP_STALE_MS, GroupReport, GroupSeen, InstancePhase, InstanceReport, InstanceSeen, Machine,
    MachineState, Order, Situation, decide, kind,
};
use crate::command::{Command, ReportKind};
use crate::model::attempt::Outcome;
use crate::model::fleet::Fleet;
use crate::model::ids::{IndexRef, JobId, Token, WorkerId};
use crate::model::lease::LEADER_LEASE_MS;
use crate::model::time::Tick;
use crate::model::worker::{IMAGE_LABEL, INSTANCE_LABEL, Worker, WorkerState};
use crate::scheduler::View;
use std::collections::{BTreeMap, BTreeSet};

/// Between two decisions, ms: a signal is never older than a second and what it takes to reckon.
const DECIDE_EVERY_MS: u64 = 1_000;
/// A decision waits for a plan that is due, but not longer than this, ms: on a busy cluster one always is.
const PLAN_FIRST_MS: u64 = 3_000;
/// The configuration is proposed again after this long, should the proposal have been lost, ms.
const FLEET_AGAIN_MS: u64 = 5_000;
/// The same order is given again no sooner than this, ms, and only on what the provider said since.
const ORDER_AGAIN_MS: u64 = 8_000;
/// A provider that waits for us is told so this often, ms: AWS waits 30 s at least.
const HOLD_EVERY_MS: u64 = 12_000;
/// A lost worker whose machine the provider does not have any more is forgotten after this long, ms.
const FORGET_AFTER_MS: u64 = 600_000;
/// A majority said so long ago at most, ms, that this member leads, when a machine is ended because no worker is on it: a newer leader may
/// know one. Two ticks of the shell.
const SURE_FOR_MS: u64 = 250;
/// Tasks whose run time is remembered.
const RUNS_MAX: usize = 4_096;
/// Workers that are asked to go in one entry of the log at most.
const CHOSEN_MAX: usize = 1_024;

/// What the leader remembers of pools.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// As this member is configured; none: nobody has said.
    pub configured: Option<Fleet>,
    fleet_due: u64,
    due: u64,
    /// Since when a decision waits for a plan.
    waits: Option<u64>,
    /// All workers of the leader before have been heard, or lost.
    settled: bool,
    elected_at: Option<u64>,
    groups: BTreeMap<String, GroupSeen>,
    /// When a machine was seen first, and whether its worker has joined since.
    machines: BTreeMap<(String, String), (Tick, bool)>,
    boots: BTreeMap<String, u64>,
    /// Until when a provider is left alone, and why.
    troubles: BTreeMap<String, (String, u64)>,
    /// When each order was given last.
    orders: BTreeMap<(String, Order), u64>,
    /// A majority is to be asked whether this member leads; when it was asked last, and when it was of those times that it said so.
    pub asks: bool,
    asked: u64,
    sure: Option<u64>,
    /// An order waits for that.
    waits_for_sure: bool,
    /// What was ordered last, by pool.
    said: BTreeMap<String, u32>,
    idle: BTreeMap<WorkerId, Tick>,
    kinds: BTreeMap<WorkerId, u64>,
    /// How long an index of these tasks runs, ms.
    runs: BTreeMap<(JobId, u32), u64>,
    last: Signals,
}

impl Scaling {
    /// What outlives a term: the configuration.
    pub fn afresh(&self) -> Self {
        Self { configured: self.configured.clone(), ..Self::default() }
    }

    pub fn trouble(&mut self, pool: String, reason: String, until: u64) {
        self.troubles.insert(pool, (reason, until));
    }

    pub fn asked(&mut self, now: u64) {
        (self.asks, self.asked) = (false, now);
    }

    /// A majority has answered. What waited for that is due at once.
    pub fn confirmed(&mut self, now: u64, ok: bool) {
        if ok {
            self.sure = Some(self.asked);
            if std::mem::take(&mut self.waits_for_sure) {
                self.due = now;
            }
        }
    }

    pub fn worker_changed(&mut self, worker: WorkerId) {
        self.kinds.remove(&worker);
    }

    /// An attempt ended well: so long do its like run.
    pub fn learn_run(&mut self, view: &View, at: IndexRef, kind: &ReportKind) {
        let ReportKind::Ended { outcome: Outcome::Exit(0), ran_ms, .. } = kind else { return };
        let Some(common) = view.job(at.job).and_then(|job| job.spec.task(at.task)).map(|task| task.common)
        else {
            return;
        };
        let runs = &mut self.runs;
        if runs.len() >= RUNS_MAX && !runs.contains_key(&(at.job, common)) {
            runs.pop_first();
        }
        let known = runs.entry((at.job, common)).or_insert(*ran_ms);
        *known = (7 * *known + ran_ms) / 8;
    }
}

impl Leader {
    pub(super) fn group_came(&mut self, now: u64, pool: String, report: GroupReport) {
        if self.term.is_none() {
            return;
        }
        let tick = self.tick(now);
        let scaling = &mut self.scaling;
        let named: BTreeSet<&str> = report.instances.iter().map(|instance| instance.id.as_str()).collect();
        scaling.machines.retain(|(of, id), _| *of != pool || named.contains(id.as_str()));
        let mut instances = Vec::with_capacity(report.instances.len());
        for instance in &report.instances {
            let key = (pool.clone(), instance.id.clone());
            let (since, _) = scaling.machines.entry(key).or_insert((tick, false));
            instances.push(InstanceSeen {
                id: instance.id.clone(),
                worker: None,
                since: *since,
                lost: None,
                booting: instance.phase == InstancePhase::Booting,
                held: instance.phase == InstancePhase::Held,
                going: instance.phase == InstancePhase::Going,
                protected: instance.protected,
                image: instance.image.clone(),
            });
        }
        let GroupReport { desired, min, max, .. } = report;
        if scaling.troubles.get(&pool).is_some_and(|(_, until)| *until <= now) {
            scaling.troubles.remove(&pool);
        }
        scaling.groups.insert(pool, GroupSeen { at: tick, desired, min, max, instances });
    }

    /// Of a provider that only takes orders: its group is what was wanted of it, on the machines that workers say they are on.
    pub(super) fn group_unseen(&mut self, now: u64, pool: String) {
        if self.term.is_none() {
            return;
        }
        let there =
            self.view.workers.values().map(|view| &view.worker).filter(|worker| worker.spec.pool == pool);
        let ids =
            there.filter(|w| w.state != WorkerState::Lost).filter_map(|w| w.spec.labels.get(INSTANCE_LABEL));
        let machine = |id: &String| InstanceReport {
            id: id.clone(),
            phase: InstancePhase::InService,
            protected: true,
            image: None,
        };
        let instances: Vec<InstanceReport> = ids.map(machine).collect();
        // Each order is given once: what the last one said is what the group has, as far as anybody knows.
        let desired = self.scaling.said.get(&pool).copied().unwrap_or(u32::MAX);
        self.group_came(now, pool, GroupReport { desired, min: 0, max: u32::MAX, instances });
    }

    /// Which workers are on which machines, by what both say now: a worker may have joined since its provider was asked.
    fn match_workers(&mut self) {
        let Self { view, scaling, .. } = self;
        if scaling.groups.is_empty() {
            return;
        }
        let by_instance: BTreeMap<(&str, &str), &Worker> = view
            .workers
            .values()
            .map(|view| &view.worker)
            .filter_map(|w| Some(((w.spec.pool.as_str(), w.spec.labels.get(INSTANCE_LABEL)?.as_str()), w)))
            .collect();
        for (pool, group) in &mut scaling.groups {
            for instance in &mut group.instances {
                let worker = by_instance.get(&(pool.as_str(), instance.id.as_str()));
                let is_lost = |worker: &&&Worker| worker.state == WorkerState::Lost;
                instance.lost = worker.filter(is_lost).map(|worker| worker.changed.tick);
                let worker = worker.filter(|worker| !is_lost(worker));
                instance.worker = worker.map(|worker| worker.id);
                let key = (pool.clone(), instance.id.clone());
                let Some((since, has_joined)) = scaling.machines.get_mut(&key) else { continue };
                let Some(worker) = worker.filter(|_| !*has_joined) else { continue };
                *has_joined = true;
                // Of a machine that was seen before its worker came the time is known, to a look of its provider.
                if worker.joined.tick > *since {
                    scaling.boots.insert(pool.clone(), worker.joined.tick.since(*since));
                }
            }
        }
    }

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

    /// Orders to the provider of one pool, by what is in the log and what the provider says.
    fn orders(
        &mut self,
        now: u64,
        pool: &str,
        group: &GroupSeen,
        decision: &Decision,
        outputs: &mut Vec<Output>,
        commands: &mut Vec<Command>,
    ) {
        let Some(spec) = self.view.fleet.pools.get(pool).filter(|spec| spec.driven) else { return };
        if self.scaling.troubles.get(pool).is_some_and(|(_, until)| now < *until) {
            return;
        }
        let deadline_ms = spec.timing.drain_ms;
        let scale = self.view.scales.get(pool).cloned().unwrap_or_default();
        let worker =
            |instance: &InstanceSeen| self.view.workers.get(&instance.worker?).map(|view| &view.worker);
        let has_nameless = self.nameless(pool).next().is_some();
        let mut orders = Vec::new();
        let mut called: Vec<_> = Vec::new();
        for instance in &group.instances {
            let id = || instance.id.clone();
            match worker(instance) {
                _ if instance.going => {}
                Some(worker) if instance.held => {
                    let is_empty = self.view.tokens_of(worker.id).next().is_none();
                    if worker.state == WorkerState::Drained && is_empty && leaves(worker) {
                        orders.push(Order::Release(id()));
                    } else {
                        orders.push(Order::Hold(id()));
                        if !leaves(worker) && worker.drain.is_none() {
                            called.push((worker.id, worker.incarnation.clone()));
                        }
                    }
                }
                // Unless a worker that does not say where it is may be on it: then the hook's own time runs out.
                None if instance.held && !has_nameless => orders.push(Order::Release(id())),
                Some(worker) if leaves(worker) && worker.state == WorkerState::Drained => {
                    if self.view.tokens_of(worker.id).next().is_none() {
                        orders.push(Order::Terminate(id()));
                    }
                }
                // Its end was ordered while nobody was on it, and may come at any moment.
                Some(worker) if worker.drain.is_none() && self.was_ordered(pool, &instance.id) => {
                    called.push((worker.id, worker.incarnation.clone()));
                }
                Some(_) | None => {}
            }
        }
        if !called.is_empty() {
            let reason = "autoscale: the provider ends this machine".to_owned();
            commands.push(Command::ScaleIn { workers: called, deadline_ms, reason });
        }
        let of_pool = decision.pools.iter().find(|of| of.pool == pool);
        orders.extend(of_pool.into_iter().flat_map(|of| of.stuck.iter().cloned().map(Order::Terminate)));
        // A lost worker that was to leave: its lease is over, its machine may stand there for ever.
        let lost =
            self.view.workers.values().map(|view| &view.worker).filter(|worker| {
                worker.spec.pool == pool && worker.state == WorkerState::Lost && leaves(worker)
            });
        let lost: Vec<String> = lost
            .filter_map(|worker| worker.spec.labels.get(INSTANCE_LABEL).cloned())
            .filter(|id| group.instances.iter().any(|i| i.id == *id && !i.going && !i.held))
            .collect();
        orders.extend(lost.into_iter().map(Order::Terminate));
        let stuck = of_pool.map_or(&[][..], |of| of.stuck.as_slice());
        // Before the ends: it counts those that are still there, and a provider that wants fewer than it has ends none by name.
        orders.splice(0..0, self.in_group(pool, spec, group, &scale, stuck).map(Order::SetDesired));
        // The provider chooses none by itself: it does not know what runs where.
        let bare =
            group.instances.iter().filter(|i| i.worker.is_some() && !i.protected && !i.held && !i.going);
        let bare: Vec<String> = bare.map(|instance| instance.id.clone()).collect();
        if !bare.is_empty() {
            orders.push(Order::Protect(bare));
        }
        if scale.generation == 0 {
            // Nothing of this pool is in the log yet: whoever remembers an order of before would refuse this one as older.
            orders.retain(|order| !matches!(order, Order::Terminate(_)));
        }
        let seen_at = now.saturating_sub(self.tick(now).since(group.at));
        for order in orders {
            let again = if matches!(order, Order::Hold(_)) { HOLD_EVERY_MS } else { ORDER_AGAIN_MS };
            let key = (pool.to_owned(), order.clone());
            let given = self.scaling.orders.get(&key).copied();
            if given.is_some_and(|at| now < at + again || (seen_at <= at && !matches!(order, Order::Hold(_))))
            {
                continue;
            }
            // With each machine that is ended the group wants one less: what the provider said before that counts it still.
            if matches!(order, Order::SetDesired(_)) && self.has_ended_since(pool, seen_at) {
                continue;
            }
            let is_sure = self.scaling.sure.is_some_and(|at| now.saturating_sub(at) <= SURE_FOR_MS);
            if !is_sure && self.ends_the_empty(&order, group) {
                (self.scaling.asks, self.scaling.waits_for_sure) = (true, true);
                continue;
            }
            self.scaling.orders.insert(key, now);
            match &order {
                Order::SetDesired(desired) => {
                    self.scaling.said.insert(pool.to_owned(), *desired);
                }
                // The group wants one less with it.
                Order::Terminate(_) => {
                    if let Some(desired) = self.scaling.said.get_mut(pool) {
                        *desired = desired.saturating_sub(1);
                    }
                }
                Order::Hold(_) | Order::Release(_) | Order::Protect(_) => {}
            }
            outputs.push(Output::Drive { pool: pool.to_owned(), generation: scale.generation, order });
        }
        self.scaling.orders.retain(|_, at| now < *at + 10 * HOLD_EVERY_MS);
    }

    /// Workers of the pool that do not say on which machine they are.
    fn nameless<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Worker> {
        let there = self.view.workers.values().map(|view| &view.worker);
        there.filter(move |worker| {
            worker.spec.pool == pool
                && worker.state != WorkerState::Lost
                && !worker.spec.labels.contains_key(INSTANCE_LABEL)
        })
    }

    /// Whether a machine of the pool was ended, as far as it was ordered, at this moment or later.
    fn has_ended_since(&self, pool: &str, since: u64) -> bool {
        let ends = |order: &Order| matches!(order, Order::Terminate(_) | Order::Release(_));
        self.scaling.orders.iter().any(|((of, order), at)| of == pool && ends(order) && *at >= since)
    }

    fn was_ordered(&self, pool: &str, instance: &str) -> bool {
        self.scaling.orders.contains_key(&(pool.to_owned(), Order::Terminate(instance.to_owned())))
    }

    /// Whether the order ends machines because no worker is known on them. (One that is drained for good stays so under any leader.)
    fn ends_the_empty(&self, order: &Order, group: &GroupSeen) -> bool {
        match order {
            Order::SetDesired(desired) => *desired < group.desired,
            Order::Terminate(id) | Order::Release(id) => {
                group.instances.iter().any(|instance| instance.id == *id && instance.worker.is_none())
            }
            Order::Hold(_) | Order::Protect(_) => false,
        }
    }

    /// Workers whose machines are gone for good.
    fn forget(&self, tick: Tick, groups: &BTreeMap<String, GroupSeen>, commands: &mut Vec<Command>) {
        let lost =
            self.view.workers.values().map(|view| &view.worker).filter(|w| w.state == WorkerState::Lost);
        for worker in lost {
            let Some(group) = groups.get(&worker.spec.pool) else { continue };
            let Some(id) = worker.spec.labels.get(INSTANCE_LABEL) else { continue };
            let is_there = group.instances.iter().any(|instance| instance.id == *id);
            let is_old = tick.since(worker.changed.tick) > FORGET_AFTER_MS;
            if !is_there && (leaves(worker) || is_old) && self.view.tokens_of(worker.id).next().is_none() {
                let (worker, incarnation) = (worker.id, Some(worker.incarnation.clone()));
                commands.push(Command::Forget { request: None, worker, incarnation });
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

fn leaves(worker: &Worker) -> bool {
    worker.drain.as_ref().is_some_and(|drain| drain.leaves)
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
