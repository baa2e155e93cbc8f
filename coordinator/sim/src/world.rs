//! The world: one heap of what is due, virtual time, and the two phases of a run. First faults, then heal, then everything must
//! finish. Decisions are the real code's; what the rooms beside this file model is said in each.

use crate::clients::Clients;
use crate::cloud::Cloud;
use crate::event::{Event, Who};
use crate::faults::Faults;
use crate::invariants;
use crate::network::Network;
use crate::options::{LIVENESS_MS, MEMBERS, Options, SCALED_IN_MS};
use crate::oracle::Oracle;
use crate::plants::Planted;
use crate::reads::Reads;
use crate::replicas::{Cluster, Member};
use crate::store::Store;
use crate::trace::Trace;
use crate::workers::Machine;
use muster_core::state::Changes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What a run cost and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Virtual time at the end, ms.
    pub virtual_ms: u64,
    pub events: u64,
    pub entries: u64,
    pub commands: u64,
    /// Calls and looks of clients.
    pub calls: u64,
    pub jobs: u64,
    pub attempts: u64,
    pub lost: u64,
    pub fenced: u64,
    pub elections: u64,
    pub faults: u64,
    /// To the providers of pools.
    pub orders: u64,
}

/// Violations above this many are not collected: one bug is enough.
const VIOLATIONS_MAX: usize = 8;

/// Everything of one run.
pub struct World {
    pub(crate) options: Options,
    pub(crate) now: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Event>,
    pushed: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) cluster: Cluster,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) reads: Reads,
    pub(crate) faults: Faults,
    pub(crate) cloud: Cloud,
    pub(crate) store: Store,
    pub(crate) oracle: Oracle,
    pub(crate) planted: Planted,
    /// What a plant touched while an entry was applied.
    pub(crate) planted_changes: Changes,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    pub(crate) violations: Vec<String>,
    pub(crate) healed: bool,
}

