//! Processes and the shim that parents them. Its deadline timers run whether the agent runs, is stopped, or is dead: SIGTERM one second
//! before the deadline, SIGKILL half a second before it, by the machine's own clock.

use crate::event::{Event, Notice};
use crate::options::Options;
use crate::rng::{Rng, mix};
use crate::saver::{Saver, outcome_of};
use crate::world::World;
use crate::{invariants, oracle};
use muster_agent::StartOrder;
use muster_core::model::attempt::Outcome;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::lease::{KILL_BEFORE_MS, TERM_BEFORE_MS};
use muster_core::model::placement::Share;

/// A live process.
#[derive(Debug, Clone)]
pub struct Process {
    pub at: IndexRef,
    /// Which rank of the attempt.
    pub rank: u32,
    pub devices: Vec<Share>,
    /// Of the machine's clock, ms.
    pub deadline: u64,
    started: u64,
    obeys: bool,
    fenced: bool,
    stopping: bool,
    outcome: Outcome,
    /// How long its children hold on after they are killed, ms.
    lingers_ms: u64,
    /// The first of it has ended, like this and after so long; some of its cgroup lives.
    ended: Option<(Outcome, u64)>,
    /// What it does about checkpoints.
    pub saver: Option<Saver>,
}

impl Process {
    /// It has ended, though something of it may live.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}

/// What an attempt does when nobody interferes: fixed by the seed and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub prepare_ms: u64,
    pub run_ms: u64,
    pub outcome: Outcome,
    /// Whether it ends at SIGTERM.
    pub obeys: bool,
    /// How long what it started holds on when the cgroup is killed, ms.
    pub lingers_ms: u64,
}

impl Fate {
    /// The fate of a rank of the `number`-th attempt of an index.
    pub(crate) fn of(options: &Options, at: IndexRef, number: u32, rank: u32) -> Self {
        let place = mix(at.job.0)
            ^ mix(u64::from(at.task.0) << 32 | u64::from(at.index)).rotate_left(9)
            ^ u64::from(number)
            ^ u64::from(rank) << 40;
        let mut rng = Rng::new(options.seed ^ mix(place), "fate");
        let fails = rng.chance(options.failure_permille);
        let outcome = match (fails, rng.below(10)) {
            (false, _) => Outcome::Exit(0),
            (true, 0) => Outcome::Oom,
            (true, 1) => Outcome::Signal(11),
            (true, 2) => Outcome::ContractOutput("out".to_owned()),
            (true, 3) => Outcome::Launch("no such program".to_owned()),
            (true, n) => Outcome::Exit(n as i32 - 3),
        };
        let long = rng.chance(options.long_permille);
        Self {
            prepare_ms: if rng.chance(30) { rng.range(1_000, 20_000) } else { rng.range(1, 50) },
            run_ms: if long { rng.range(5_000, 60_000) } else { rng.range(5, 4_000) },
            outcome,
            obeys: rng.chance(800),
            lingers_ms: if rng.chance(300) { rng.range(1, 100) } else { 0 },
        }
    }
}

impl World {
    /// The shim starts a process, or says why not.
    pub(crate) fn launch(&mut self, w: usize, local: u64, order: &StartOrder, deadline: u64) {
        let token = order.token;
        let fate = Fate::of(&self.options, order.at, order.number, order.rank);
        let devices = self.machines[w].shares(&order.devices);
        let is_late = local + KILL_BEFORE_MS >= deadline;
        if !is_late {
            invariants::i7_resume::on_order(self, w, order);
        }
        let refused = if is_late {
            Some(Outcome::Launch("the lease deadline had passed".to_owned()))
        } else if devices.is_none() {
            Some(Outcome::Launch("this worker has no such device".to_owned()))
        } else if let Some(bad) = self.unusable(order) {
            Some(bad)
        } else {
            Some(fate.outcome.clone()).filter(|o| matches!(o, Outcome::Launch(_)))
        };
        let devices = devices.unwrap_or_default();
        if let Some(outcome) = refused {
            self.oracle.outcomes.entry(token).or_default().insert(w, outcome.clone());
            self.machines[w].exits.insert(token, (outcome, 0));
            self.notice(w, token, Notice::Ended, 1);
            return;
        }
        invariants::i9_gangs::on_start(self, w, token, order.at);
        invariants::i3_one_process::on_start(self, w, token, order.at);
        invariants::i4_devices::on_start(self, w, token, &devices);
        invariants::i5_parents::on_start(self, w, token, order.at);
        let saver = Saver::of(&self.options, order);
        let process = Process {
            at: order.at,
            rank: order.rank,
            devices,
            deadline,
            started: self.now,
            obeys: fate.obeys,
            fenced: false,
            stopping: false,
            outcome: outcome_of(fate.outcome, saver.as_ref()),
            lingers_ms: fate.lingers_ms,
            ended: None,
            saver,
        };
        self.oracle.started.insert(token, self.now);
        self.oracle.running.entry(order.at).or_default().insert((w, token));
        self.machines[w].processes.insert(token, process);
        let boot = self.machines[w].boot;
        self.at(fate.run_ms, Event::ProcessEnds { worker: w, boot, token, killed: false });
        let fence = self.machines[w].when(deadline - TERM_BEFORE_MS);
        self.at_time(fence, Event::Fence { worker: w, boot, token });
        self.notice(w, token, Notice::Started, 1);
        self.saver_begins(w, token);
    }

