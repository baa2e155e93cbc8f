//! A worker's machine: the real agent, and a shell around it as the worker's is. The journal outlives the agent, the shim too; nothing
//! outlives the machine but its name. Processes are in `shim.rs`.

use crate::event::{Event, Notice, Up};
use crate::rng::{Rng, mix};
use crate::shim::{Fate, Process};
use crate::world::World;
use muster_agent::{Action, Agent, Input, Journaled, StartOrder};
use muster_core::command::ReportKind;
use muster_core::leader::instruction::DeviceOrder;
use muster_core::ledger::price::PRICE_LABEL;
use muster_core::model::artifact::Artifact;
use muster_core::model::attempt::Outcome;
use muster_core::model::blob::BlobId;
use muster_core::model::device_event::{DeviceEvent, DeviceEventKind};
use muster_core::model::ids::Token;
use muster_core::model::notice::Notice as Preemption;
use muster_core::model::placement::Share;
use muster_core::model::worker::{Device, Incarnation, WorkerSpec};
use std::collections::{BTreeMap, BTreeSet};

/// One machine.
pub struct Machine {
    pub spec: WorkerSpec,
    /// Counts boots: processes and journal of an older one are gone.
    pub boot: u32,
    pub is_on: bool,
    /// Its provider has ended it: it never comes back.
    pub gone: bool,
    pub agent: Option<Agent>,
    /// Counts agents of this machine.
    pub agent_number: u32,
    pub paused: bool,
    pub stalled: Vec<Event>,
    pub session: Option<u64>,
    pub journal: BTreeMap<Token, Journaled>,
    /// The highest token that was ever in the journal.
    pub highest: Token,
    term: u64,
    wake_at: u64,
    /// Being prepared by this agent: the order and the deadline it came with.
    preparing: BTreeMap<Token, (Box<StartOrder>, u64)>,
    /// The last deadline that was renewed, for what is still being prepared.
    renewed: u64,
    pub processes: BTreeMap<Token, Process>,
    /// Ended, and the agent has not let go of it.
    pub exits: BTreeMap<Token, (Outcome, u64)>,
    /// What runs, as its agent knows, and the session and the heartbeat with which it first said so.
    pub told: BTreeMap<Token, (u64, u64)>,
    beat: u64,
    /// What was said to run.
    pub said: BTreeSet<Token>,
    /// UUIDs of devices that are sick in truth.
    pub sick: BTreeSet<String>,
    /// UUIDs of those that did not answer when the agent started.
    pub dead: BTreeSet<String>,
    /// What its metadata says of a preemption, if it ever said something, and when it goes by its own clock, ms.
    pub says: Option<(Preemption, Option<u64>)>,
    /// Clock rate against true time, parts per million.
    ppm: i64,
    clock_base: u64,
}

impl Machine {
    pub(crate) fn new(seed: u64, w: usize) -> Self {
        let mut rng = Rng::new(mix(seed ^ w as u64), "machine");
        let gpus = rng.pick(&[0, 0, 2, 4]);
        let device = |n| Device {
            uuid: format!("GPU-{w}-{n}"),
            model: "H100-80GB".to_owned(),
            memory: 80 << 30,
            compute_capability: 90,
            simulated: true,
            ..Device::default()
        };
        Self {
            spec: WorkerSpec {
                name: format!("w{w}"),
                pool: "default".to_owned(),
                cpu_milli: rng.pick(&[4_000, 6_000, 8_000]),
                memory: 64 << 30,
                disk: 1 << 40,
                // The first one has what every task of the workload asks for.
                devices: (0..if w == 0 { 4 } else { gpus }).map(device).collect(),
                isolation: "none".to_owned(),
                // Every other one costs something.
                labels: w
                    .is_multiple_of(2)
                    .then(|| (PRICE_LABEL.to_owned(), "19.8".to_owned()))
                    .into_iter()
                    .collect(),
                ..WorkerSpec::default()
            },
            boot: 0,
            is_on: true,
            gone: false,
            agent: Some(Agent::new(Vec::new(), Token(0), 0)),
            agent_number: 0,
            paused: false,
            stalled: Vec::new(),
            session: None,
            journal: BTreeMap::new(),
            highest: Token(0),
            term: 0,
            wake_at: u64::MAX,
            preparing: BTreeMap::new(),
            renewed: 0,
            processes: BTreeMap::new(),
            exits: BTreeMap::new(),
            told: BTreeMap::new(),
            beat: 0,
            said: BTreeSet::new(),
            sick: BTreeSet::new(),
            dead: BTreeSet::new(),
            says: None,
            ppm: rng.range(0, 20_000) as i64 - 10_000,
            clock_base: rng.below(1 << 32),
        }
    }

