//! Orders to providers: which machine is ended, held, let go or protected, by what is in the log and what the provider says; and workers
//! whose machines are gone. Left out: how many machines there are to be (`group_size`, `crate::autoscale`).
//!
//! Architecture invariant (I13): a machine is ended only when its worker is drained or lost in the log.

use super::io::Output;
use super::step::Leader;
use crate::autoscale::{Decision, GroupSeen, InstanceSeen, Order};
use crate::command::Command;
use crate::model::time::Tick;
use crate::model::worker::{INSTANCE_LABEL, Worker, WorkerState};
use std::collections::BTreeMap;

/// The same order is given again no sooner than this, ms, and only on what the provider said since.
const ORDER_AGAIN_MS: u64 = 8_000;
/// A provider that waits for us is told so this often, ms: AWS waits 30 s at least.
const HOLD_EVERY_MS: u64 = 12_000;
/// A lost worker whose machine the provider does not have any more is forgotten after this long, ms.
const FORGET_AFTER_MS: u64 = 600_000;
/// A majority said so long ago at most, ms, that this member leads, when a machine is ended because no worker is on it: a newer leader may
/// know one. Two ticks of the shell.
const SURE_FOR_MS: u64 = 250;

impl Leader {
    /// Orders to the provider of one pool, by what is in the log and what the provider says.
    pub(super) fn orders(
        &mut self,
        now: u64,
        pool: &str,
        group: &GroupSeen,
        decision: &Decision,
        outputs: &mut Vec<Output>,
        commands: &mut Vec<Command>,
    ) {
        let Some(spec) = self.view.fleet.pools.get(pool).filter(|spec| spec.driven) else { return };
        let is_troubled = self.scaling.troubles.get(pool).is_some_and(|(_, until)| now < *until);
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
                    } else if worker.state == WorkerState::Drained && is_empty {
                        // Drained by somebody else: there is nothing to wait for, and nothing to decide. The hook's own time runs out.
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
        if is_troubled {
            // A machine that its provider holds for us is not given up, whatever else it refuses: its tasks are being saved.
            orders.retain(|order| matches!(order, Order::Hold(_)));
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
    pub(super) fn nameless<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a Worker> {
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

    pub(super) fn was_ordered(&self, pool: &str, instance: &str) -> bool {
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
    pub(super) fn forget(
        &self,
        tick: Tick,
        groups: &BTreeMap<String, GroupSeen>,
        commands: &mut Vec<Command>,
    ) {
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
}

/// It goes for a decision of before, and its machine with it.
pub(super) fn leaves(worker: &Worker) -> bool {
    worker.drain.as_ref().is_some_and(|drain| drain.leaves)
}