    /// The deadline timer of one process: looks at the deadline as it is now.
    pub(crate) fn fence(&mut self, w: usize, boot: u32, token: Token) {
        let deaf = self.plant_is_deaf();
        let machine = &mut self.machines[w];
        if machine.boot != boot || deaf {
            return;
        }
        let local = machine.local(self.now);
        let Some(process) = machine.processes.get_mut(&token) else { return };
        let (term, kill) = (process.deadline - TERM_BEFORE_MS, process.deadline - KILL_BEFORE_MS);
        let next = if local < term {
            term
        } else if local < kill {
            process.fenced = true;
            if process.obeys {
                self.at(3, Event::ProcessEnds { worker: w, boot, token, killed: true });
            }
            kill
        } else {
            process.fenced = true;
            self.process_ends(w, boot, token, true);
            return;
        };
        let at = self.machines[w].when(next);
        self.at_time(at, Event::Fence { worker: w, boot, token });
    }

    /// A signal, a grace, SIGTERM, two seconds, SIGKILL.
    pub(crate) fn stop_process(&mut self, w: usize, token: Token, grace_ms: u64) {
        let machine = &mut self.machines[w];
        let boot = machine.boot;
        let Some(process) = machine.processes.get_mut(&token) else { return };
        if std::mem::replace(&mut process.stopping, true) {
            return;
        }
        let delay = if process.obeys { mix(token.0) % (grace_ms / 2 + 1) } else { grace_ms + 2_000 };
        self.at(delay, Event::ProcessEnds { worker: w, boot, token, killed: true });
        self.save_before_end(w, token);
    }

    /// A process ends by itself, or is killed.
    pub(crate) fn process_ends(&mut self, w: usize, boot: u32, token: Token, killed: bool) {
        let machine = &self.machines[w];
        if machine.boot != boot {
            return;
        }
        let Some(process) = machine.processes.get(&token).filter(|p| p.ended.is_none()) else { return };
        let outcome = match (killed, process.fenced) {
            (true, true) => Outcome::Fenced,
            (true, false) => Outcome::Signal(if process.stopping && process.obeys { 15 } else { 9 }),
            (false, _) => process.outcome.clone(),
        };
        self.stats.fenced += u64::from(outcome == Outcome::Fenced);
        let (ran, lingers) = (self.now - process.started, process.lingers_ms);
        let lingers = self.plant_lingers(lingers);
        self.oracle.outcomes.entry(token).or_default().insert(w, outcome.clone());
        if self.plant_reports_early() {
            self.machines[w].exits.insert(token, (outcome.clone(), ran));
            self.notice(w, token, Notice::Ended, 1);
        }
        if let Some(process) = self.machines[w].processes.get_mut(&token) {
            process.ended = Some((outcome, ran));
        }
        if lingers == 0 {
            self.gone(w, boot, token);
        } else {
            self.at(lingers, Event::Gone { worker: w, boot, token });
        }
    }

    /// The cgroup is empty: the shim writes the exit record and only then speaks of it.
    pub(crate) fn gone(&mut self, w: usize, boot: u32, token: Token) {
        if self.machines[w].boot != boot {
            return;
        }
        let Some(exit) = self.machines[w].processes.get_mut(&token).and_then(|p| p.ended.take()) else {
            return;
        };
        self.machines[w].exits.insert(token, exit);
        self.remove_process(w, token);
        // Outputs are stored before the agent hears of the end.
        let delay = mix(token.0 ^ 7) % 300;
        self.notice(w, token, Notice::Ended, delay);
    }

    pub(crate) fn remove_process(&mut self, w: usize, token: Token) {
        if let Some(process) = self.machines[w].processes.remove(&token) {
            oracle::forget_process(&mut self.oracle, process.at, w, token);
        }
    }
}
