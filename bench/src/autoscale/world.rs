//! The replay: tasks arrive, the core's own board places them on what is there, a rule says what is to be there, spot machines go.
//!
//! One way for all rules. A machine that was asked for is launched as soon as there is one and joins [`BOOT_S`] later; it costs from its launch to
//! its end, by the second. Tasks are served in the order of their arrival, later ones wherever an earlier one does not fit. A task saves every
//! [`SAVE_EVERY_S`]; when its spot machine goes, it waits again, as old as it was, with the work since its last save to be done again. A machine
//! that a rule removes takes nothing more, and ends once it is empty; what still runs at the rule's deadline saves and waits again. A start, and for
//! one that goes on reading, take their time on the GPUs; so does the save before a removal, which is counted where the task goes on. Left out:
//! how long the other saves take (the same for all), notices, machines that fail.

use super::market::{BOOT_S, Market};
use super::outcome::Outcome;
use super::stream::Stream;
use crate::replay::Chance;
use muster_core::model::ids::WorkerId;
use muster_core::model::placement::Share;
use muster_core::scheduler::Board;
use muster_core::state::Used;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Work between two saves of a task, s.
pub const SAVE_EVERY_S: u64 = 600;
/// What a start takes, what reading a checkpoint adds, and a save before a removal, s: as in `replay goodput`.
const START_S: u64 = 10;
const READ_S: u64 = 20;
const SAVE_S: u64 = 20;
/// A launched machine costs at least so long, s.
const BILLED_AT_LEAST_S: u64 = 60;
/// What still waits so long after the last arrival is never served: no rule has a use for it.
const PATIENCE_S: u64 = 5 * 86_400;

/// What a rule wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Machines by pool, those that are asked for and those that are there without those that are to go. Fewer than are there: requests that are
    /// still open are taken back; machines go only by name.
    pub desired: Vec<u32>,
    /// Machines that are to go.
    pub remove: Vec<WorkerId>,
    /// What runs on them may go on for so long, s.
    pub drain_s: u64,
}

/// Says what is to be there.
pub trait Rule {
    /// Between two looks, s.
    fn every_s(&self) -> u64;
    fn look(&mut self, world: &World<'_>) -> Wish;
}

/// A machine that was launched.
#[derive(Debug, Clone)]
pub struct Machine {
    pub pool: usize,
    pub launched_s: u64,
    /// Since when it takes work; none: it boots.
    pub joined_s: Option<u64>,
    /// It takes nothing more, and what runs there ends by then.
    pub leaves_by_s: Option<u64>,
    pub used: Used,
    pub jobs: BTreeSet<usize>,
    /// Since when nothing runs on it.
    pub idle_since_s: u64,
}

impl Machine {
    /// It takes work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.joined_s.is_some() && self.leaves_by_s.is_none()
    }
}

/// A task that runs.
#[derive(Debug, Clone)]
struct Running {
    machine: WorkerId,
    since_s: u64,
    /// Until it works, s.
    starts_s: u64,
    shares: Vec<Share>,
}

impl Running {
    fn worked_s(&self, now_s: u64) -> u64 {
        (now_s - self.since_s).saturating_sub(self.starts_s)
    }
}

/// A task.
#[derive(Debug, Clone)]
struct Progress {
    left_s: u64,
    running: Option<Running>,
    waits_since_s: u64,
    waited_s: u64,
    /// Saving and reading that its next start takes.
    owes_s: u64,
    /// Starts so far: tells the end of one run from that of the next.
    starts: u32,
}

/// In the order in which they are looked at when they are due at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Supply(u64),
    Done { job: usize, start: u32 },
    Joins(WorkerId),
    Deadline(WorkerId),
    Arrives(usize),
    Look,
}

