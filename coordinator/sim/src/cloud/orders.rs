//! What leaders order, and what becomes of it: done a moment later, much later, twice, not at all, or done while its caller hears that it
//! failed. An order that waits behind others is dropped when its member leads no longer; one that is under way is not.

use super::{Cloud, HOOK_MS, Told};
use crate::event::Event;
use crate::invariants::i13_scale_in;
use crate::world::World;
use muster_core::autoscale::{InstancePhase, Order};

/// After an order its group is looked at this soon, ms.
const LOOK_AFTER_MS: u64 = 2_000;
/// Of 1,000 orders, how many are lost on the way to the call, …
const LOST: u64 = 30;
/// … how many fail before anything is done, …
const FAIL: u64 = 40;
/// … how many time out and are done all the same, …
const TIME_OUT: u64 = 30;
/// … how many are done much later, …
const LATE: u64 = 30;
/// … and how many are done twice, the second time much later.
const TWICE: u64 = 40;
/// Much later, ms.
const MUCH_LATER_MS: u64 = 20_000;

/// An order on its way.
#[derive(Debug, Clone)]
pub struct Errand {
    pub member: usize,
    pub term: u64,
    pub pool: String,
    pub generation: u64,
    pub order: Order,
    /// When it was given.
    pub given: u64,
    /// Nobody can call it back.
    pub under_way: bool,
}

impl World {
    /// A leader gives an order to its line.
    pub(crate) fn drive(&mut self, m: usize, term: u64, pool: String, generation: u64, order: Order) {
        self.stats.orders += 1;
        i13_scale_in::on_given(self, m, term, &pool, &order);
        let given = self.now;
        let errand = Errand { member: m, term, pool, generation, order, given, under_way: false };
        let rng = &mut self.cloud.rng;
        let soon = rng.range(30, 800);
        let later = soon + rng.range(1_000, MUCH_LATER_MS);
        let luck = if self.healed { 1_000 } else { rng.below(1_000) };
        let (member, pool) = (m, errand.pool.clone());
        let trouble = Event::GroupTold { member, term, pool: pool.clone(), told: Told::Trouble };
        let under_way = Errand { under_way: true, ..errand.clone() };
        match luck {
            n if n < LOST => {}
            n if n < LOST + FAIL => self.at(soon, trouble),
            n if n < LOST + FAIL + TIME_OUT => {
                self.at(soon, Event::OrderDue(Box::new(under_way)));
                self.at(later, trouble);
            }
            n if n < LOST + FAIL + TIME_OUT + LATE => self.at(later, Event::OrderDue(Box::new(under_way))),
            n if n < LOST + FAIL + TIME_OUT + LATE + TWICE => {
                self.at(soon, Event::OrderDue(Box::new(errand)));
                self.at(later, Event::OrderDue(Box::new(under_way)));
            }
            _ => self.at(soon, Event::OrderDue(Box::new(errand))),
        }
        self.at(LOOK_AFTER_MS, Event::GroupAsked { member, term, pool, goes_on: false });
    }

    /// An order reaches the provider, unless its member leads no longer.
    pub(crate) fn order_due(&mut self, errand: &Errand) {
        if !errand.under_way && !self.leads(errand.member, errand.term) {
            return;
        }
        if !self.carry_out(errand) {
            let (member, term, pool) = (errand.member, errand.term, errand.pool.clone());
            self.at(20, Event::GroupTold { member, term, pool, told: Told::Trouble });
        }
    }

    /// False: refused, or it failed.
    fn carry_out(&mut self, errand: &Errand) -> bool {
        let now = self.now;
        let Some(group) = self.cloud.groups.get_mut(&errand.pool) else { return false };
        if now < group.silent_until.0 {
            return !group.silent_until.1;
        }
        let fails = now < group.fails_until;
        if fails && self.cloud.rng.chance(500) {
            return false;
        }
        let counts = matches!(errand.order, Order::SetDesired(_) | Order::Terminate(_));
        if counts && group.manners.refuses_older && errand.generation < group.generation {
            return false;
        }
        group.generation = group.generation.max(errand.generation);
        let done = match &errand.order {
            Order::SetDesired(desired) => self.set_desired(errand, *desired),
            Order::Terminate(id) => self.terminate(errand, id),
            Order::Hold(id) => self.holds(&errand.pool, id),
            Order::Release(id) => self.lets_go(errand, id),
            Order::Protect(ids) => self.protect(&errand.pool, ids),
        };
        done && !fails
    }

    /// More are made when the group moves; with fewer, those go that are not up, the newest first.
    fn set_desired(&mut self, errand: &Errand, desired: u32) -> bool {
        let Some(group) = self.cloud.groups.get_mut(&errand.pool) else { return false };
        let up = group.instances.values().filter(|i| i.phase == InstancePhase::InService).count();
        if desired > group.max || desired < group.min || up > desired as usize {
            return false;
        }
        group.desired = desired;
        let too_many = group.counted().saturating_sub(desired) as usize;
        let booting = group.instances.iter().filter(|(_, i)| i.phase == InstancePhase::Booting);
        let mut newest: Vec<(u64, String)> = booting.map(|(id, i)| (i.since, id.clone())).collect();
        newest.sort();
        for (_, id) in newest.into_iter().rev().take(too_many) {
            i13_scale_in::on_executed(self, errand, &id);
            self.instance_ends(&errand.pool, &id);
        }
        true
    }

    /// This one, and one less. What goes already, or is gone, is no error.
    fn terminate(&mut self, errand: &Errand, id: &str) -> bool {
        let now = self.now;
        let Cloud { groups, rng, .. } = &mut self.cloud;
        let Some(group) = groups.get_mut(&errand.pool) else { return false };
        if !group.instances.get(id).is_some_and(|instance| instance.is_counted()) {
            return true;
        }
        if group.desired <= group.min {
            return false;
        }
        group.desired -= 1;
        group.end(id, now, rng);
        i13_scale_in::on_executed(self, errand, id);
        true
    }

    fn holds(&mut self, pool: &str, id: &str) -> bool {
        let until = self.now + HOOK_MS;
        let group = self.cloud.groups.get_mut(pool);
        if let Some(instance) = group.and_then(|group| group.instances.get_mut(id)) {
            instance.waits_until = until;
        }
        true
    }

    fn lets_go(&mut self, errand: &Errand, id: &str) -> bool {
        let now = self.now;
        let group = self.cloud.groups.get_mut(&errand.pool);
        let held =
            group.and_then(|group| group.instances.get_mut(id)).filter(|i| i.phase == InstancePhase::Held);
        if let Some(instance) = held {
            (instance.phase, instance.ends_at) = (InstancePhase::Going, now);
            i13_scale_in::on_executed(self, errand, id);
        }
        true
    }

    fn protect(&mut self, pool: &str, ids: &[String]) -> bool {
        let Some(group) = self.cloud.groups.get_mut(pool) else { return false };
        for id in ids {
            let instance = group.instances.get_mut(id).filter(|i| i.phase == InstancePhase::InService);
            if let Some(instance) = instance {
                instance.protected = true;
            }
        }
        true
    }
}