impl World {
    /// The world at its first moment.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut world = Self {
            now: 0,
            heap: BinaryHeap::new(),
            due: BTreeMap::new(),
            pushed: 0,
            members: (0..MEMBERS).map(|m| Member::new(options.seed, m)).collect(),
            cluster: Cluster::new(options.seed),
            machines: (0..options.workers).map(|w| Machine::new(options.seed, w)).collect(),
            network: Network::new(&options),
            clients: Clients::new(&options),
            reads: Reads::default(),
            faults: Faults::new(&options),
            cloud: Cloud::new(&options),
            store: Store::default(),
            oracle: Oracle::default(),
            planted: Planted::new(options.plant),
            planted_changes: Changes::default(),
            trace: Trace::new(options.keep_trace),
            stats: Stats::default(),
            violations: Vec::new(),
            healed: false,
            options,
        };
        world.at(10, Event::ElectionDue);
        for worker in 0..world.machines.len() {
            world.at(50, Event::Connect { worker, agent: 0 });
        }
        world.plan_workload();
        world.at(5_000, Event::NextFault);
        if world.cloud.is_there() {
            world.at(0, Event::CloudMoves);
        }
        world
    }

    /// Runs both phases.
    pub fn run(&mut self) {
        // 1. Safety: everything may break.
        self.run_until(self.options.safety_ms, |_| false);
        // 2. Heal: nothing breaks any more, what is down comes up, what is held is released.
        self.heal();
        let healed = self.now;
        // 3. Liveness: every call is answered, every job ends.
        self.run_until(healed + LIVENESS_MS, Self::is_finished);
        invariants::i11_liveness::check(self);
        // 4. Machines of pools that nobody needs any more go.
        if self.cloud.is_there() {
            self.run_until(self.now + SCALED_IN_MS, Self::is_at_min);
            invariants::i13_scale_in::check(self);
        }
        // 5. Quiet: workers let go of what ended.
        self.run_until(self.now + self.options.quiet_ms, |_| false);
        (0..MEMBERS).for_each(|m| self.catch_up(m));
        invariants::at_the_end(self);
        self.stats.virtual_ms = self.now;
        self.stats.entries = self.cluster.log.len() as u64;
        self.stats.commands = self.cluster.log.iter().map(|b| b.commands.len() as u64).sum();
        self.stats.calls = (self.clients.ops.len() + self.reads.all.len()) as u64;
    }

    /// Makes `event` due in `delay` ms.
    pub(crate) fn at(&mut self, delay: u64, event: Event) {
        self.at_time(self.now + delay, event);
    }

    /// Makes `event` due at a moment.
    pub(crate) fn at_time(&mut self, time: u64, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse((time.max(self.now), self.pushed)));
        self.due.insert(self.pushed, event);
    }

    /// A property does not hold.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("at {} ms: {}", self.now, what.into()));
        }
    }

    fn run_until(&mut self, end: u64, done: impl Fn(&Self) -> bool) {
        while let Some(Reverse((time, number))) = self.heap.peek().copied() {
            if time > end || !self.violations.is_empty() {
                break;
            }
            self.heap.pop();
            self.now = time;
            let Some(event) = self.due.remove(&number) else { continue };
            self.stats.events += 1;
            match self.stopped(&event) {
                Who::Member(m) => self.members[m].stalled.push(event),
                Who::Agent(w) => self.machines[w].stalled.push(event),
                Who::Nobody => self.happen(event),
            }
            if self.stats.events.is_multiple_of(64) && done(self) {
                return;
            }
        }
        if self.violations.is_empty() {
            self.now = self.now.max(end.min(self.now + self.options.quiet_ms));
        }
    }

    /// Who is stopped and would have to act.
    fn stopped(&self, event: &Event) -> Who {
        let member = |m: usize| if self.members[m].paused { Who::Member(m) } else { Who::Nobody };
        let agent = |w: usize| if self.machines[w].paused { Who::Agent(w) } else { Who::Nobody };
        match event {
            Event::CommitDue { member: m, .. }
            | Event::CatchUp { member: m }
            | Event::Depose { member: m, .. }
            | Event::Offered { member: m, .. }
            | Event::Burst { member: m, .. }
            | Event::Timer { member: m, .. }
            | Event::Confirmed { member: m, .. }
            | Event::Answered { member: m, .. }
            | Event::Register { via: m, .. }
            | Event::LookAt { via: m, .. }
            | Event::Configured { member: m, .. }
            | Event::GroupAsked { member: m, .. }
            | Event::GroupTold { member: m, .. }
            | Event::IndexAsked { leader: m, .. }
            | Event::IndexConfirmed { leader: m, .. }
            | Event::Serve { via: m, .. }
            | Event::Call { via: m, .. } => member(*m),
            Event::OrderDue(errand) if !errand.under_way => member(errand.member),
            Event::Up { session, .. } | Event::ClosedAtLeader { session } => {
                self.network.sessions.get(session).and_then(|s| s.leader).map_or(Who::Nobody, member)
            }
            Event::Opened { session }
            | Event::ClosedAtWorker { session }
            | Event::Silence { session }
            | Event::Down { session, .. } => {
                let Some(session) = self.network.sessions.get(session) else { return Who::Nobody };
                match (event, member(session.via)) {
                    (Event::Down { .. } | Event::Opened { .. }, Who::Member(m)) => Who::Member(m),
                    _ => agent(session.worker),
                }
            }
            Event::Wake { worker, .. }
            | Event::Prepared { worker, .. }
            | Event::Noticed { worker, .. }
            | Event::Stored { worker, .. }
            | Event::Connect { worker, .. } => agent(*worker),
            _ => Who::Nobody,
        }
    }

    fn happen(&mut self, event: Event) {
        let (what, a, b) = event.digest();
        self.trace.note(self.now, what, a, b, || format!("{event:?}"));
        match event {
            Event::CommitDue { member, term } => self.commit_due(member, term),
            Event::CatchUp { member } => self.catch_up(member),
            Event::ElectionDue => self.election_due(),
            Event::Depose { member, term } => self.depose(member, term),
            Event::Offered { member, life, term, id, commands } => {
                self.offered(member, life, term, id, commands);
            }
            Event::Burst { member, term } => self.burst(member, term),
            Event::Timer { member, term } => self.timer(member, term),
            Event::QuorumAsked { member, term, batch } => self.quorum_asked(member, term, batch),
            Event::Confirmed { member, term, batch, ok } => self.confirmed(member, term, batch, ok),
            Event::Answered { member, term, id, replies } => self.answered(member, term, id, replies),
            Event::Connect { worker, agent } => self.connect(worker, agent),
            Event::Register { session, via } => self.register(session, via),
            Event::Opened { session } => self.opened(session),
            Event::Silence { session } => self.silence(session),
            Event::Up { session, up } => self.up(session, up),
            Event::Down { session, instructions } => self.down(session, instructions),
            Event::ClosedAtLeader { session } => self.closed_at_leader(session),
            Event::ClosedAtWorker { session } => self.closed_at_worker(session),
            Event::Wake { worker, agent } => self.wake(worker, agent),
            Event::Prepared { worker, agent, token } => self.prepared(worker, agent, token),
            Event::Noticed { worker, agent, token, notice } => self.noticed(worker, agent, token, notice),
            Event::ProcessEnds { worker, boot, token, killed } => {
                self.process_ends(worker, boot, token, killed)
            }
            Event::Fence { worker, boot, token } => self.fence(worker, boot, token),
            Event::Gone { worker, boot, token } => self.gone(worker, boot, token),
            Event::SaveDue { worker, boot, token } => self.save_due(worker, boot, token),
            Event::Stored { worker, agent, upload, whole } => self.stored(worker, agent, &upload, whole),
            Event::Decay { number } => self.decay(number),
            Event::Look { read } => self.look(read),
            Event::LookAt { read, via } => self.look_at(read, via),
            Event::IndexAsked { read, via, leader } => self.index_asked(read, via, leader),
            Event::IndexConfirmed { read, via, leader, term, index } => {
                self.index_confirmed(read, via, leader, term, index);
            }
            Event::Serve { read, via, index } => self.serve(read, via, index),
            Event::Seen { read, answer } => self.seen(read, answer),
            Event::CloudMoves => self.cloud_moves(),
            Event::Configured { member, number } => self.configured(member, number),
            Event::GroupAsked { member, term, pool, goes_on } => {
                self.group_asked(member, term, &pool, goes_on);
            }
            Event::GroupTold { member, term, pool, told } => self.group_told(member, term, pool, told),
            Event::OrderDue(errand) => self.order_due(&errand),
            Event::Retire => self.retire(),
            Event::Roll { step } => self.roll(step),
            Event::Ask { op } => self.ask(op),
            Event::Call { op, via } => self.call(op, via),
            Event::Answer { op, reply } => self.answer(op, reply),
            Event::Impatient { op, tries } => self.impatient(op, tries),
            Event::NextFault => self.next_fault(),
            Event::Break(fault) => self.break_it(fault),
            Event::Mend(fault) => self.mend(fault),
            Event::ReleaseHeld => self.release_held(),
        }
    }

    fn is_finished(&self) -> bool {
        let longest = &self.members[self.most_applied()].state;
        self.clients.all_answered()
            && self.reads.all_answered()
            && longest.jobs().all(|job| job.state().is_terminal())
    }

    /// The member whose state is the newest.
    pub(crate) fn most_applied(&self) -> usize {
        (0..MEMBERS).max_by_key(|m| (self.members[*m].applied, *m)).unwrap_or(0)
    }
}
