//! What waits, packed: first onto what is idle, what boots, and what is free before a new machine would be up; then onto new machines, of
//! the pool where one more task costs least.
//!
//! Tasks that ask for the same are packed together, so that the time this takes grows with the kinds of asks and of machines, not with
//! their number. Where the run time is known a machine is given as many in a row as it does before another one would be up: work that is
//! over sooner than a machine boots is no reason to buy one.
//!
//! Left out: fragmentation and links, which are the scheduler's. What is packed here too tightly is bought for in the next round.

use super::pools::{Left, Pool};
use super::situation::{Machine, MachineState, Situation, Unmet, Waiting};
use super::{ROUNDS_MAX, TASKS_PER_MACHINE_MAX};
use crate::model::gang::Gang;
use crate::model::ids::{JobId, TaskNo};
use crate::model::resources::Resources;
use crate::model::time::Tick;
use crate::model::worker::WorkerSpec;
use crate::scheduler::{Ask, Facts, fit, fits_empty, has_room};
use crate::state::Used;
use std::collections::BTreeMap;

/// Machines that are alike and to which the same has been given.
struct Bin<'a> {
    pool: usize,
    kind: u64,
    spec: &'a WorkerSpec,
    used: Used,
    count: u32,
    source: Source,
    /// Nothing was given to it yet.
    fresh: bool,
}

/// Where a bin's machines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Idle,
    /// Busy, and free before a new machine is up.
    Later,
    Booting,
    New,
}

/// What asks for the same, of whatever job.
struct Demand<'a> {
    ask: Ask,
    gang: Option<&'a Gang>,
    count: u64,
    /// The longest; none: of one it is unknown.
    run_ms: Option<u64>,
    since: Tick,
    jobs: Vec<(JobId, TaskNo, u64)>,
}

/// What became of the demand.
pub(super) struct Packed {
    pub unmet: Vec<Unmet>,
    /// Idle workers that are needed, by pool and kind.
    pub idle_needed: BTreeMap<(usize, u64), u32>,
}

/// Packs all that waits. `pools` learn what was bought of them, and for whom.
pub(super) fn pack<'a>(situation: &'a Situation<'a>, pools: &mut [Pool<'a>], left: &mut Left<'a>) -> Packed {
    let mut packer = Packer {
        facts: Facts::default(),
        holds: BTreeMap::new(),
        bins: bins(situation, pools),
        packed: Packed { unmet: Vec::new(), idle_needed: BTreeMap::new() },
    };
    for demand in demands(&situation.waiting) {
        match demand.gang {
            Some(gang) => packer.gangs(&demand, gang, pools, left),
            None => packer.singles(&demand, pools, left),
        }
    }
    packer.packed
}

/// In the order of the first of each.
fn demands<'a>(waiting: &'a [Waiting<'a>]) -> Vec<Demand<'a>> {
    let mut all: Vec<Demand<'a>> = Vec::new();
    let mut by_ask: BTreeMap<(Ask, Option<&Gang>), usize> = BTreeMap::new();
    for w in waiting.iter().filter(|w| w.count > 0) {
        let ask = Ask { resources: w.resources.clone(), constraints: w.constraints.to_vec() };
        let at = *by_ask.entry((ask.clone(), w.gang)).or_insert(all.len());
        if at == all.len() {
            all.push(Demand {
                ask,
                gang: w.gang,
                count: 0,
                run_ms: w.run_ms,
                since: w.since,
                jobs: Vec::new(),
            });
        }
        let demand = &mut all[at];
        demand.count += w.count;
        demand.since = demand.since.min(w.since);
        demand.run_ms = demand.run_ms.zip(w.run_ms).map(|(a, b)| a.max(b));
        demand.jobs.push((w.job, w.task, w.count));
    }
    all
}

fn bins<'a>(situation: &'a Situation<'a>, pools: &[Pool<'a>]) -> Vec<Bin<'a>> {
    let mut bins: Vec<Bin<'a>> = Vec::new();
    let mut known: BTreeMap<(usize, u64, bool), usize> = BTreeMap::new();
    let number: BTreeMap<&str, usize> = pools.iter().enumerate().map(|(n, pool)| (pool.name, n)).collect();
    // More than a pool may have go, the idle ones first: nothing is to be expected of them.
    let mut excess: Vec<u32> = pools.iter().map(|p| p.current.saturating_sub(p.spec.max)).collect();
    let counts = |m: &&Machine<'_>| matches!(m.state, MachineState::Ready | MachineState::Unheard);
    for machine in situation.machines.iter().filter(counts) {
        let Some(pool) = number.get(machine.spec.pool.as_str()).copied() else { continue };
        let is_idle = machine.idle_since.is_some();
        let soon = situation.now.plus(pools[pool].horizon_ms());
        if !is_idle && machine.free_at.is_none_or(|free| free > soon) {
            continue;
        }
        if is_idle && excess[pool] > 0 {
            excess[pool] -= 1;
            continue;
        }
        let at = *known.entry((pool, machine.kind, is_idle)).or_insert(bins.len());
        if at == bins.len() {
            let source = if is_idle { Source::Idle } else { Source::Later };
            let used = Used::default();
            bins.push(Bin {
                pool,
                kind: machine.kind,
                spec: machine.spec,
                used,
                count: 0,
                source,
                fresh: true,
            });
        }
        bins[at].count += 1;
    }
    // Whichever of them is there first: the same ones are needed next time.
    bins.sort_by_key(|bin| (bin.source == Source::Later, bin.pool, bin.kind));
    for (pool, p) in pools.iter().enumerate() {
        if let Some(spec) = p.like.filter(|_| p.booting > 0) {
            let used = Used::default();
            bins.push(Bin {
                pool,
                kind: 0,
                spec,
                used,
                count: p.booting,
                source: Source::Booting,
                fresh: true,
            });
        }
        if let Some(spec) = p.like.filter(|_| p.topped > 0) {
            let used = Used::default();
            bins.push(Bin { pool, kind: 0, spec, used, count: p.topped, source: Source::New, fresh: true });
        }
    }
    bins
}

