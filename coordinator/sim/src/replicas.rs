//! The modelled log and its three members. A commit needs a majority and takes a while; an election keeps a prefix of what the old leader
//! had begun to send, so a proposal may be lost, or be committed after its caller gave up. Real: `State`, its rows and restore, `Leader`.

mod elections;
mod thread;

use crate::event::Event;
use crate::invariants;
use crate::options::MEMBERS;
use crate::rng::{Rng, mix};
use crate::world::World;
use muster_core::command::{Batch, Command};
use muster_core::leader::{Input, Leader};
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::reply::{Replies, Reply};
use muster_core::state::{Changes, Entry, Key, Row, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Entries between two writes of the rows to the modelled disk.
const FLUSH_EVERY: u64 = 40;
/// Entries between two comparisons of digests.
pub const DIGEST_EVERY: u64 = 100;

/// A wall clock stays as wrong as it is for this long, ms …
const WALL_HOLDS_MS: u64 = 7_000;
/// … by so much.
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// Who waits for a proposal.
#[derive(Debug, Clone)]
pub enum Origin {
    Leader(u64),
    Client { op: usize, via: usize },
    Session(u64),
    Nobody,
}

/// Something on its way into the log.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub batch: Arc<Batch>,
    pub origin: Origin,
    /// When it may be committed.
    pub ready: u64,
    /// Another member may have got it.
    pub sent: bool,
}

/// A term that a member leads, or believes to lead.
pub struct Term {
    pub term: u64,
    pub queue: VecDeque<Proposal>,
    /// The state's tick at the beginning, and when that was.
    clock: (Tick, u64),
    /// The leader's thread was told.
    pub is_ready: bool,
    pub sessions: BTreeSet<u64>,
    burst: bool,
}

/// One member.
pub struct Member {
    pub up: bool,
    pub paused: bool,
    pub stalled: Vec<Event>,
    pub state: State,
    pub applied: u64,
    disk: BTreeMap<Key, Row>,
    disk_applied: u64,
    dirty: BTreeSet<Key>,
    pub leader: Leader,
    pub led: Option<Term>,
    /// Counts the processes of this member.
    life: u32,
    /// What its leader proposes now waits in the queue until then.
    queue_free: u64,
    boot: u64,
}

/// What is true of the cluster, whoever knows it.
pub struct Cluster {
    pub rng: Rng,
    pub log: Vec<Arc<Batch>>,
    pub term: u64,
    pub leader: Option<usize>,
    /// What a killed leader had begun to send.
    remains: VecDeque<Proposal>,
    election_due: bool,
    pub digests: BTreeMap<u64, [u8; 32]>,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, "log"),
            log: Vec::new(),
            term: 0,
            leader: None,
            remains: VecDeque::new(),
            election_due: true,
            digests: BTreeMap::new(),
        }
    }
}

impl Member {
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        Self {
            up: true,
            paused: false,
            stalled: Vec::new(),
            state: State::new(),
            applied: 0,
            disk: BTreeMap::new(),
            disk_applied: 0,
            dirty: BTreeSet::new(),
            leader: Leader::new(),
            led: None,
            life: 0,
            queue_free: 0,
            boot: Rng::new(seed, "boot").below(1 << 30) + number as u64 * 77_777_777,
        }
    }

    /// A row that would be another after a flush and a restart now: its change was not named by an entry.
    fn unsaid(&self) -> Option<Key> {
        let mut rows = self.disk.clone();
        for key in &self.dirty {
            match self.state.row(key) {
                Some(row) => rows.insert(key.clone(), row),
                None => rows.remove(key),
            };
        }
        let again = State::restore(rows.into_iter()).unwrap_or_default();
        let mut keys = self.state.keys();
        keys.extend(again.keys());
        keys.into_iter().find(|k| again.row(k) != self.state.row(k))
    }

    fn flush(&mut self, but: impl Fn(&Key) -> bool) {
        for key in std::mem::take(&mut self.dirty).into_iter().filter(|k| !but(k)) {
            match self.state.row(&key) {
                Some(row) => self.disk.insert(key, row),
                None => self.disk.remove(&key),
            };
        }
        self.disk_applied = self.applied;
    }
}

