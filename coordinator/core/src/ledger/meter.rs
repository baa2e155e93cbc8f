//! Meters of workers and tabs of attempts: since when what is as it is, and what it has come to when that changes.
//!
//! A worker is `units` equal parts: thousandths of its devices or, if it has none, of its CPUs, whose time is no GPU time but costs money all
//! the same. Each seat of a live attempt has some of them, and the rest is idle or unhealthy. A seat's [`Spell`] and the rest's [`Meter`] are
//! closed when what they are changes, and at no other time: so an entry of the log costs what it changes, however much else there is on the
//! worker. What one part of the worker has cost since it was there is counted in the meter, so that a new price is one row, not one
//! for each attempt.
//!
//! Useful time is booked as such only when it is known that it was: with a committed checkpoint, or with success. Until then it is `open`,
//! and what ends otherwise moves it to `lost`.

use super::amount::Amount;
use super::class::Class;
use super::month::{Month, split};
use crate::model::attempt::{Attempt, RankState};
use crate::model::placement::{Seat, WHOLE};
use crate::model::time::{Stamp, Tick};
use crate::model::worker::Worker;
use crate::state::Used;
use serde::{Deserialize, Serialize};

/// What of a worker nobody has. There is none for a worker that is lost, or that has neither GPUs nor a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Up to when it is booked.
    pub at: Tick,
    pub pool: String,
    /// Its parts are thousandths of GPUs; else of CPUs.
    pub gpus: bool,
    pub units: u64,
    /// Of these, the parts that attempts have.
    pub held: u64,
    /// Of the rest, those of devices out of service.
    pub sick: u64,
    /// Numbers of these devices.
    pub ill: Vec<u16>,
    /// What a part costs in a millisecond, attoUSD.
    pub rate: u128,
    /// What a part has cost up to `at`, attoUSD.
    pub spent: u128,
}

impl Meter {
    /// What a part has cost up to `now`, attoUSD.
    #[must_use]
    pub fn spent_at(&self, now: Tick) -> u128 {
        self.spent + u128::from(now.since(self.at)) * self.rate
    }

    /// What of it is idle, and what is unhealthy.
    #[must_use]
    pub fn rest(&self) -> [(Class, u64); 2] {
        let idle = self.units.saturating_sub(self.held).saturating_sub(self.sick);
        [(Class::Idle, idle), (Class::Unhealthy, self.sick)]
    }

    /// What so many parts of it come to from its `at` until `now`.
    #[must_use]
    pub fn amount(&self, units: u64, now: Tick) -> Amount {
        let parts = u128::from(units) * u128::from(now.since(self.at));
        Amount { time: if self.gpus { parts } else { 0 }, money: parts * self.rate }
    }

    /// Counts again what is held and what is out of service.
    pub fn read(&mut self, worker: &Worker, used: &Used, own_cpu_milli: u64) {
        if !self.gpus {
            (self.held, self.sick) = (own_cpu_milli.min(self.units), 0);
            return;
        }
        let count = worker.spec.devices.len();
        let held = used.devices.iter().filter(|(number, _)| usize::from(**number) < count);
        self.held = held.map(|(_, taken)| u64::from(taken.milli.min(WHOLE))).sum();
        let free = |number: &u16| u64::from(WHOLE.saturating_sub(used.device(*number).milli));
        self.sick = self.ill.iter().map(free).sum();
    }
}

/// How many parts of the worker a seat of an attempt has; `cpu_milli` as its task asks for. What an older incarnation was granted is no part
/// of a worker without devices: it may be more than there is.
#[must_use]
pub fn weight(meter: &Meter, worker: &Worker, attempt: &Attempt, seat: &Seat, cpu_milli: u64) -> u64 {
    if !meter.gpus {
        return if attempt.token > worker.former { cpu_milli } else { 0 };
    }
    let here = seat.devices.iter().filter(|share| usize::from(share.device) < worker.spec.devices.len());
    here.map(|share| u64::from(share.milli)).sum()
}

/// The class of what this rank of a live attempt has.
#[must_use]
pub fn class_of(attempt: &Attempt, rank: u32) -> Class {
    let begins = if attempt.number > 1 || attempt.progress.resumed.is_some() {
        Class::Restarting
    } else {
        Class::Starting
    };
    match attempt.ranks.get(rank as usize) {
        Some(RankState::Starting) => begins,
        Some(RankState::Ended) => Class::WaitingForPeers,
        Some(RankState::Running) if attempt.started.is_none() => Class::WaitingForPeers,
        None if attempt.started.is_none() => begins,
        Some(RankState::Running) | None => Class::Useful,
    }
}

/// For a while nothing computed on so many parts of a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyPart {
    pub units: u64,
    pub from: Tick,
    pub to: Tick,
}

/// What the seats of a live attempt are doing, by rank.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tab {
    pub spells: Vec<Spell>,
    /// When it was last found to compute nothing for too long.
    pub idle: Option<Stamp>,
}

/// What one seat is doing, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    pub class: Class,
    /// Parts of its worker; 0 while nothing is counted there.
    pub units: u64,
    pub since: Tick,
    /// What a part of its worker had cost then, attoUSD.
    pub spent: u128,
    /// Up to when it is known whether anything computed on it.
    pub looked: Tick,
    /// Useful time of before, not saved: by month, the older first.
    pub open: Vec<(Month, Amount)>,
}

impl Spell {
    /// One that begins now.
    #[must_use]
    pub fn new(class: Class, units: u64, meter: Option<&Meter>, now: Tick) -> Self {
        Self {
            class,
            units,
            since: now,
            spent: meter.map_or(0, |meter| meter.spent_at(now)),
            looked: now,
            open: Vec::new(),
        }
    }