    /// A machine of a pool, with an agent that starts by itself.
    pub(crate) fn of_pool(seed: u64, w: usize, spec: WorkerSpec) -> Self {
        Self { spec, ..Self::new(seed, w) }
    }

    /// What it says of itself: a driver names only the devices that answered when the agent started.
    pub(crate) fn offered(&self) -> WorkerSpec {
        let mut spec = self.spec.clone();
        spec.devices.retain(|device| !self.dead.contains(&device.uuid));
        spec
    }

    /// Which of its devices these are; none when it does not find one.
    pub(crate) fn shares(&self, ordered: &[DeviceOrder]) -> Option<Vec<Share>> {
        let share = |ordered: &DeviceOrder| {
            let number = self.spec.devices.iter().position(|device| device.uuid == ordered.uuid)?;
            let is_there = !self.dead.contains(&ordered.uuid);
            is_there.then_some(Share { device: number as u16, milli: ordered.milli, memory: ordered.memory })
        };
        ordered.iter().map(share).collect()
    }

    /// Whether this agent is alive (it may be stopped).
    pub(crate) fn hears(&self, agent: u32) -> bool {
        self.is_on && self.agent.is_some() && self.agent_number == agent
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation(format!("{}-boot{}", self.spec.name, self.boot))
    }

    pub(crate) fn held(&self) -> Vec<Token> {
        self.agent.as_ref().map(Agent::held).unwrap_or_default()
    }

    /// This machine's boot-time clock, ms.
    pub(crate) fn local(&self, now: u64) -> u64 {
        let rate = (1_000_000 + self.ppm) as u128;
        self.clock_base + (u128::from(now) * rate / 1_000_000) as u64
    }

    /// The first true moment at which this machine's clock shows `local`.
    pub(crate) fn when(&self, local: u64) -> u64 {
        let rate = (1_000_000 + self.ppm) as u128;
        (u128::from(local.saturating_sub(self.clock_base)) * 1_000_000).div_ceil(rate) as u64
    }
}

impl World {
    /// One input for the agent, and what it asks for.
    pub(crate) fn step_agent(&mut self, w: usize, input: Input) {
        let machine = &mut self.machines[w];
        let local = machine.local(self.now);
        let Some(agent) = machine.agent.as_mut() else { return };
        let actions = agent.step(local, input);
        machine.term = agent.term();
        let wake = agent.next_wake();
        for action in actions {
            let action = self.plant_in_action(w, action);
            self.act(w, local, action);
        }
        let machine = &mut self.machines[w];
        if let Some(wake) = wake
            && machine.wake_at != wake
        {
            machine.wake_at = wake;
            let (at, agent) = (machine.when(wake), machine.agent_number);
            self.at_time(at, Event::Wake { worker: w, agent });
        }
    }