impl World {
    /// The member's process is gone; rows that were not flushed are gone with it.
    pub(crate) fn kill_member(&mut self, m: usize) {
        let member = &mut self.members[m];
        member.up = false;
        member.life += 1;
        member.queue_free = 0;
        member.paused = false;
        member.stalled.clear();
        member.leader = Leader::new();
        member.dirty.clear();
        if let Some(led) = member.led.take() {
            if self.cluster.leader == Some(m) {
                self.cluster.remains = led.queue.clone();
            }
            self.give_up(led, m);
        }
        if self.cluster.leader == Some(m) {
            self.cluster.leader = None;
        }
        self.break_sessions_of(m, false);
        self.watch_election();
    }

    /// Restarts from its rows; the tail of the log is applied again.
    pub(crate) fn start_member(&mut self, m: usize) {
        if self.members[m].up {
            return;
        }
        let rows = self.members[m].disk.iter().map(|(k, r)| (k.clone(), r.clone()));
        match State::restore(rows) {
            Ok(state) => self.members[m].state = state,
            Err(error) => self.violate(format!("I15: member {m} cannot restore its rows: {error}")),
        }
        self.members[m].up = true;
        self.members[m].applied = self.members[m].disk_applied;
        self.at(50, Event::CatchUp { member: m });
        self.watch_election();
    }

    /// What the wall clock of a member shows, ms. It is wrong by up to ten years either way and jumps every few seconds, all of which
    /// nothing may notice.
    fn wall(&self, m: usize) -> i64 {
        let jump = mix(self.options.seed ^ mix((self.now / WALL_HOLDS_MS) << 2 | m as u64));
        let wrong = match jump % 4 {
            _ if !self.options.wall_jumps => 0,
            0 | 1 => 0,
            2 => (jump >> 8) as i64 % (2 * HOUR_MS) - HOUR_MS,
            _ => (jump >> 8) as i64 % (20 * YEAR_MS) - 10 * YEAR_MS,
        };
        self.now as i64 + wrong
    }

    /// A member that believes to lead takes a proposal.
    pub(crate) fn propose(&mut self, m: usize, commands: Vec<Command>, origin: Origin) {
        let sent = (0..MEMBERS)
            .any(|o| o != m && self.members[o].up && !self.members[o].paused && !self.network.is_cut(m, o));
        let ready = self.now + self.cluster.rng.range(1, 12);
        let now = self.now;
        let commands = self.plant_in_log(commands);
        let wall = self.wall(m);
        let Some(led) = self.members[m].led.as_ref() else { return };
        let tick = led.clock.0.plus(now - led.clock.1);
        let stamp = self.plant_in_stamp(Stamp { wall: Wall(wall), tick });
        let Some(led) = self.members[m].led.as_mut() else { return };
        let batch = Arc::new(Batch { stamp, commands });
        led.queue.push_back(Proposal { batch, origin, ready, sent });
        let term = led.term;
        self.at_time(ready, Event::CommitDue { member: m, term });
    }

    pub(crate) fn commit_due(&mut self, m: usize, term: u64) {
        if self.members[m].led.as_ref().is_none_or(|l| l.term != term) {
            return;
        }
        if !self.true_term(m, term) || !self.has_majority(m) {
            // It waits for a majority, or to hear that it no longer leads.
            let waits = self.members[m].led.as_ref().is_some_and(|l| !l.queue.is_empty());
            if waits {
                self.at(100, Event::CommitDue { member: m, term });
            }
            return;
        }
        let mut any = false;
        while let Some(led) = self.members[m].led.as_mut() {
            if led.queue.front().is_none_or(|p| p.ready > self.now) {
                break;
            }
            let Some(proposal) = led.queue.pop_front() else { break };
            self.cluster.log.push(proposal.batch.clone());
            any = true;
            let index = self.cluster.log.len() as u64;
            self.catch_up_to(m, index - 1);
            let (replies, changes) = self.apply(m, index);
            self.committed(m, proposal, replies, &changes);
        }
        if any {
            for other in (0..MEMBERS).filter(|o| *o != m) {
                let delay = self.cluster.rng.range(1, 60);
                self.at(delay, Event::CatchUp { member: other });
            }
        }
    }

