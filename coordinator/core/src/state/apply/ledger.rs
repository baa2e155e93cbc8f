//! The books, kept: whatever changes what a part of a worker is doing is told here, in one line and after the change. What was until then is
//! in the books themselves, so that nothing has to be told before.

use super::{Answer, Apply};
use crate::command::EmptyClaim;
use crate::ledger::{Class, Meter, Spell, Tab};
use crate::model::attempt::{Attempt, Cause};
use crate::model::ids::{Token, WorkerId};
use crate::reply::Reply;
use crate::state::accounting::owner;
use crate::state::rows::Key;
use crate::state::store::Used;

impl Apply<'_> {
    /// An attempt was granted, or what one of its ranks does has changed.
    pub(super) fn count_attempt(&mut self, token: Token) {
        let Some(attempt) = self.state.live.get(&token) else { return };
        let (meters, tabs) = (&self.state.ledger.meters, &self.state.ledger.tabs);
        let known = tabs.contains_key(&token);
        if !known && attempt.seats.iter().all(|seat| !meters.contains_key(&seat.worker)) {
            return;
        }
        let is: Vec<(Class, u64)> =
            (0..).zip(&attempt.seats).map(|(rank, _)| self.state.seat_now(attempt, rank)).collect();
        if let Some(tab) = self.state.ledger.tabs.remove(&token) {
            return self.turn(token, tab, &is);
        }
        if is.iter().all(|(_, units)| *units == 0) {
            return;
        }
        let workers: Vec<WorkerId> = attempt.seats.iter().map(|seat| seat.worker).collect();
        // What nobody had until now is booked before the new spells begin.
        workers.iter().for_each(|id| self.read_meter(*id));
        let meters = &self.state.ledger.meters;
        let begin = |(id, (class, units)): (&WorkerId, (Class, u64))| {
            Spell::new(class, units, meters.get(id), self.stamp.tick)
        };
        let spells = workers.iter().zip(is).map(begin).collect();
        self.state.ledger.tabs.insert(token, Tab { spells, idle: None });
        self.touch(Key::Tab(token));
    }

    /// The spells of an attempt that are others now end, and the others begin.
    fn turn(&mut self, token: Token, mut tab: Tab, is: &[(Class, u64)]) {
        let Self { state, touched, stamp, .. } = self;
        let Some(attempt) = state.live.get(&token) else { return };
        let seats = attempt.seats.iter().zip(is);
        for (spell, (seat, (class, units))) in tab.spells.iter_mut().zip(seats) {
            if (spell.class, spell.units) == (*class, *units) {
                continue;
            }
            let was = spell.class;
            let (ms, amount) = spell.turn(*class, *units, state.ledger.meters.get(&seat.worker), stamp.tick);
            if was == Class::Useful {
                spell.keep_open(ms, amount, *stamp);
            } else {
                let owner = owner(&state.jobs, &state.workers, attempt.at.job, seat.worker);
                state.ledger.book(&owner, was, (ms, amount), *stamp, &mut |key| touched.add(key));
            }
            touched.add(Key::Tab(token));
        }
        state.ledger.tabs.insert(token, tab);
    }

    /// A checkpoint was committed: what was useful until now stays so, whatever becomes of the attempt.
    pub(super) fn count_saved(&mut self, token: Token) {
        let Some(mut tab) = self.state.ledger.tabs.remove(&token) else { return };
        self.decide(token, &mut tab, Class::Useful);
        self.state.ledger.tabs.insert(token, tab);
        self.touch(Key::Tab(token));
    }

    /// Useful time of an attempt that waited for this is booked as `class`.
    fn decide(&mut self, token: Token, tab: &mut Tab, class: Class) {
        let Self { state, touched, stamp, .. } = self;
        let Some(attempt) = state.live.get(&token) else { return };
        for (spell, seat) in tab.spells.iter_mut().zip(&attempt.seats) {
            let meter = state.ledger.meters.get(&seat.worker);
            let (ms, amount) = match spell.class {
                Class::Useful => spell.turn(spell.class, spell.units, meter, stamp.tick),
                _ => Default::default(),
            };
            let owner = owner(&state.jobs, &state.workers, attempt.at.job, seat.worker);
            let touch = &mut |key| touched.add(key);
            for (month, amount) in std::mem::take(&mut spell.open) {
                state.ledger.post(&owner, class, month, amount, touch);
            }
            state.ledger.book(&owner, class, (ms, amount), *stamp, touch);
        }
    }

    /// Of what these seats computed on, parts were empty.
    pub(super) fn held_empty(&mut self, claims: &[EmptyClaim]) -> Answer {
        let mut changed = 0;
        for claim in claims {
            changed += u64::from(self.seat_was_empty(claim));
        }
        Ok(Reply::Changed { indices: changed })
    }

    fn seat_was_empty(&mut self, claim: &EmptyClaim) -> bool {
        let Self { state, touched, stamp, .. } = self;
        let Some(attempt) = state.live.get(&claim.token) else { return false };
        let (Some((rank, _)), Some(mut tab)) =
            (attempt.seat_on(claim.worker), state.ledger.tabs.remove(&claim.token))
        else {
            return false;
        };
        let mut taken = Vec::new();
        if let Some(spell) = tab.spells.get_mut(rank as usize).filter(|s| s.class == Class::Useful) {
            let (meter, looked) = (state.ledger.meters.get(&claim.worker), spell.looked);
            let (ms, amount) = spell.turn(spell.class, spell.units, meter, stamp.tick);
            spell.looked = looked;
            spell.keep_open(ms, amount, *stamp);
            taken = spell.take_empty(&claim.parts, stamp.tick);
        }
        let owner = owner(&state.jobs, &state.workers, attempt.at.job, claim.worker);
        for (month, amount) in &taken {
            let touch = &mut |key| touched.add(key);
            state.ledger.post(&owner, Class::HeldEmpty, *month, *amount, touch);
        }
        state.ledger.tabs.insert(claim.token, tab);
        touched.add(Key::Tab(claim.token));
        !taken.is_empty()
    }

    /// An attempt ends for this; it is live still.
    pub(super) fn count_end_of(&mut self, token: Token, cause: &Cause) {
        let Some(mut tab) = self.state.ledger.tabs.remove(&token) else { return };
        let class = if *cause == Cause::Exit(0) { Class::Useful } else { Class::Lost };
        self.decide(token, &mut tab, class);
        let Self { state, touched, stamp, .. } = self;
        let Some(attempt) = state.live.get(&token) else { return };
        for (spell, seat) in tab.spells.iter().zip(&attempt.seats) {
            let came_to = spell.amount(state.ledger.meters.get(&seat.worker), stamp.tick);
            let owner = owner(&state.jobs, &state.workers, attempt.at.job, seat.worker);
            state.ledger.book(&owner, spell.class, came_to, *stamp, &mut |key| touched.add(key));
        }
        self.touch(Key::Tab(token));
    }

    /// It has ended: its workers have more that nobody has.
    pub(super) fn count_ended(&mut self, attempt: &Attempt) {
        attempt.seats.iter().for_each(|seat| self.read_meter(seat.worker));
    }

    /// What nobody had of the worker is booked, and what nobody has is counted again.
    fn read_meter(&mut self, id: WorkerId) {
        let Self { state, touched, stamp, .. } = self;
        if !state.ledger.meters.contains_key(&id) {
            return;
        }
        state.ledger.settle(id, *stamp, &mut |key| touched.add(key));
        let Some(worker) = state.workers.get(&id) else { return };
        let own_cpu_milli = state.own_cpu_milli(worker);
        let nothing = Used::default();
        let used = state.loads.get(&id).map_or(&nothing, |load| &load.used);
        if let Some(meter) = state.ledger.meters.get_mut(&id) {
            meter.read(worker, used, own_cpu_milli);
            touched.add(Key::Meter(id));
        }
    }

    /// A device of the worker went out of service, or came back.
    pub(super) fn count_devices(&mut self, id: WorkerId) {
        let Some(ill) = self.state.workers.get(&id).map(|worker| self.state.out_of_service(worker)) else {
            return;
        };
        // First with what was out of service until now.
        self.read_meter(id);
        if let Some(meter) = self.state.ledger.meters.get_mut(&id) {
            meter.ill = ill;
        }
        self.read_meter(id);
    }

    /// The worker came, went, returned, or is another now.
    pub(super) fn count_worker_as_it_is(&mut self, id: WorkerId) {
        let stamp = self.stamp;
        // 1. Whatever is on it is booked as it was.
        let tokens = self.state.tokens_of(id);
        let tokens: Vec<Token> =
            tokens.into_iter().filter(|t| self.state.ledger.tabs.contains_key(t)).collect();
        self.read_meter_as_it_was(id);
        tokens.iter().for_each(|token| self.leave(*token, id));
        // 2. What it is now.
        let Self { state, touched, .. } = self;
        let new = state.workers.get(&id).and_then(|worker| {
            let mut meter = state.new_meter(worker)?;
            meter.read(worker, &state.used(id), state.own_cpu_milli(worker));
            Some(meter)
        });
        let old = state.ledger.meters.remove(&id);
        if old.is_none() && new.is_none() {
            return;
        }
        state.ledger.totals.change(old.as_ref(), new.as_ref(), stamp.tick);
        state.ledger.meters.extend(new.map(|meter| (id, meter)));
        touched.add(Key::Ledger);
        touched.add(Key::Meter(id));
        // 3. What is on it goes on.
        self.state.tokens_of(id).into_iter().for_each(|token| self.count_attempt(token));
    }

    fn read_meter_as_it_was(&mut self, id: WorkerId) {
        let Self { state, touched, stamp, .. } = self;
        state.ledger.settle(id, *stamp, &mut |key| touched.add(key));
    }

    /// The spell of an attempt on this worker ends, and nothing of it is counted there until it is looked at again.
    fn leave(&mut self, token: Token, id: WorkerId) {
        let Some(tab) = self.state.ledger.tabs.remove(&token) else { return };
        let seats = self.state.live.get(&token).map(|attempt| &attempt.seats[..]).unwrap_or_default();
        let is = seats.iter().zip(&tab.spells);
        let is = is.map(|(seat, spell)| (spell.class, if seat.worker == id { 0 } else { spell.units }));
        let is: Vec<(Class, u64)> = is.collect();
        self.turn(token, tab, &is);
    }

    /// Prices may have changed.
    pub(super) fn count_prices(&mut self) {
        let ids: Vec<WorkerId> = self.state.workers.keys().copied().collect();
        for id in ids {
            let new = self.state.workers.get(&id).and_then(|worker| self.state.new_meter(worker));
            let old = self.state.ledger.meters.get(&id);
            match (old.map(|meter| meter.rate), new.as_ref().map(|meter| meter.rate)) {
                (old, new) if old == new => {}
                (Some(_), Some(rate)) => self.change_rate(id, rate),
                _ => self.count_worker_as_it_is(id),
            }
        }
    }

    /// The same worker costs something else from now on.
    fn change_rate(&mut self, id: WorkerId, rate: u128) {
        self.read_meter_as_it_was(id);
        let Some(old) = self.state.ledger.meters.get(&id).cloned() else { return };
        let new = Meter { rate, ..old.clone() };
        self.state.ledger.totals.change(Some(&old), Some(&new), self.stamp.tick);
        self.state.ledger.meters.insert(id, new);
        self.touch(Key::Meter(id));
        self.touch(Key::Ledger);
    }
}
