//! The network: delays, partitions, and sessions as ordered streams that break. A message is never lost alone, its session breaks with
//! it, but for reports that reach their member while it has no line to the leader. Old sessions may still speak when a new one is open,
//! so messages come twice and out of order across sessions.

use crate::event::{Event, Up};
use crate::invariants;
use crate::options::{MEMBERS, Options};
use crate::replicas::Origin;
use crate::rng::Rng;
use crate::world::World;
use muster_core::command::Command;
use muster_core::leader::instruction::Instruction;
use muster_core::leader::{Input, SessionId};
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::worker::{Incarnation, WorkerSpec};
use std::collections::{BTreeMap, BTreeSet};

/// A worker that hears no renewal for this long opens another session, ms: as long as three heartbeats.
const SILENCE_MS: u64 = 6_000;

/// One stream of a worker through one member to the leader.
#[derive(Debug, Clone)]
pub struct Session {
    pub worker: usize,
    pub agent: u32,
    pub via: usize,
    pub leader: Option<usize>,
    register: (WorkerSpec, Incarnation, Vec<Token>),
    /// A message was lost or an end is gone: nothing more is sent.
    broken: bool,
    /// What is under way is lost too.
    cut: bool,
    closed_at_worker: bool,
    closed_at_leader: bool,
    last_up: u64,
    last_down: u64,
    pub renewed: u64,
    /// The last report got lost between two lines. The next one does not.
    missed: bool,
    /// And so was the last notice.
    missed_notice: bool,
}

/// Reports in 1,000 that reach a member while it has no line, where messages are lost at all.
const REPORTS_MISSED_PERMILLE: u64 = 150;

/// Who cannot hear whom, and the sessions.
pub struct Network {
    pub rng: Rng,
    pub sessions: BTreeMap<u64, Session>,
    opened: u64,
    pub cuts: BTreeSet<(usize, usize)>,
    pub worker_cuts: BTreeSet<(usize, usize)>,
    delay_ms: u64,
    slow_permille: u64,
    pub loss_permille: u64,
    pub duplicate_permille: u64,
    pub late_permille: u64,
}

impl Network {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            rng: Rng::new(options.seed, "network"),
            sessions: BTreeMap::new(),
            opened: 0,
            cuts: BTreeSet::new(),
            worker_cuts: BTreeSet::new(),
            delay_ms: options.delay_ms,
            slow_permille: options.slow_permille,
            loss_permille: options.loss_permille,
            duplicate_permille: options.duplicate_permille,
            late_permille: options.late_permille,
        }
    }

    pub(crate) fn is_cut(&self, a: usize, b: usize) -> bool {
        a != b && self.cuts.contains(&(a.min(b), a.max(b)))
    }

    pub(crate) fn is_worker_cut(&self, worker: usize, member: usize) -> bool {
        self.worker_cuts.contains(&(worker, member))
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let delay = self.rng.range(1, self.delay_ms);
        if self.rng.chance(self.slow_permille) { delay * self.rng.range(2, 50) } else { delay }
    }
}

impl World {
    /// An agent without a session tries one member.
    pub(crate) fn connect(&mut self, w: usize, agent: u32) {
        let machine = &self.machines[w];
        if !machine.hears(agent) || machine.session.is_some() {
            return;
        }
        let register = (machine.offered(), machine.incarnation(), machine.held());
        let via = self.network.rng.index(MEMBERS);
        if !self.members[via].up || self.network.is_worker_cut(w, via) {
            let again = self.network.rng.range(100, 1_500);
            self.at(again, Event::Connect { worker: w, agent });
            return;
        }
        let doubled = self.network.rng.chance(self.network.duplicate_permille);
        let session = self.new_session(w, agent, via, register.clone(), 0);
        self.machines[w].session = Some(session);
        self.at(SILENCE_MS, Event::Silence { session });
        if doubled {
            // The call is made again through another member, and nobody listens to the answer.
            let other = (via + 1) % MEMBERS;
            let twin = self.new_session(w, agent, other, register.clone(), 0);
            let delay = self.network.rng.below(5_000);
            self.at(delay, Event::ClosedAtWorker { session: twin });
        }
        self.late_register(w, agent);
    }

    /// Another try of the same agent, given up long ago, is held back: what it says of the worker may be false when it arrives.
    pub(crate) fn late_register(&mut self, w: usize, agent: u32) {
        if self.network.rng.chance(self.network.late_permille) {
            let (late, via) = (self.network.rng.range(500, 30_000), self.network.rng.index(MEMBERS));
            let machine = &self.machines[w];
            let register = (machine.offered(), machine.incarnation(), machine.held());
            let twin = self.new_session(w, agent, via, register, late);
            self.at(late + 5_000, Event::ClosedAtWorker { session: twin });
        }
    }