    fn act(&mut self, w: usize, local: u64, action: Action) {
        let machine = &mut self.machines[w];
        match action {
            Action::Heartbeat { seq, held } => {
                machine.beat = seq;
                if let Some(session) = machine.session {
                    self.send_up(session, Up::Heartbeat { seq, held });
                }
            }
            Action::Report(reports) => {
                if let Some(session) = machine.session {
                    for report in reports.iter().filter(|r| matches!(r.kind, ReportKind::Running)) {
                        let first = machine.told.entry(report.token).or_insert((session, machine.beat));
                        if first.0 != session {
                            *first = (session, machine.beat);
                        }
                    }
                    self.send_up(session, Up::Reports(reports));
                }
            }
            Action::DeviceEvents(events) => {
                if let Some(session) = machine.session {
                    self.send_up(session, Up::DeviceEvents(events));
                }
            }
            Action::Verdict { token, step, verdict } => self.save_answered(w, token, step, &verdict),
            Action::Notice(notice) => {
                if let Some(session) = machine.session {
                    self.send_up(session, Up::Preemption(notice));
                }
            }
            Action::Probe { uuids } => {
                let well = uuids.into_iter().filter(|uuid| !machine.sick.contains(uuid)).collect();
                self.see(w, well, &DeviceEventKind::Recovered);
            }
            Action::Journal(entry) => {
                machine.highest = machine.highest.max(entry.token);
                machine.journal.insert(entry.token, entry);
            }
            Action::Forget { token } => {
                machine.journal.remove(&token);
                machine.exits.remove(&token);
                machine.told.remove(&token);
            }
            Action::Launch { order, deadline } => {
                let token = order.token;
                let fate = Fate::of(&self.options, order.at, order.number, order.rank);
                machine.preparing.insert(token, (order, deadline));
                let agent = machine.agent_number;
                self.at(fate.prepare_ms, Event::Prepared { worker: w, agent, token });
            }
            Action::Renew { deadline } => {
                machine.renewed = machine.renewed.max(deadline);
                machine.processes.values_mut().for_each(|p| p.deadline = p.deadline.max(deadline));
            }
            Action::Stop { token, grace_ms, .. } => {
                if machine.preparing.remove(&token).is_some() {
                    machine.exits.insert(token, (Outcome::Signal(15), 0));
                    self.notice(w, token, Notice::Ended, 1);
                } else {
                    self.stop_process(w, token, grace_ms);
                }
            }
            Action::Kill { token } => {
                if machine.preparing.remove(&token).is_some() {
                    machine.exits.insert(token, (Outcome::Signal(9), 0));
                    self.notice(w, token, Notice::Ended, 1);
                } else {
                    let boot = machine.boot;
                    self.at(local % 20 + 1, Event::ProcessEnds { worker: w, boot, token, killed: true });
                }
            }
        }
    }

    /// The machine sees this of these devices, if its agent lives to see it.
    pub(crate) fn see(&mut self, w: usize, uuids: Vec<String>, kind: &DeviceEventKind) {
        if uuids.is_empty() || self.machines[w].paused {
            return;
        }
        let event = |uuid| DeviceEvent { seq: 0, uuid, kind: kind.clone(), at: 0, detail: String::new() };
        self.step_agent(w, Input::DeviceEvents(uuids.into_iter().map(event).collect()));
    }

    pub(crate) fn wake(&mut self, w: usize, agent: u32) {
        let machine = &mut self.machines[w];
        if machine.hears(agent) && machine.local(self.now) >= machine.wake_at {
            machine.wake_at = u64::MAX;
            self.step_agent(w, Input::Tick);
        }
    }

    /// The workdir is there: the shim starts the process, unless its deadline is past.
    pub(crate) fn prepared(&mut self, w: usize, agent: u32, token: Token) {
        let local = self.machines[w].local(self.now);
        let machine = &mut self.machines[w];
        if !machine.hears(agent) {
            return;
        }
        let Some((order, deadline)) = machine.preparing.remove(&token) else { return };
        let deadline = deadline.max(machine.renewed);
        for _ in 0..self.plant_launches() {
            self.launch(w, local, &order, deadline);
        }
    }

    pub(crate) fn notice(&mut self, w: usize, token: Token, notice: Notice, delay: u64) {
        let machine = &self.machines[w];
        if machine.is_on && machine.agent.is_some() {
            let agent = machine.agent_number;
            self.at(delay, Event::Noticed { worker: w, agent, token, notice });
        }
    }