    /// The leader has applied an entry of its own or of the terms before: its thread hears the delta first, then the callers.
    fn committed(&mut self, m: usize, proposal: Proposal, replies: Replies, changes: &Changes) {
        let first_own = proposal.batch.commands.is_empty();
        let member = &mut self.members[m];
        let Some(led) = member.led.as_mut() else { return };
        let (term, is_ready) = (led.term, led.is_ready);
        if first_own && !is_ready {
            led.is_ready = true;
            led.clock = (member.state.tick(), self.now);
            let state = Box::new(member.state.full_delta());
            self.lead(m, Input::Elected { term, state });
            self.at(100, Event::Timer { member: m, term });
            self.lines_open(m, term);
        } else if is_ready {
            let delta = Box::new(member.state.delta(changes));
            self.lead(m, Input::Delta(delta));
        }
        match proposal.origin {
            Origin::Leader(id) => {
                let delay = self.cluster.rng.below(4);
                self.at(delay, Event::Answered { member: m, term, id, replies: Some(replies) });
            }
            Origin::Client { op, via } => self.reply_to_client(op, m, via, replies.into_iter().next()),
            Origin::Session(session) => match replies.first() {
                Some(Reply::Registered { worker }) => self.registered(session, m, *worker),
                _ => self.break_session(session, false),
            },
            Origin::Nobody => {}
        }
    }

    pub(crate) fn catch_up(&mut self, m: usize) {
        let reachable = self.cluster.leader.is_some_and(|l| l != m && !self.network.is_cut(m, l));
        if self.members[m].up && reachable {
            self.catch_up_to(m, self.cluster.log.len() as u64);
        }
    }

    fn catch_up_to(&mut self, m: usize, index: u64) {
        while self.members[m].applied < index {
            let next = self.members[m].applied + 1;
            self.apply(m, next);
        }
    }

    fn apply(&mut self, m: usize, index: u64) -> (Replies, Changes) {
        let batch = self.cluster.log[index as usize - 1].clone();
        invariants::i20_clock::on_entry(self, batch.stamp.tick.0);
        invariants::i15_replicas::on_entry(self, m, index, &batch);
        let mut replies = Vec::with_capacity(batch.commands.len());
        let mut changes = Changes::default();
        for command in &batch.commands {
            let (stamp, command) = self.plant_in_entry(m, batch.stamp, command);
            let entry = Entry { index, stamp, command: &command };
            self.plant_before_apply(m, entry);
            let is_first = index > self.oracle.applied;
            let retires = is_first && matches!(command, Command::Retire { .. });
            let before = retires.then(|| invariants::i1_submissions::before_retire(self, m));
            let applied = self.members[m].state.apply(entry);
            if is_first {
                self.learn(m, index, &command, &applied);
                self.plant_after_learning(m, &applied);
            }
            self.plant_after_apply(m, &command, &applied);
            if let Some(before) = before {
                invariants::i1_submissions::after_retire(self, m, index, before);
            }
            replies.push(applied.reply);
            changes.merge(applied.changes);
        }
        changes.merge(std::mem::take(&mut self.planted_changes));
        self.oracle.applied = self.oracle.applied.max(index);
        let member = &mut self.members[m];
        member.applied = index;
        member.dirty.extend(changes.keys.iter().cloned());
        if index % FLUSH_EVERY == m as u64 {
            let left_out: BTreeSet<Key> =
                self.members[m].dirty.iter().filter(|k| self.plant_in_flush(k)).cloned().collect();
            self.members[m].flush(|key| left_out.contains(key));
        }
        if index.is_multiple_of(DIGEST_EVERY) {
            self.compare_digest(m, index);
        }
        (replies, changes)
    }

    fn compare_digest(&mut self, m: usize, index: u64) {
        let digest = self.members[m].state.digest();
        let first = *self.cluster.digests.entry(index).or_insert(digest);
        if first != digest {
            self.violate(format!("I15: members differ at index {index} (seen on member {m})"));
        }
        if let Some(key) = self.members[m].unsaid() {
            self.violate(format!(
                "I15: row {key:?} of member {m} changed by index {index} and no entry said so"
            ));
        }
        invariants::i21_ledger::compare(self, m);
        if let Err(what) = self.members[m].state.check() {
            self.violate(format!("I15: state of member {m} at index {index}: {what}"));
        }
    }
}
