//! Clients: each keeps calling through any member, with the same request id, until it is answered.

use crate::event::Event;
use crate::options::{MEMBERS, Options};
use crate::replicas::Origin;
use crate::rng::Rng;
use crate::world::World;
use muster_core::command::{Command, Request, Target};
use muster_core::model::ids::{JobId, WorkerId};
use muster_core::model::job::JobState;
use muster_core::model::notice::NoticeSource;
use muster_core::model::worker::Worker;
use muster_core::reply::{Rejection, Reply};

/// A client calls again when it has heard nothing for this long, ms.
const PATIENCE_MS: u64 = 3_000;
/// Held jobs are released this often after the heal, ms.
const RELEASE_EVERY_MS: u64 = 15_000;

/// One call, as often as it is made.
#[derive(Debug, Clone)]
pub struct Op {
    pub command: Command,
    pub tries: u32,
    /// When it was made first, and answered first.
    pub invoked: u64,
    pub answered: u64,
    pub reply: Option<Reply>,
    /// What a second call under another payload must hear.
    pub reuses: bool,
}

/// All calls of a run.
pub struct Clients {
    pub rng: Rng,
    pub ops: Vec<Op>,
    open: usize,
}

impl Clients {
    pub(crate) fn new(options: &Options) -> Self {
        Self { rng: Rng::new(options.seed, "clients"), ops: Vec::new(), open: 0 }
    }

    pub(crate) fn all_answered(&self) -> bool {
        self.open == 0
    }

    /// A request id nobody used.
    pub(crate) fn request(&self) -> Request {
        Request { id: format!("r{}", self.ops.len()), user: "sim".to_owned() }
    }
}

impl World {
    /// Whether a client ever made this call.
    pub(crate) fn was_asked(&self, request: &Request, command: &Command) -> bool {
        let number = request.id.strip_prefix('r').and_then(|n| n.parse::<usize>().ok());
        number.and_then(|n| self.clients.ops.get(n)).is_some_and(|op| op.command == *command)
    }

    /// A call that is made in `delay` ms.
    pub(crate) fn plan_op(&mut self, delay: u64, command: Command, reuses: bool) {
        let op = self.clients.ops.len();
        let invoked = self.now + delay;
        self.clients.ops.push(Op { command, tries: 0, invoked, answered: 0, reply: None, reuses });
        self.clients.open += 1;
        self.at(delay, Event::Ask { op });
    }

    pub(crate) fn ask(&mut self, op: usize) {
        if self.clients.ops[op].reply.is_some() {
            return;
        }
        self.clients.ops[op].tries += 1;
        let tries = self.clients.ops[op].tries;
        let via = self.clients.rng.index(MEMBERS);
        let delay = self.network.delay();
        self.at(delay, Event::Call { op, via });
        if self.clients.rng.chance(self.network.duplicate_permille) {
            let delay = self.network.delay() * 20;
            self.at(delay, Event::Call { op, via: (via + 1) % MEMBERS });
        }
        self.at(PATIENCE_MS, Event::Impatient { op, tries });
    }

    pub(crate) fn call(&mut self, op: usize, via: usize) {
        if let Some(leader) = self.leader_for(via) {
            let command = self.clients.ops[op].command.clone();
            self.plant_answer(leader, op, via);
            self.propose(leader, vec![command], Origin::Client { op, via });
        }
    }

    pub(crate) fn reply_to_client(&mut self, op: usize, m: usize, via: usize, reply: Option<Reply>) {
        let Some(reply) = reply else { return };
        let lost = self.network.rng.chance(self.network.loss_permille * 5);
        if self.members[via].up && !self.network.is_cut(m, via) && !lost {
            let delay = self.network.delay();
            self.at(delay, Event::Answer { op, reply });
        }
    }

    pub(crate) fn impatient(&mut self, op: usize, tries: u32) {
        if self.clients.ops[op].reply.is_none() && self.clients.ops[op].tries == tries {
            self.ask(op);
        }
    }

    pub(crate) fn answer(&mut self, op: usize, reply: Reply) {
        let call = &mut self.clients.ops[op];
        if let Some(first) = &call.reply {
            let refused = matches!(first, Reply::Rejected(_)) || matches!(reply, Reply::Rejected(_));
            if *first != reply && !refused {
                let what = format!("I1: request {op} was answered {first:?} and then {reply:?}");
                self.violate(what);
            }
            return;
        }
        if matches!(reply, Reply::Rejected(Rejection::MissingParts { .. })) {
            // It overtook its parts, or they are not in yet: the client's patience runs out and it asks again.
            return;
        }
        call.reply = Some(reply.clone());
        call.answered = self.now;
        self.clients.open -= 1;
        if call.reuses && !matches!(reply, Reply::Rejected(Rejection::RequestIdReused { .. })) {
            self.violate(format!("I1: a request id was taken for another payload: {reply:?}"));
        }
        let call = &self.clients.ops[op];
        match (&call.command, &reply) {
            (Command::Submit { request, .. }, Reply::Submitted { job, .. }) => {
                let (job, request) = (*job, request.id.clone());
                self.oracle.acknowledged.insert(job, request.clone());
                if !self.healed {
                    self.plan_mutations(job);
                    self.plan_looks(&request, 400);
                }
            }
            (Command::Cancel { target, .. }, Reply::Changed { .. }) => {
                let target = target.clone();
                self.look_after(&target);
                self.plan_rerun(target.job);
            }
            (
                Command::Hold { target, .. }
                | Command::Release { target, .. }
                | Command::Rerun { target, .. },
                _,
            ) => {
                let target = target.clone();
                self.look_after(&target);
            }
            _ => {}
        }
    }

    /// After the heal somebody looks: what is held is released, what is drained is undrained.
    pub(crate) fn release_held(&mut self) {
        self.at(RELEASE_EVERY_MS, Event::ReleaseHeld);
        let state = &self.members[self.most_applied()].state;
        let held: Vec<JobId> = state
            .jobs()
            .filter(|j| !j.state().is_terminal())
            .filter(|j| j.state() == JobState::Held || j.counts().held > 0)
            .map(|j| j.id)
            .collect();
        let drained: Vec<WorkerId> = state
            .workers()
            .filter(|w| w.drain.as_ref().is_some_and(|drain| !drain.leaves))
            .map(|w| w.id)
            .collect();
        // What their own machines said they take back themselves.
        let by_operators = |w: &&Worker| {
            w.notice.as_ref().is_some_and(|noticed| noticed.notice.source == NoticeSource::Operator)
        };
        let noticed: Vec<WorkerId> = state.workers().filter(by_operators).map(|w| w.id).collect();
        // An event may come so late that the device was mended, and returned, before it.
        let out: Vec<String> = state.devices().keys().filter(|d| state.is_quarantined(d)).cloned().collect();
        for uuid in out {
            let request = self.clients.request();
            let reason = "it is well".to_owned();
            self.plan_op(1, Command::ReturnDevice { request, uuid, reason }, false);
        }
        for job in held {
            let target = Target { job, task: None, index: None };
            let request = self.clients.request();
            self.plan_op(1, Command::Release { request, target }, false);
        }
        for worker in noticed {
            self.plan_stays(1, worker);
        }
        for worker in drained {
            let request = self.clients.request();
            self.plan_op(1, Command::Undrain { request, worker }, false);
        }
    }
}
