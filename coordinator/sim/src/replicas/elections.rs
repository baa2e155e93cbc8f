//! Who leads: elections, handovers, and members that hear of a newer term.

use super::{Origin, Proposal, Term};
use crate::event::Event;
use crate::options::MEMBERS;
use crate::world::World;
use muster_core::leader::Input;
use std::collections::{BTreeSet, VecDeque};

impl World {
    /// Whether `m` can be heard by a majority, itself included.
    pub(crate) fn has_majority(&self, m: usize) -> bool {
        let hears = |o: &usize| {
            *o == m || (self.members[*o].up && !self.members[*o].paused && !self.network.is_cut(m, *o))
        };
        self.members[m].up && 2 * (0..MEMBERS).filter(hears).count() > MEMBERS
    }

    pub(super) fn true_term(&self, m: usize, term: u64) -> bool {
        self.cluster.leader == Some(m) && self.cluster.term == term
    }

    /// Something changed that may cost the leader its office.
    pub(crate) fn watch_election(&mut self) {
        if !self.cluster.election_due {
            self.cluster.election_due = true;
            let wait = self.cluster.rng.range(900, 2_000);
            self.at(wait, Event::ElectionDue);
        }
    }

    pub(crate) fn election_due(&mut self) {
        self.cluster.election_due = false;
        if self.cluster.leader.is_some_and(|m| !self.members[m].paused && self.has_majority(m)) {
            return;
        }
        self.elect();
    }

    /// A member that a majority hears takes over, also from a leader that is well.
    pub(crate) fn elect(&mut self) {
        let able: Vec<usize> =
            (0..MEMBERS).filter(|m| !self.members[*m].paused && self.has_majority(*m)).collect();
        if able.is_empty() {
            self.watch_election();
            return;
        }
        let winner = self.cluster.rng.pick(&able);
        self.take_over(winner);
    }

    /// The leader hands over before it goes down, to one that is well.
    pub(crate) fn hand_over(&mut self, from: usize) {
        let able = |m: &usize| *m != from && !self.members[*m].paused && self.has_majority(*m);
        let to = (0..MEMBERS).filter(able).max_by_key(|m| (self.members[*m].applied, *m));
        if let Some(to) = to.filter(|_| self.cluster.leader == Some(from)) {
            self.take_over(to);
        }
    }

    fn take_over(&mut self, winner: usize) {
        let old = self.cluster.leader.filter(|old| *old != winner);
        // 1. A prefix of what the old leader had begun to send survives, whoever waited for it.
        let queue = match self.cluster.leader.and_then(|old| self.members[old].led.as_ref()) {
            Some(led) => led.queue.clone(),
            None => std::mem::take(&mut self.cluster.remains),
        };
        self.cluster.remains.clear();
        let kept = self.cluster.rng.index(queue.len() + 1);
        let survivors = queue.into_iter().take_while(|p| p.sent).take(kept);
        let survivors: VecDeque<Proposal> =
            survivors.map(|p| Proposal { origin: Origin::Nobody, ..p }).collect();
        // 2. The new term.
        if self.members[winner].led.is_some() {
            let term = self.cluster.term;
            self.depose(winner, term + 1);
        }
        self.cluster.term += 1;
        self.cluster.leader = Some(winner);
        self.stats.elections += 1;
        let term = self.cluster.term;
        self.plant_at_election(winner);
        self.catch_up_to(winner, self.cluster.log.len() as u64);
        let tick = self.members[winner].state.tick();
        let led = Term {
            term,
            queue: survivors,
            clock: (tick, self.now),
            is_ready: false,
            sessions: BTreeSet::new(),
            burst: false,
        };
        self.members[winner].led = Some(led);
        // 3. Its first entry, after which it may instruct.
        self.propose(winner, Vec::new(), Origin::Nobody);
        if let Some(old) = old {
            let delay = self.cluster.rng.range(1, 400);
            self.at(delay, Event::Depose { member: old, term });
        }
    }

    /// A member hears of a newer term.
    pub(crate) fn depose(&mut self, m: usize, newer: u64) {
        let Some(led) = self.members[m].led.as_ref().filter(|l| l.term < newer) else { return };
        let lead_by = self.cluster.leader.filter(|l| *l != m);
        if lead_by.is_some_and(|l| self.network.is_cut(m, l)) && self.cluster.term >= newer {
            // It hears of it when the partition heals.
            let _ = led;
            self.at(1_000, Event::Depose { member: m, term: newer });
            return;
        }
        let Some(led) = self.members[m].led.take() else { return };
        let boot = self.members[m].boot + self.now;
        self.members[m].leader.step(boot, Input::Deposed);
        self.give_up(led, m);
    }

    pub(super) fn give_up(&mut self, led: Term, m: usize) {
        for proposal in led.queue {
            if let Origin::Session(session) = proposal.origin {
                self.break_session(session, false);
            }
        }
        for session in led.sessions {
            self.break_session(session, false);
        }
        let _ = m;
    }

    /// Whether a majority says, now, that this member leads.
    pub(crate) fn is_confirmed(&self, m: usize, term: u64) -> bool {
        self.true_term(m, term) && !self.members[m].paused && self.has_majority(m)
    }
}
