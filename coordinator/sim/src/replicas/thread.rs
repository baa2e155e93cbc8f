//! The leader's thread of a member, and what it asks for: proposals by way of the member's queue, and a majority's word.

use super::Origin;
use crate::event::Event;
use crate::invariants;
use crate::world::World;
use muster_core::command::Command;
use muster_core::leader::{Input, Output, SessionId};
use muster_core::reply::Replies;

/// Of a leader's proposals, in 1,000, those that wait in its member's queue …
const QUEUED_PERMILLE: u64 = 10;
/// … and for how long at most, ms: elections may pass meanwhile.
const QUEUED_MS: u64 = 8_000;

impl World {
    /// Gives the leader an input, and lets it decide at the end of the burst.
    pub(crate) fn lead(&mut self, m: usize, input: Input) {
        let now = self.members[m].boot + self.now;
        let input = self.plant_in_input(m, input);
        let outputs = self.members[m].leader.step(now, input);
        self.perform(m, outputs);
        let Some(led) = self.members[m].led.as_mut() else { return };
        if !led.burst {
            led.burst = true;
            let term = led.term;
            self.at(0, Event::Burst { member: m, term });
        }
    }

    pub(crate) fn burst(&mut self, m: usize, term: u64) {
        let Some(led) = self.members[m].led.as_mut().filter(|l| l.term == term) else { return };
        led.burst = false;
        let now = self.members[m].boot + self.now;
        let outputs = self.members[m].leader.step(now, Input::Tick);
        self.perform(m, outputs);
    }

    pub(crate) fn timer(&mut self, m: usize, term: u64) {
        if self.members[m].led.as_ref().is_some_and(|l| l.term == term) {
            self.burst(m, term);
            self.at(100, Event::Timer { member: m, term });
        }
    }

    fn perform(&mut self, m: usize, outputs: Vec<Output>) {
        let Some(term) = self.members[m].led.as_ref().map(|l| l.term) else { return };
        for output in self.plant_in_outputs(m, outputs) {
            match output {
                Output::Propose { id, commands } => {
                    invariants::i13_scale_in::on_proposed(self, m, term, &commands);
                    self.offer(m, term, id, commands);
                }
                Output::Confirm { batch } => {
                    let delay = self.cluster.rng.range(1, 10);
                    self.at(delay, Event::QuorumAsked { member: m, term, batch });
                }
                // What is shown to people and to other scalers.
                Output::Signals(signals) => {
                    let detail = || format!("{:?}", signals.decision);
                    self.trace.note(self.now, "signals", m as u64, signals.version, detail);
                }
                Output::Drive { pool, generation, order } => self.drive(m, term, pool, generation, order),
                Output::Close { session: SessionId(session) } => self.break_session(session, false),
                Output::Instruct { session: SessionId(session), instructions } => {
                    self.send_down(session, instructions)
                }
            }
        }
    }

    /// The leader's thread puts a decision into the queue, where it may wait for those before it.
    fn offer(&mut self, m: usize, term: u64, id: u64, commands: Vec<Command>) {
        let waits = self.cluster.rng.chance(QUEUED_PERMILLE);
        let wait = if waits { self.cluster.rng.range(100, QUEUED_MS) } else { 0 };
        let longer = self.plant_in_queue(&commands);
        let member = &mut self.members[m];
        let life = member.life;
        member.queue_free = member.queue_free.max(self.now + wait);
        let at = member.queue_free + longer;
        if at == self.now {
            self.offered(m, life, term, id, commands);
        } else {
            self.at_time(at, Event::Offered { member: m, life, term, id, commands });
        }
    }

    /// It comes to the log: a decision of another term is refused.
    pub(crate) fn offered(&mut self, m: usize, life: u32, term: u64, id: u64, commands: Vec<Command>) {
        if self.members[m].life != life {
            return;
        }
        match self.members[m].led.as_ref().map(|led| led.term) {
            Some(now) if now == term => self.propose(m, commands, Origin::Leader(id)),
            Some(_) if self.plant_heeds_old_decisions() => self.propose(m, commands, Origin::Nobody),
            _ => {}
        }
    }

    /// The truth at the moment the majority is asked; the answer arrives later.
    pub(crate) fn quorum_asked(&mut self, m: usize, term: u64, batch: u64) {
        let ok = self.is_confirmed(m, term);
        let delay = if ok { self.cluster.rng.range(1, 10) } else { 1_000 };
        self.at(delay, Event::Confirmed { member: m, term, batch, ok });
    }

    pub(crate) fn confirmed(&mut self, m: usize, term: u64, batch: u64, ok: bool) {
        if self.members[m].led.as_ref().is_some_and(|l| l.term == term && l.is_ready) {
            self.lead(m, Input::Confirmed { batch, ok });
        }
    }

    pub(crate) fn answered(&mut self, m: usize, term: u64, id: u64, replies: Option<Replies>) {
        if self.members[m].led.as_ref().is_some_and(|l| l.term == term && l.is_ready) {
            self.lead(m, Input::Proposed { id, replies });
        }
    }
}