struct Packer<'a> {
    facts: Facts,
    /// Whether a pool's workers could take an ask, as far as known.
    holds: BTreeMap<(usize, Ask), bool>,
    bins: Vec<Bin<'a>>,
    packed: Packed,
}

impl<'a> Packer<'a> {
    /// Whether the next worker of the pool could take it.
    fn suits(&mut self, pool: usize, like: &WorkerSpec, ask: &Ask) -> bool {
        if let Some(known) = self.holds.get(&(pool, ask.clone())) {
            return *known;
        }
        let suits = fits_empty(&ask.resources, like) && self.facts.hold_of_kind(ask, like);
        self.holds.insert((pool, ask.clone()), suits);
        suits
    }

    /// The pools whose next worker could take it, each of which learns that it waits.
    fn suitable(&mut self, pools: &mut [Pool<'a>], demand: &Demand<'a>) -> Vec<usize> {
        let (ask, ranks) = (&demand.ask, demand.gang.map_or(1, |gang| u64::from(gang.min)));
        let mut suitable = Vec::new();
        for (n, pool) in pools.iter_mut().enumerate() {
            let Some(like) = pool.like.filter(|like| self.suits(n, like, ask)) else { continue };
            suitable.push(n);
            pool.waiting += demand.count;
            pool.oldest = Some(pool.oldest.map_or(demand.since, |oldest| oldest.min(demand.since)));
            let one = match &ask.resources.gpus {
                Some(gpus) => u64::from(gpus.amount.devices()) * u64::from(gpus.amount.milli()),
                None if like.devices.is_empty() => ask.resources.cpu_milli,
                None => 0,
            };
            pool.asked_milli = pool.asked_milli.saturating_add(one * ranks * demand.count);
        }
        suitable
    }

    fn singles(&mut self, demand: &Demand<'a>, pools: &mut [Pool<'a>], left: &mut Left<'a>) {
        let resources = &demand.ask.resources;
        let suitable = self.suitable(pools, demand);
        let rounds = |pool: &Pool<'_>| {
            let run_ms = demand.run_ms.filter(|ms| *ms > 0);
            run_ms.map_or(1, |ms| (pool.horizon_ms() / ms).clamp(1, ROUNDS_MAX))
        };
        // 1. What is there, or soon is.
        let mut count = demand.count;
        for bin in self.in_order() {
            if count == 0 {
                break;
            }
            let Bin { pool, spec, .. } = self.bins[bin];
            if suitable.contains(&pool) || self.suits_as_it_is(spec, &demand.ask) {
                count = self.fill(bin, resources, count, rounds(&pools[pool]), pools);
            }
        }
        // 2. New machines, where one more task costs least.
        while count > 0 {
            let offers = suitable.iter().filter_map(|n| {
                let pool = &pools[*n];
                let room = pool.room.min(left.room(pool).0);
                let like = pool.like.filter(|_| room > 0)?;
                let per = capacity(resources, like, &Used::default()) * rounds(pool);
                // The last machine may be filled in part: then the cheapest machine is better than the one with the cheapest place.
                let cost = u128::from(pool.price()) * 1_000 / u128::from(per.min(count).max(1));
                Some((cost, pool.boot_ms(), *n, per, room, like))
            });
            let Some((_, _, n, per, room, like)) = offers.min_by_key(|o| (o.0, o.1, o.2)) else { break };
            let machines = u32::try_from((count / per).max(1)).unwrap_or(u32::MAX).min(room);
            self.buy(n, like, machines, demand, pools, left);
            let at = self.bins.len() - 1;
            let rest = self.fill(at, resources, count, rounds(&pools[n]), pools);
            if rest == count {
                break;
            }
            count = rest;
        }
        if count > 0 {
            let reason = self.why(&suitable, demand, pools, left, 1);
            self.unmet(demand, count, &reason);
        }
    }

    /// Bins, those that have something first: what is left of them is good for nothing larger.
    fn in_order(&self) -> Vec<usize> {
        let some = |fresh: bool| move |(_, bin): &(usize, &Bin<'_>)| bin.count > 0 && bin.fresh == fresh;
        let bins = || self.bins.iter().enumerate();
        bins().filter(some(false)).chain(bins().filter(some(true))).map(|(at, _)| at).collect()
    }

    /// A worker that is there may have what the template does not say.
    fn suits_as_it_is(&mut self, spec: &WorkerSpec, ask: &Ask) -> bool {
        fits_empty(&ask.resources, spec) && self.facts.hold_of_kind(ask, spec)
    }

    /// Gives up to `count` to the machines of a bin; returns how many are left.
    fn fill(
        &mut self,
        at: usize,
        resources: &Resources,
        count: u64,
        rounds: u64,
        pools: &mut [Pool<'a>],
    ) -> u64 {
        let bin = &self.bins[at];
        if bin.count == 0 || !has_room(resources, bin.spec, &bin.used) {
            return count;
        }
        let places = capacity(resources, bin.spec, &bin.used);
        let per = places * rounds;
        if per == 0 {
            return count;
        }
        let full = u32::try_from(count / per).unwrap_or(u32::MAX).min(bin.count);
        let rest = count - u64::from(full) * per;
        if full > 0 {
            self.split(at, full, resources, places, pools);
        }
        // One more in part, if there is one left.
        if rest > 0 && self.bins[at].count > 0 {
            self.split(at, 1, resources, rest.div_ceil(rounds), pools);
            return 0;
        }
        rest
    }

    /// `machines` of the bin get `times` more of the same each, and are a bin of their own from now on.
    fn split(&mut self, at: usize, machines: u32, resources: &Resources, times: u64, pools: &mut [Pool<'a>]) {
        let bin = &mut self.bins[at];
        bin.count -= machines;
        let Bin { pool, kind, spec, source, fresh, .. } = *bin;
        let mut used = bin.used.clone();
        for _ in 0..times {
            let Some(devices) = fit(resources, spec, &used) else { break };
            used.take(resources, &devices);
        }
        if fresh {
            match source {
                Source::Idle => {
                    *self.packed.idle_needed.entry((pool, kind)).or_default() += machines;
                }
                Source::Booting => pools[pool].booting_needed += machines,
                Source::Later | Source::New => {}
            }
        }
        let is_full = used.cpu_milli >= spec.cpu_milli
            || (!spec.devices.is_empty()
                && used.devices.values().filter(|d| d.milli >= 1_000).count() >= spec.devices.len());
        if !is_full {
            self.bins.push(Bin { pool, kind, spec, used, count: machines, source, fresh: false });
        }
    }

    fn buy(
        &mut self,
        n: usize,
        like: &'a WorkerSpec,
        machines: u32,
        demand: &Demand<'a>,
        pools: &mut [Pool<'a>],
        left: &mut Left<'a>,
    ) {
        left.take(&pools[n], machines);
        let pool = &mut pools[n];
        pool.room -= machines.min(pool.room);
        pool.bought += machines;
        pool.gang_bought += if demand.gang.is_some() { machines } else { 0 };
        pool.jobs.extend(demand.jobs.iter().map(|(job, _, _)| *job));
        match demand.run_ms {
            Some(ms) => pool.for_ms = pool.for_ms.max(ms),
            None => pool.unknown_ms = true,
        }
        let used = Used::default();
        let source = Source::New;
        self.bins.push(Bin { pool: n, kind: 0, spec: like, used, count: machines, source, fresh: true });
    }

    /// Whole gangs, one after the other: each gets all its seats in one pool, or nothing is bought for it.
    fn gangs(&mut self, demand: &Demand<'a>, gang: &Gang, pools: &mut [Pool<'a>], left: &mut Left<'a>) {
        let suitable = self.suitable(pools, demand);
        let mut count = demand.count;
        while count > 0 {
            if !self.one_gang(demand, gang, &suitable, pools, left) {
                break;
            }
            count -= 1;
        }
        if count > 0 {
            let reason = self.why(&suitable, demand, pools, left, gang.min);
            self.unmet(demand, count, &reason);
        }
    }

    fn one_gang(
        &mut self,
        demand: &Demand<'a>,
        gang: &Gang,
        suitable: &[usize],
        pools: &mut [Pool<'a>],
        left: &mut Left<'a>,
    ) -> bool {
        let resources = &demand.ask.resources;
        // One rank a machine; ranks of one gang are on different machines.
        let offers = suitable.iter().filter_map(|n| {
            let pool = &pools[*n];
            let like = pool.like?;
            let shares = |spec: &WorkerSpec| match &gang.require {
                // New machines are where the template says; one that is elsewhere is no help.
                Some(label) => spec.labels.get(label).is_some_and(|v| like.labels.get(label) == Some(v)),
                None => true,
            };
            if !shares(like) {
                return None;
            }
            let fitting = |bin: &&Bin<'_>| {
                bin.pool == *n && shares(bin.spec) && fit(resources, bin.spec, &bin.used).is_some()
            };
            let seats: u32 = self.bins.iter().filter(fitting).map(|bin| bin.count).sum();
            let there = self.bins.iter().filter(fitting).filter(|bin| bin.source == Source::Idle);
            let later = gang.min.saturating_sub(there.map(|bin| bin.count).sum());
            let new = gang.min.saturating_sub(seats);
            let room = pool.room.min(left.room(pool).0);
            let cost = u128::from(pool.price()) * u128::from(new);
            (new <= room).then_some(((cost, later, pool.price(), pool.boot_ms(), *n), new, like))
        });
        // Of those that cost nothing more, the one where most of it is there already.
        let Some(((_, _, _, _, n), new, like)) = offers.min_by_key(|offer| offer.0) else { return false };
        if new > 0 {
            self.buy(n, like, new, demand, pools, left);
        }
        let mut ranks = gang.min;
        for at in self.in_order() {
            let bin = &self.bins[at];
            let is_near = gang.require.as_ref().is_none_or(|l| bin.spec.labels.get(l) == like.labels.get(l));
            if bin.pool == n && bin.count > 0 && is_near && fit(resources, bin.spec, &bin.used).is_some() {
                let machines = bin.count.min(ranks);
                // It sits on what was bought for others.
                if bin.source == Source::New && !bin.fresh {
                    pools[n].gang_bought += machines;
                }
                self.split(at, machines, resources, 1, pools);
                ranks -= machines;
            }
            if ranks == 0 {
                break;
            }
        }
        true
    }

    /// Why nothing more is bought for it.
    fn why(
        &self,
        suitable: &[usize],
        demand: &Demand<'a>,
        pools: &mut [Pool<'a>],
        left: &Left<'a>,
        machines: u32,
    ) -> String {
        if suitable.is_empty() {
            return "no pool's workers could take it".to_owned();
        }
        let whys: Vec<String> = suitable
            .iter()
            .map(|n| {
                let pool = &mut pools[*n];
                pool.jobs.extend(demand.jobs.iter().map(|(job, _, _)| *job));
                let total = pool.current + pool.booting + pool.bought;
                let (shared, limit) = left.room(pool);
                let why = if let Some(hold) = pool.hold.clone() {
                    hold
                } else if let Some(limit) = limit.filter(|_| shared < machines.min(pool.room.max(1))) {
                    pool.hold = Some(limit.clone());
                    limit
                } else if machines > 1 {
                    format!(
                        "room for {} of {machines} more (max {}, {total} there)",
                        pool.room, pool.spec.max
                    )
                } else {
                    format!("its max of {} is reached", pool.spec.max)
                };
                format!("pool {:?}: {why}", pool.name)
            })
            .collect();
        whys.join("; ")
    }

    fn unmet(&mut self, demand: &Demand<'a>, count: u64, reason: &str) {
        // The last ones of those that ask for it.
        let mut left = count;
        for (job, task, n) in demand.jobs.iter().rev() {
            if left == 0 {
                break;
            }
            let count = left.min(*n);
            left -= count;
            let (job, task, name) = (*job, *task, String::new());
            self.packed.unmet.push(Unmet { job, task, name, count, reason: reason.to_owned() });
        }
    }
}

/// How many of these one worker takes at once beside what is used.
fn capacity(resources: &Resources, spec: &WorkerSpec, used: &Used) -> u64 {
    if resources.gpus.is_none() {
        let by =
            |has: u64, used: u64, asks: u64| has.saturating_sub(used).checked_div(asks).unwrap_or(u64::MAX);
        return by(spec.cpu_milli, used.cpu_milli, resources.cpu_milli)
            .min(by(spec.memory, used.memory, resources.memory))
            .min(by(spec.disk, used.disk, resources.disk))
            .min(TASKS_PER_MACHINE_MAX);
    }
    let mut used = used.clone();
    let mut count = 0;
    while count < TASKS_PER_MACHINE_MAX {
        let Some(devices) = fit(resources, spec, &used) else { break };
        used.take(resources, &devices);
        count += 1;
    }
    count
}