    fn new_session(
        &mut self,
        worker: usize,
        agent: u32,
        via: usize,
        register: (WorkerSpec, Incarnation, Vec<Token>),
        late: u64,
    ) -> u64 {
        self.network.opened += 1;
        let number = self.network.opened;
        let session = Session {
            worker,
            agent,
            via,
            leader: None,
            register,
            broken: false,
            cut: false,
            closed_at_worker: false,
            closed_at_leader: false,
            last_up: self.now,
            last_down: self.now,
            renewed: self.now,
            missed: false,
            missed_notice: false,
        };
        self.network.sessions.insert(number, session);
        let delay = self.network.delay() + late;
        self.at(delay, Event::Register { session: number, via });
        number
    }

    /// The leader as member `via` knows it: itself, while it believes so, else the true one if it can be reached.
    pub(crate) fn leader_for(&self, via: usize) -> Option<usize> {
        if !self.members[via].up {
            return None;
        }
        if self.members[via].led.is_some() {
            return Some(via);
        }
        self.cluster.leader.filter(|l| {
            self.members[*l].up && self.members[*l].led.is_some() && !self.network.is_cut(via, *l)
        })
    }

    /// The registration reaches the member, which proposes it through the leader.
    pub(crate) fn register(&mut self, number: u64, via: usize) {
        let leader = self.leader_for(via);
        let Some(session) = self.network.sessions.get_mut(&number) else { return };
        let Some(leader) = leader else {
            self.break_session(number, false);
            return;
        };
        session.leader = Some(leader);
        let (spec, incarnation, held) = session.register.clone();
        self.propose(
            leader,
            vec![Command::Register { spec: Box::new(spec), incarnation, held }],
            Origin::Session(number),
        );
    }

    /// The registration was applied: the leader's thread opens the session, the worker hears of it.
    pub(crate) fn registered(&mut self, number: u64, m: usize, worker: WorkerId) {
        let ready = self.members[m].led.as_ref().is_some_and(|l| l.is_ready);
        let Some(session) = self.network.sessions.get(&number) else { return };
        if session.broken || !ready {
            self.break_session(number, false);
            return;
        }
        let (_, incarnation, held) = session.register.clone();
        if let Some(led) = self.members[m].led.as_mut() {
            led.sessions.insert(number);
        }
        self.lead(m, Input::SessionOpened { session: SessionId(number), worker, incarnation, held });
        let at = self.arrival(number, false);
        self.at_time(at, Event::Opened { session: number });
    }

    pub(crate) fn opened(&mut self, number: u64) {
        let Some(session) = self.network.sessions.get(&number) else { return };
        let w = session.worker;
        if session.closed_at_worker || session.cut || self.machines[w].session != Some(number) {
            return;
        }
        self.step_agent(w, muster_agent::Input::SessionOpened);
    }

    /// In order within a session, whatever the delay.
    fn arrival(&mut self, number: u64, up: bool) -> u64 {
        let at = self.now + self.network.delay();
        let Some(session) = self.network.sessions.get_mut(&number) else { return at };
        let last = if up { &mut session.last_up } else { &mut session.last_down };
        *last = at.max(*last);
        *last
    }

    /// The worker sends; a lost message takes its session with it.
    pub(crate) fn send_up(&mut self, number: u64, up: Up) {
        let Some(session) = self.network.sessions.get(&number) else { return };
        if session.broken {
            return;
        }
        if self.network.rng.chance(self.network.loss_permille) {
            self.break_session(number, true);
            return;
        }
        let at = self.arrival(number, true);
        self.at_time(at, Event::Up { session: number, up });
    }

    pub(crate) fn send_down(&mut self, number: u64, instructions: Vec<Instruction>) {
        let Some(session) = self.network.sessions.get(&number) else { return };
        if session.broken {
            return;
        }
        if self.network.rng.chance(self.network.loss_permille) {
            self.break_session(number, true);
            return;
        }
        let at = self.arrival(number, false);
        self.at_time(at, Event::Down { session: number, instructions });
    }

    pub(crate) fn up(&mut self, number: u64, up: Up) {
        let Some(session) = self.network.sessions.get(&number) else { return };
        if session.cut || session.closed_at_leader {
            return;
        }
        let Some(m) = session.leader else { return };
        if !self.members[m].led.as_ref().is_some_and(|l| l.sessions.contains(&number)) {
            return;
        }
        if matches!(up, Up::Reports(_)) && self.network.loss_permille > 0 {
            let missed = self.network.rng.chance(REPORTS_MISSED_PERMILLE);
            let Some(session) = self.network.sessions.get_mut(&number) else { return };
            session.missed = missed && !session.missed;
            if session.missed {
                return;
            }
        }
        if matches!(up, Up::Preemption(_)) && self.network.loss_permille > 0 {
            let missed = self.network.rng.chance(REPORTS_MISSED_PERMILLE);
            let Some(session) = self.network.sessions.get_mut(&number) else { return };
            session.missed_notice = missed && !session.missed_notice;
            if session.missed_notice {
                return;
            }
        }
        let session = SessionId(number);
        self.lead(
            m,
            match up {
                Up::Heartbeat { seq, held } => Input::Heartbeat { session, seq, held },
                Up::Reports(reports) => Input::Reports { session, reports },
                Up::DeviceEvents(events) => Input::DeviceEvents { session, events },
                Up::Preemption(notice) => Input::Notice { session, notice },
            },
        );
    }