/// Everything of one run.
pub struct World<'a> {
    pub now_s: u64,
    pub market: &'a Market,
    pub stream: &'a Stream,
    pub machines: BTreeMap<WorkerId, Machine>,
    /// Requests that no machine was there for, by pool: when each was made.
    pub open: Vec<VecDeque<u64>>,
    /// Tasks that wait, the oldest first.
    pub waiting: BTreeSet<usize>,
    jobs: Vec<Progress>,
    left: usize,
    board: Board,
    /// Something came that what waits may fit on.
    freed: bool,
    supply: u32,
    heap: BinaryHeap<Reverse<(u64, Event)>>,
    machines_so_far: u64,
    chance: Chance,
    outcome: Outcome,
}

/// Plays one run.
#[must_use]
pub fn replay(market: &Market, stream: &Stream, seed: u64, rule: &mut dyn Rule) -> Outcome {
    let mut world = World::new(market, stream, seed);
    let end = stream.ends_s + PATIENCE_S;
    while world.left > 0 {
        let Some(Reverse((now, _))) = world.heap.peek().copied().filter(|Reverse((now, _))| *now <= end)
        else {
            break;
        };
        world.now_s = now;
        let mut looks = false;
        while let Some(Reverse((_, event))) = world.heap.peek().copied().filter(|Reverse((at, _))| *at == now)
        {
            world.heap.pop();
            match event {
                Event::Look => looks = true,
                other => world.happen(other),
            }
        }
        world.place();
        if looks {
            let wish = rule.look(&world);
            world.carry_out(&wish);
            world.at(rule.every_s(), Event::Look);
        }
    }
    world.finish()
}

impl<'a> World<'a> {
    fn new(market: &'a Market, stream: &'a Stream, seed: u64) -> Self {
        let mut board = Board::default();
        for job in &stream.jobs {
            if let Some(shape) = muster_core::scheduler::Shape::of(&stream.asks[job.ask].resources) {
                board.mix().observe(shape, 1);
            }
        }
        let progress = |job: &super::stream::Job| Progress {
            left_s: job.runs_s,
            running: None,
            waits_since_s: job.arrives_s,
            waited_s: 0,
            owes_s: 0,
            starts: 0,
        };
        let arrivals = stream.jobs.iter().enumerate();
        let mut heap: BinaryHeap<_> =
            arrivals.map(|(n, job)| Reverse((job.arrives_s, Event::Arrives(n)))).collect();
        heap.push(Reverse((0, Event::Supply(0))));
        heap.push(Reverse((0, Event::Look)));
        Self {
            now_s: 0,
            market,
            stream,
            machines: BTreeMap::new(),
            open: vec![VecDeque::new(); market.pools.len()],
            waiting: BTreeSet::new(),
            jobs: stream.jobs.iter().map(progress).collect(),
            left: stream.jobs.len(),
            board,
            freed: false,
            supply: 0,
            heap,
            machines_so_far: 0,
            chance: Chance(seed),
            outcome: Outcome::default(),
        }
    }