    /// How long it lasts by now, ms, and what that comes to.
    #[must_use]
    pub fn amount(&self, meter: Option<&Meter>, now: Tick) -> (u64, Amount) {
        let Some(meter) = meter.filter(|_| self.units > 0) else { return (0, Amount::default()) };
        let (ms, units) = (now.since(self.since), u128::from(self.units));
        let time = if meter.gpus { units * u128::from(ms) } else { 0 };
        (ms, Amount { time, money: units * meter.spent_at(now).saturating_sub(self.spent) })
    }

    /// Ends it, and begins another: what it came to, and over how long.
    pub fn turn(&mut self, class: Class, units: u64, meter: Option<&Meter>, now: Tick) -> (u64, Amount) {
        let came_to = self.amount(meter, now);
        (self.class, self.units, self.since, self.looked) = (class, units, now, now);
        self.spent = meter.map_or(0, |meter| meter.spent_at(now));
        came_to
    }

    /// On `parts` of it nothing computed: that much of what is open, no more than there is and nothing twice. By month, the newest first.
    pub fn take_empty(&mut self, parts: &[EmptyPart], now: Tick) -> Vec<(Month, Amount)> {
        let mut empty = 0;
        for part in parts {
            let (from, to) = (part.from.max(self.looked), part.to.min(now));
            empty += u128::from(to.since(from)) * u128::from(part.units.min(self.units));
            self.looked = self.looked.max(to);
        }
        let mut taken = Vec::new();
        while empty > 0 {
            let Some((month, last)) = self.open.last_mut() else { break };
            let part = if empty >= last.time { *last } else { last.part(empty, last.time) };
            *last -= part;
            empty = empty.saturating_sub(part.time);
            taken.push((*month, part));
            if last.is_none() {
                self.open.pop();
            } else if part.time == 0 {
                break;
            }
        }
        taken
    }

    /// So much useful time more waits to be saved: it grew over the last `ms`.
    pub fn keep_open(&mut self, ms: u64, amount: Amount, now: Stamp) {
        let mut parts = Vec::new();
        split(ms, amount, now.wall, |month, part| parts.push((month, part)));
        for (month, part) in parts.into_iter().rev().filter(|(_, part)| !part.is_none()) {
            match self.open.last_mut() {
                Some(last) if last.0 == month => last.1 += part,
                // Walls go back; there are as many months as a clock has shown meanwhile.
                _ => self.open.push((month, part)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Wall;

    fn meter() -> Meter {
        Meter {
            at: Tick(100),
            pool: "p".to_owned(),
            gpus: true,
            units: 2_000,
            held: 1_000,
            sick: 300,
            ill: vec![1],
            rate: 3,
            spent: 50,
        }
    }

    #[test]
    fn a_spell_costs_what_its_part_of_the_worker_cost_meanwhile() {
        let mut meter = meter();
        let mut spell = Spell::new(Class::Starting, 500, Some(&meter), Tick(110));
        assert_eq!(spell.amount(Some(&meter), Tick(120)), (10, Amount { time: 5_000, money: 500 * 30 }));
        // The price changes at 120: what came before stays as it was.
        (meter.spent, meter.at, meter.rate) = (meter.spent_at(Tick(120)), Tick(120), 10);
        let came_to = spell.turn(Class::Useful, 500, Some(&meter), Tick(130));
        assert_eq!(came_to, (20, Amount { time: 10_000, money: 500 * (30 + 100) }));
        assert_eq!(spell.amount(Some(&meter), Tick(130)), (0, Amount::default()));
    }

    #[test]
    fn what_nobody_has_is_idle_or_unhealthy() {
        let meter = meter();
        assert_eq!(meter.rest(), [(Class::Idle, 700), (Class::Unhealthy, 300)]);
        assert_eq!(meter.amount(700, Tick(110)), Amount { time: 7_000, money: 21_000 });
        let cpus = Meter { gpus: false, ..meter };
        assert_eq!(cpus.amount(700, Tick(110)), Amount { time: 0, money: 21_000 });
    }

    #[test]
    fn what_was_empty_is_taken_once_and_never_more_than_there_is() {
        let mut spell = Spell::new(Class::Useful, 1_000, None, Tick(100));
        let now = Stamp { wall: Wall(0), tick: Tick(200) };
        spell.keep_open(100, Amount { time: 100_000, money: 1_000 }, now);
        let part = |units, from, to| EmptyPart { units, from: Tick(from), to: Tick(to) };
        // Before it began nothing is taken, nor after now, nor more parts than it has.
        let taken =
            spell.take_empty(&[part(500, 0, 120), part(4_000, 110, 130), part(500, 190, 900)], Tick(200));
        assert_eq!(taken, [(Month(197_001), Amount { time: 10_000 + 10_000 + 5_000, money: 250 })]);
        assert_eq!(spell.take_empty(&[part(1_000, 100, 200)], Tick(200)), []);
        let rest = spell.take_empty(&[part(1_000, 200, 500)], Tick(500));
        assert_eq!(rest, [(Month(197_001), Amount { time: 75_000, money: 750 })]);
        assert!(spell.open.is_empty());
    }

    #[test]
    fn open_time_is_kept_by_month() {
        let mut spell = Spell::new(Class::Useful, 1_000, None, Tick(0));
        let amount = Amount { time: 10, money: 10 };
        let january = Month(202_601).start();
        let at = |ms: i64| Stamp { wall: Wall(january.0 + ms), tick: Tick(0) };
        spell.keep_open(10, amount, at(-20));
        spell.keep_open(10, amount, at(5));
        spell.keep_open(10, amount, at(15));
        let half = Amount { time: 5, money: 5 };
        let mut december = amount;
        december += half;
        assert_eq!(spell.open, [(Month(202_512), december), (Month(202_601), december)]);
    }
}