    pub(crate) fn down(&mut self, number: u64, instructions: Vec<Instruction>) {
        let now = self.now;
        let Some(session) = self.network.sessions.get_mut(&number) else { return };
        let (w, agent) = (session.worker, session.agent);
        if session.cut
            || session.closed_at_worker
            || self.machines[w].session != Some(number)
            || !self.machines[w].hears(agent)
        {
            return;
        }
        if instructions.iter().any(|i| matches!(i, Instruction::Renewed { .. })) {
            session.renewed = now;
        }
        for instruction in instructions {
            if let Instruction::Renewed { seq, .. } = &instruction {
                invariants::i11_liveness::on_renewed(self, number, *seq);
            }
            if let Instruction::Settled { tokens } = &instruction {
                invariants::i2_results::on_settled(self, w, tokens);
            }
            if let Instruction::EventsSettled { seq } = &instruction {
                invariants::i4_devices::on_settled(self, w, *seq);
            }
            self.step_agent(w, muster_agent::Input::Instruction(instruction));
        }
    }

    /// The worker gives up a session that renews nothing.
    pub(crate) fn silence(&mut self, number: u64) {
        let Some(session) = self.network.sessions.get(&number) else { return };
        if session.closed_at_worker || self.machines[session.worker].session != Some(number) {
            return;
        }
        if self.now >= session.renewed + SILENCE_MS {
            self.break_session(number, false);
            self.closed_at_worker(number);
        } else {
            let at = session.renewed + SILENCE_MS;
            self.at_time(at, Event::Silence { session: number });
        }
    }

    /// The session is over; each side hears of it when it does. `cut`: what is under way is lost.
    pub(crate) fn break_session(&mut self, number: u64, cut: bool) {
        let Some(session) = self.network.sessions.get_mut(&number) else { return };
        session.cut |= cut;
        if std::mem::replace(&mut session.broken, true) {
            return;
        }
        let (up, down) = (session.last_up.max(self.now), session.last_down.max(self.now));
        let late = if cut { 4_000 } else { 50 };
        let (a, b) = (self.network.rng.range(1, late), self.network.rng.range(1, late));
        self.at_time(up + a, Event::ClosedAtLeader { session: number });
        self.at_time(down + b, Event::ClosedAtWorker { session: number });
    }

    /// Sessions through this member, or to it as leader.
    pub(crate) fn break_sessions_of(&mut self, m: usize, cut: bool) {
        let concerned: Vec<u64> = self
            .network
            .sessions
            .iter()
            .filter(|(_, s)| s.via == m || s.leader == Some(m))
            .map(|(n, _)| *n)
            .collect();
        concerned.into_iter().for_each(|n| self.break_session(n, cut));
    }

    /// Sessions that a cut just broke: silently, both ends find out by themselves.
    pub(crate) fn break_cut_sessions(&mut self) {
        let network = &self.network;
        let cut = |s: &Session| {
            network.is_worker_cut(s.worker, s.via) || s.leader.is_some_and(|l| network.is_cut(s.via, l))
        };
        let concerned: Vec<u64> =
            network.sessions.iter().filter(|(_, s)| !s.broken && cut(s)).map(|(n, _)| *n).collect();
        concerned.into_iter().for_each(|n| self.break_session(n, true));
    }

    pub(crate) fn closed_at_leader(&mut self, number: u64) {
        let Some(session) = self.network.sessions.get_mut(&number) else { return };
        session.closed_at_leader = true;
        let Some(m) = session.leader else {
            self.forget_session(number);
            return;
        };
        let open = self.members[m].led.as_mut().is_some_and(|l| l.sessions.remove(&number));
        if open {
            self.plant_at_close(m, SessionId(number));
            self.lead(m, Input::SessionClosed { session: SessionId(number) });
        }
        self.forget_session(number);
    }

    pub(crate) fn closed_at_worker(&mut self, number: u64) {
        let Some(session) = self.network.sessions.get_mut(&number) else { return };
        if std::mem::replace(&mut session.closed_at_worker, true) {
            return;
        }
        let (w, agent) = (session.worker, session.agent);
        self.break_session(number, false);
        self.forget_session(number);
        if self.machines[w].session != Some(number) {
            return;
        }
        self.machines[w].session = None;
        if self.machines[w].hears(agent) {
            self.step_agent(w, muster_agent::Input::SessionClosed);
            let again = self.network.rng.range(20, 800);
            self.at(again, Event::Connect { worker: w, agent });
        }
    }

    fn forget_session(&mut self, number: u64) {
        if self.network.sessions.get(&number).is_some_and(|s| s.closed_at_leader && s.closed_at_worker) {
            self.network.sessions.remove(&number);
        }
    }
}
