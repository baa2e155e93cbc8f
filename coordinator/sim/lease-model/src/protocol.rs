//! What each party does, one function a thing that happens. Plants are named where they bite; without them this is the protocol.

use crate::plants::Plant;
use crate::state::{End, Heartbeat, Leader, Ms, Owner, Pending, Renewed, Runs, Start, World};
use crate::{SHIM_TICK_MS, leader_lease, real, worker_lease};
use muster_core::model::lease::KILL_BEFORE_MS;

/// A world under a mistake, or none.
pub(crate) struct Step<'a> {
    pub w: &'a mut World,
    pub plant: Option<Plant>,
    /// The grain of sending and delay.
    pub grid: Ms,
    /// From here on there are no faults.
    pub heal: Ms,
}

impl Step<'_> {
    fn planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn worker_lease(&self) -> Ms {
        worker_lease(u64::from(self.w.rates.1))
    }

    // --- Time ---

    /// On to the next instant at which anything is due: the grid, or the end of a lease on either side.
    pub fn tick(&mut self) {
        let now = self.w.now;
        let grid = (now / self.grid + 1) * self.grid;
        let ends = [self.lease_end(), self.denial_end(), self.w.machine.task];
        self.w.now = ends.into_iter().flatten().filter(|end| *end > now).fold(grid, Ms::min);
        if self.shim_runs() && self.w.machine.task.is_some_and(|deadline| deadline <= self.w.now) {
            self.ended(End::Fenced);
        }
        if self.w.now.is_multiple_of(self.grid) {
            self.heartbeat();
        }
    }

    // --- Worker ---

    fn shim_runs(&self) -> bool {
        let stopped = match self.plant {
            Some(Plant::FencesInAgent) => self.w.machine.agent != Runs::Yes,
            Some(Plant::StopsWithShim) => self.w.machine.agent == Runs::Stopped,
            _ => false,
        };
        self.w.machine.paused.is_none() && !stopped
    }

    fn heartbeat(&mut self) {
        if self.w.log.owner == Owner::First && self.w.agent_runs() && self.w.machine.session != 0 {
            let holds = self.w.machine.task.is_some() || self.w.machine.end.is_some();
            self.w.heartbeat = Some(Heartbeat { sent: self.w.now, holds });
        }
    }

    /// An acknowledgement: the deadline counts from the sending of what is acknowledged.
    pub fn renewed(&mut self) {
        let Some(Renewed { sent, term, deposed }) = self.w.renewed.take() else { return };
        let from = if self.planted(Plant::CountsFromAck) { self.w.now } else { sent };
        let (deadline, now) = (from + self.worker_lease(), self.w.now);
        if term < self.w.machine.session {
            return;
        }
        self.w.seen.deposed_renewal |= deposed;
        if let Some(task) = self.w.machine.task.as_mut().filter(|task| **task < deadline && now < deadline) {
            *task = deadline;
            self.w.machine.late = false;
            self.w.seen.settled |= now >= self.heal;
            self.w.seen.renewed_by_second |= term == 2;
        }
    }

    /// An order: refused when the term is an old one, the token is in the journal, or what it starts would have to be dead already.
    pub fn order(&mut self) {
        let Some(Start { heartbeat, term }) = self.w.start.take() else { return };
        let from = if self.planted(Plant::CountsFromOrder) { self.w.now } else { heartbeat };
        let deadline = from + self.worker_lease();
        let open = self.w.now + real(KILL_BEFORE_MS, u64::from(self.w.rates.1)) < deadline;
        let machine = &mut self.w.machine;
        if term < machine.session || machine.journaled || machine.task.is_some() || !open {
            return;
        }
        machine.journaled = self.plant != Some(Plant::ForgetsJournal);
        machine.task = Some(deadline);
        machine.started += 1;
        self.w.seen.settled |= self.w.now >= self.heal;
    }

    /// The processes are gone, and there is a record of how.
    pub fn ended(&mut self, end: End) {
        self.w.machine.task = None;
        self.w.machine.late = false;
        self.w.machine.end = Some(end);
    }

    /// A new session with the leader of the log's term: registration, and a heartbeat at once. Nothing of an earlier session comes any more.
    pub fn reconnect(&mut self) {
        self.register(self.w.machine.incarnation);
        self.w.renewed = None;
        if !self.planted(Plant::HeedsOldSession) {
            self.w.start = None;
        }
        self.w.machine.session = self.w.log.term;
        self.heartbeat();
    }

    // --- Faults of the machine ---

    pub fn kill_agent(&mut self) {
        self.w.machine.agent = Runs::Dead;
        self.w.machine.session = 0;
        self.w.heartbeat = None;
    }

    /// The next agent, or the stopped one again. The attempt is the shim's and was never the agent's.
    pub fn agent_again(&mut self) {
        self.w.machine.agent = Runs::Yes;
        self.shim_again();
    }

    /// The machine runs on: what should be dead is, a tick later.
    pub fn resume(&mut self) {
        let since = self.w.machine.paused.take();
        if self.planted(Plant::ClockStopsInPause)
            && let (Some(task), Some(since)) = (&mut self.w.machine.task, since)
        {
            *task += self.w.now - since;
        }
        self.shim_again();
    }

    fn shim_again(&mut self) {
        if self.shim_runs() && self.w.machine.task.is_some_and(|deadline| deadline <= self.w.now) {
            self.w.machine.task = Some(self.w.now + SHIM_TICK_MS);
            self.w.machine.late = true;
        }
    }

    /// A new boot id: another incarnation, with nothing of what ran before it.
    pub fn reboot(&mut self) {
        self.die();
        self.w.machine.agent = Runs::Yes;
        self.w.machine.incarnation += 1;
    }

    pub fn die(&mut self) {
        self.kill_agent();
        self.w.machine.agent = Runs::Gone;
        self.w.machine.task = None;
        self.w.machine.late = false;
    }

    // --- The leader ---

    /// The leader at the end of the session has the heartbeat, and a quorum has answered a question that was asked after its receipt. Two
    /// receipts are tried: at the sending, from which the leader counts shortest, and only now.
    pub fn confirm(&mut self, received_late: bool) {
        let Some(Heartbeat { sent, holds }) = self.w.heartbeat.take() else { return };
        let term = self.w.machine.session;
        let leads = term == self.w.log.term;
        if !leads {
            if self.planted(Plant::RenewsAlone) {
                self.w.renewed = Some(Renewed { sent, term, deposed: true });
            }
            return;
        }
        // Another incarnation is registered: its stream ends. A loss is on its way: nothing more that could outlive the grant.
        let current = self.w.log.incarnation == self.w.machine.incarnation;
        let losing = matches!(self.w.log.pending, Some(Pending::Lose { .. }));
        if !current || (losing && !self.planted(Plant::RenewsLost)) {
            return;
        }
        let received = if received_late { self.w.now } else { sent };
        let former = self.w.log.former;
        let leader = &mut self.w.leader;
        leader.heard = Some(leader.heard.unwrap_or(0).max(received));
        leader.missing = leader.missing.or(Some(leader.former)).filter(|_| former && !holds);
        self.w.renewed = Some(Renewed { sent, term, deposed: false });
        if !holds && !former {
            self.w.start = Some(Start { heartbeat: sent, term });
        }
    }

    /// When the leader gives the worker up.
    pub fn lease_end(&self) -> Option<Ms> {
        let rate = u64::from(self.w.rates.0);
        let lease = if self.planted(Plant::GrantsEarly) { worker_lease(rate) } else { leader_lease(rate) };
        self.w.leader.heard.filter(|_| self.w.log.owner == Owner::First).map(|heard| heard + lease)
    }

    /// When it gives up an attempt of an older incarnation that the worker denies.
    pub fn denial_end(&self) -> Option<Ms> {
        let since = self.w.leader.missing.filter(|_| self.w.log.owner == Owner::First);
        since.map(|since| since + leader_lease(u64::from(self.w.rates.0)))
    }

    /// What the leader proposes now, if anything.
    pub fn due(&self) -> Option<Pending> {
        let past = |end: Option<Ms>| end.is_some_and(|end| end <= self.w.now);
        if self.w.log.pending.is_some() {
            None
        } else if past(self.lease_end()) {
            Some(Pending::Lose { incarnation: self.w.log.incarnation })
        } else {
            past(self.denial_end()).then_some(Pending::End)
        }
    }

    // --- The log ---

    /// What was proposed is applied. The next grant follows at once, and the second worker is as quick.
    pub fn commit(&mut self) {
        let given_up = match self.w.log.pending.take() {
            Some(Pending::Lose { incarnation }) => incarnation == self.w.log.incarnation,
            Some(Pending::End) => true,
            None => false,
        };
        if given_up && self.w.log.owner == Owner::First {
            self.own(Owner::Second);
        }
    }

    /// A worker registers. Another incarnation than the last knows nothing of what was granted before, and is never told to start it.
    pub fn register(&mut self, incarnation: u8) {
        self.w.heartbeat = None;
        if self.w.log.incarnation == incarnation {
            return;
        }
        self.w.leader.former = self.w.leader.heard.unwrap_or(self.w.now);
        self.w.log.incarnation = incarnation;
        self.w.log.former = true;
        if self.planted(Plant::EndsAtRegistration) && self.w.log.owner == Owner::First {
            self.own(Owner::Second);
        }
    }

    /// A quorum goes to the leader of term 2, which begins with an entry of its own: what the first one had proposed is in the log before
    /// that, or will never be. All leases start anew.
    pub fn elect(&mut self, inherit: bool) {
        if inherit {
            self.commit();
        }
        self.w.log.pending = None;
        self.w.log.term = 2;
        let heard = match self.plant {
            Some(Plant::HastyLeader) => Some(0),
            Some(Plant::NeverCounts) => None,
            _ => Some(self.w.now),
        };
        self.w.leader = Leader { heard, former: self.w.now, missing: None };
    }

    /// The end of token 1's attempt, as worker 1 says it.
    pub fn report(&mut self) {
        match (self.w.log.owner, self.w.machine.end) {
            (Owner::First, Some(End::Well)) => self.accept(),
            (Owner::First, _) => self.own(Owner::Second),
            _ if self.planted(Plant::AcceptsOldToken) => self.w.log.accepted += 1,
            _ => self.w.seen.refused = true,
        }
    }

    /// A result under the token that is granted.
    pub fn accept(&mut self) {
        self.w.log.accepted += 1;
        self.own(Owner::Done);
    }

    fn own(&mut self, owner: Owner) {
        self.w.log.owner = owner;
        self.w.log.pending = None;
        // Whatever heartbeats say from here on: the worker has to register again before it is heard.
        self.w.heartbeat = None;
        if owner == Owner::Done {
            (self.w.renewed, self.w.start, self.w.machine.task) = (None, None, None);
        }
    }
}