    fn at(&mut self, delay_s: u64, event: Event) {
        self.heap.push(Reverse((self.now_s + delay_s, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Supply(tick) => self.supply_is(tick),
            Event::Done { job, start } => self.done(job, start),
            Event::Joins(id) => self.joins(id),
            Event::Deadline(id) => self.deadline(id),
            Event::Arrives(job) => {
                self.waiting.insert(job);
                self.freed = true;
            }
            Event::Look => {}
        }
    }

    /// Since when a task waits.
    #[must_use]
    pub fn waits_since_s(&self, job: usize) -> u64 {
        self.jobs[job].waits_since_s
    }

    /// Work that a task still has to do.
    #[must_use]
    pub fn left_s(&self, job: usize) -> u64 {
        self.jobs[job].left_s
    }

    /// When what runs on a machine will be over; none: nothing runs.
    #[must_use]
    pub fn free_at_s(&self, machine: &Machine) -> Option<u64> {
        let ends = |job: &usize| {
            let progress = &self.jobs[*job];
            progress.running.as_ref().map(|running| running.since_s + running.starts_s + progress.left_s)
        };
        machine.jobs.iter().filter_map(ends).max()
    }

    /// GPU-milliseconds that a machine's tasks would have to do again.
    #[must_use]
    pub fn at_risk_ms(&self, machine: &Machine) -> u64 {
        let unsaved = |job: &usize| {
            let worked = self.jobs[*job].running.as_ref().map_or(0, |running| running.worked_s(self.now_s));
            worked % SAVE_EVERY_S * self.stream.jobs[*job].milli
        };
        machine.jobs.iter().map(unsaved).sum()
    }

    /// Machines of a pool that are there or boot, and stay.
    pub fn staying(&self, pool: usize) -> impl Iterator<Item = (WorkerId, &Machine)> {
        let stays = move |m: &Machine| m.pool == pool && m.leaves_by_s.is_none();
        self.machines.iter().filter(move |(_, m)| stays(m)).map(|(id, m)| (*id, m))
    }

    /// Those, and what is asked for.
    #[must_use]
    pub fn wanted(&self, pool: usize) -> u32 {
        (self.staying(pool).count() + self.open[pool].len()) as u32
    }

    /// All arrivals are over.
    #[must_use]
    pub fn is_after_the_last(&self) -> bool {
        self.now_s >= self.stream.ends_s
    }

    fn supply_is(&mut self, tick: u64) {
        self.supply = self.market.supply.at(tick);
        let spot = self.market.pools.iter().position(|pool| pool.spot);
        let mut live: Vec<WorkerId> =
            self.machines.iter().filter(|(_, m)| Some(m.pool) == spot).map(|(id, _)| *id).collect();
        while live.len() > self.supply as usize {
            let id = live.remove(self.chance.below(live.len()));
            let jobs = self.machines.get(&id).map(|m| m.jobs.clone()).unwrap_or_default();
            jobs.into_iter().for_each(|job| self.stop(job, false));
            self.end(id);
            self.outcome.reclaimed += 1;
        }
        self.at(self.market.supply.tick_s, Event::Supply(tick + 1));
        self.launch();
    }

    fn done(&mut self, job: usize, start: u32) {
        if self.jobs[job].starts == start && self.jobs[job].running.is_some() {
            self.stop(job, true);
            self.waiting.remove(&job);
            self.left -= 1;
            let waited = self.jobs[job].waited_s;
            self.outcome.waits_s.push(waited);
            self.outcome.last_end_s = self.now_s;
        }
    }

    /// It runs no more, and waits; `saves`: all it did counts.
    fn stop(&mut self, job: usize, saves: bool) {
        let Some(running) = self.jobs[job].running.take() else { return };
        let worked = running.worked_s(self.now_s);
        let Running { machine: id, shares, .. } = running;
        let task = self.stream.jobs[job];
        let kept = if saves { worked } else { worked - worked % SAVE_EVERY_S };
        self.outcome.worked_milli_s += kept * task.milli;
        self.outcome.lost_milli_s += (worked - kept) * task.milli;
        let progress = &mut self.jobs[job];
        progress.left_s = progress.left_s.saturating_sub(kept);
        progress.owes_s = READ_S + if saves { SAVE_S } else { 0 };
        progress.waits_since_s = self.now_s;
        self.waiting.insert(job);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.used.give_back(&self.stream.asks[task.ask].resources, &shares);
        machine.jobs.remove(&job);
        if machine.jobs.is_empty() {
            machine.idle_since_s = self.now_s;
        }
        if machine.is_ready() {
            self.board.update(id, &machine.used);
        } else if machine.jobs.is_empty() {
            self.end(id);
        }
        self.freed = true;
    }

    fn joins(&mut self, id: WorkerId) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        (machine.joined_s, machine.idle_since_s) = (Some(self.now_s), self.now_s);
        if machine.leaves_by_s.is_none() {
            self.board.set(id, &self.market.pools[machine.pool].spec, &machine.used);
            self.freed = true;
        }
    }

    fn deadline(&mut self, id: WorkerId) {
        let jobs = self.machines.get(&id).map(|m| m.jobs.clone()).unwrap_or_default();
        self.outcome.drained += jobs.len() as u64;
        jobs.into_iter().for_each(|job| self.stop(job, true));
    }

    /// What waits, on what is free.
    fn place(&mut self) {
        if !std::mem::take(&mut self.freed) {
            return;
        }
        let mut fits_nowhere: BTreeSet<usize> = BTreeSet::new();
        for job in self.waiting.clone() {
            let task = self.stream.jobs[job];
            if fits_nowhere.contains(&task.ask) {
                continue;
            }
            let ask = &self.stream.asks[task.ask];
            let Some((id, shares)) = self.board.choose(ask, |_| true) else {
                fits_nowhere.insert(task.ask);
                continue;
            };
            let Some(machine) = self.machines.get_mut(&id) else { continue };
            machine.used.take(&ask.resources, &shares);
            machine.jobs.insert(job);
            self.board.update(id, &machine.used);
            self.waiting.remove(&job);
            let progress = &mut self.jobs[job];
            progress.waited_s += self.now_s - progress.waits_since_s;
            progress.starts += 1;
            let starts_s = START_S + progress.owes_s;
            progress.running = Some(Running { machine: id, since_s: self.now_s, starts_s, shares });
            let (start, takes_s) = (progress.starts, starts_s + progress.left_s);
            self.at(takes_s, Event::Done { job, start });
        }
    }

    fn carry_out(&mut self, wish: &Wish) {
        for id in &wish.remove {
            let Some(machine) = self.machines.get_mut(id).filter(|m| m.leaves_by_s.is_none()) else {
                continue;
            };
            machine.leaves_by_s = Some(self.now_s + wish.drain_s);
            self.board.remove(*id);
            if machine.jobs.is_empty() {
                self.end(*id);
            } else {
                self.at(wish.drain_s, Event::Deadline(*id));
            }
        }
        for (pool, desired) in wish.desired.iter().enumerate() {
            let desired = (*desired).min(self.market.pools[pool].max) as usize;
            let there = self.staying(pool).count();
            let open = &mut self.open[pool];
            while open.len() > desired.saturating_sub(there) {
                open.pop_back();
            }
            while open.len() + there < desired {
                open.push_back(self.now_s);
            }
        }
        self.launch();
    }

    /// What is asked for and is to be had.
    fn launch(&mut self) {
        for pool in 0..self.open.len() {
            while !self.open[pool].is_empty() {
                let kind = &self.market.pools[pool];
                let live = self.machines.values().filter(|m| m.pool == pool).count();
                if kind.spot && live >= self.supply as usize {
                    break;
                }
                self.open[pool].pop_front();
                self.machines_so_far += 1;
                let id = WorkerId(self.machines_so_far);
                let machine = Machine {
                    pool,
                    launched_s: self.now_s,
                    joined_s: None,
                    leaves_by_s: None,
                    used: Used::default(),
                    jobs: BTreeSet::new(),
                    idle_since_s: self.now_s,
                };
                self.machines.insert(id, machine);
                self.at(BOOT_S, Event::Joins(id));
            }
        }
    }

    /// The machine is gone, and paid.
    fn end(&mut self, id: WorkerId) {
        let Some(machine) = self.machines.remove(&id) else { return };
        self.board.remove(id);
        let kind = &self.market.pools[machine.pool];
        let billed = (self.now_s - machine.launched_s).max(BILLED_AT_LEAST_S);
        self.outcome.pay(kind, billed);
    }

    fn finish(mut self) -> Outcome {
        let all: Vec<WorkerId> = self.machines.keys().copied().collect();
        all.into_iter().for_each(|id| self.end(id));
        self.outcome.unserved = self.left as u64;
        self.outcome.waits_s.sort_unstable();
        self.outcome
    }
}