    /// The shim tells the agent, or answers a new one that asks what became of a token.
    pub(crate) fn noticed(&mut self, w: usize, agent: u32, token: Token, notice: Notice) {
        let machine = &self.machines[w];
        if !machine.hears(agent) {
            return;
        }
        match notice {
            Notice::Started => self.step_agent(w, Input::Started { token }),
            Notice::Ended => {
                let Some((outcome, ran_ms)) = machine.exits.get(&token).cloned() else { return };
                let artifacts = if outcome == Outcome::Exit(0) { vec![artifact(token)] } else { Vec::new() };
                self.step_agent(w, Input::Ended { token, outcome, artifacts, ran_ms });
            }
        }
    }

    /// SIGKILL of the agent: its memory is gone, the shim and its processes go on.
    pub(crate) fn kill_agent(&mut self, w: usize) {
        let machine = &mut self.machines[w];
        machine.agent = None;
        machine.paused = false;
        machine.stalled.clear();
        machine.preparing.clear();
        machine.told.clear();
        machine.renewed = 0;
        machine.wake_at = u64::MAX;
        if let Some(session) = machine.session.take() {
            self.break_session(session, false);
        }
    }

    /// A new agent reads the journal and asks the shim what became of each token.
    pub(crate) fn start_agent(&mut self, w: usize) {
        let machine = &mut self.machines[w];
        if machine.agent.is_some() || !machine.is_on {
            return;
        }
        self.plant_at_restart(w);
        let machine = &mut self.machines[w];
        machine.dead = machine.sick.iter().filter(|uuid| falls_off(uuid)).cloned().collect();
        machine.agent_number += 1;
        let agent = machine.agent_number;
        machine.agent =
            Some(Agent::new(machine.journal.values().cloned().collect(), machine.highest, machine.term));
        let open: Vec<Token> =
            machine.journal.values().filter(|j| j.result.is_none()).map(|j| j.token).collect();
        for token in open {
            let machine = &mut self.machines[w];
            if machine.processes.contains_key(&token) {
                self.notice(w, token, Notice::Started, 1);
                self.saver_asks_again(w, token);
            } else {
                // The agent died between the journal and the launch.
                let never = || (Outcome::Launch("its agent ended before the launch".to_owned()), 0);
                machine.exits.entry(token).or_insert_with(never);
                self.notice(w, token, Notice::Ended, 1);
            }
        }
        self.say(w);
        let wait = self.network.rng.range(10, 500);
        self.at(wait, Event::Connect { worker: w, agent });
    }

    /// Power off: processes, shim, journal and what it said are gone.
    pub(crate) fn crash_machine(&mut self, w: usize) {
        let agent = self.machines[w].agent_number;
        self.late_register(w, agent);
        self.kill_agent(w);
        let tokens: Vec<Token> = self.machines[w].processes.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.remove_process(w, token));
        let machine = &mut self.machines[w];
        machine.is_on = false;
        machine.says = None;
        machine.exits.clear();
        machine.journal.clear();
        machine.highest = Token(0);
        machine.term = 0;
        machine.boot += 1;
    }

    /// Power off, for good.
    pub(crate) fn end_machine(&mut self, w: usize) {
        if self.machines[w].is_on {
            self.crash_machine(w);
        }
        self.machines[w].gone = true;
    }

    pub(crate) fn boot_machine(&mut self, w: usize) {
        if !self.machines[w].is_on && !self.machines[w].gone {
            self.machines[w].is_on = true;
            self.start_agent(w);
        }
    }
}

/// Whether a device that is sick does not answer at all: those of even number.
fn falls_off(uuid: &str) -> bool {
    uuid.ends_with(['0', '2'])
}

fn artifact(token: Token) -> Artifact {
    Artifact { name: "out".to_owned(), manifest: BlobId::of(&token.0.to_be_bytes()), size: token.0 }
}
