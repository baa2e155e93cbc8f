//! The world of the scale-ins: one heap of what is due, virtual time, a log that commits within milliseconds, a provider that obeys.

use super::machine::{Machine, POOL, Process, name, template};
use crate::replay::Chance;
use anyhow::{Result, bail};
use muster_agent::{Action, Input as AgentInput, StartOrder};
use muster_core::autoscale::{GroupReport, InstancePhase, InstanceReport, Order};
use muster_core::command::{Command, Report, Request};
use muster_core::leader::instruction::Instruction;
use muster_core::leader::{Input, Leader, Output, SessionId};
use muster_core::model::attempt::{EXIT_SAVED, Outcome, TERM_TO_KILL_MS};
use muster_core::model::checkpoint::{Part, Saved, Sha256, Verdict};
use muster_core::model::fleet::{Fleet, PoolSpec, PoolTiming};
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::job_spec::{
    ArraySpec, IndexRange, Indices, JobSpec, Run, StopSpec, TaskCommon, TaskExtra, TaskSpec,
};
use muster_core::model::resources::{GpuAmount, GpuRequest, Resources};
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::reply::Reply;
use muster_core::spec::SpecBytes;
use muster_core::state::{Changes, Entry, State};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The leader is called at least so often, ms.
const TICK_MS: u64 = 100;
/// The provider is looked at so often, ms.
const LOOK_MS: u64 = 5_000;
const BOOT_MS: u64 = 30_000;
/// A machine that is to go has so long, ms.
const DRAIN_MS: u64 = 60_000;
/// Tasks: GPUs of an index, and indices a machine: all GPUs of all machines are taken.
const TASKS: [(u32, u32); 3] = [(4, 1), (2, 1), (1, 2)];
const SIGUSR1: i32 = 10;

/// How processes save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Work between two saves, ms.
    pub every_ms: u64,
    /// How long one takes, at least and less than, ms.
    pub save_ms: (u64, u64),
    /// From the first signal to SIGTERM, ms.
    pub grace_ms: u64,
    /// They save when they are asked to stop.
    pub saves_at_stop: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { every_ms: 45_000, save_ms: (200, 8_000), grace_ms: 30_000, saves_at_stop: true }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    pub terminated: u64,
    /// Attempts that were asked to stop.
    pub evicted: u64,
    /// Work that the next attempt of an index did not begin with, in milliseconds of one GPU.
    pub lost_gpu_ms: u64,
    /// Work that was in no checkpoint when the attempt was asked to stop.
    pub at_risk_gpu_ms: u64,
    /// Machines that were ended while a process ran there.
    pub ended_busy: u64,
    pub elections: u64,
    /// From the change of the pool to the end of the machine, ms.
    pub took_ms: Vec<u64>,
}

#[derive(Debug, Clone)]
enum Up {
    Heartbeat { seq: u64, held: Vec<Token> },
    Reports(Vec<Report>),
}

#[derive(Debug, Clone)]
enum Event {
    Tick,
    Look,
    Election,
    Commit { term: u64, id: u64, commands: Vec<Command> },
    Confirm { term: u64, batch: u64 },
    Up { session: u64, up: Up },
    Down { session: u64, instruction: Instruction },
    Register { machine: u64 },
    Opened { session: u64 },
    Wake { machine: u64 },
    Starts { machine: u64, token: Token },
    SaveDue { machine: u64, token: Token },
    Stored { machine: u64, token: Token, step: u64, took_ms: u64 },
    Ends { machine: u64, token: Token, killed: bool },
}

/// The world.
pub struct Cluster {
    pub tally: Tally,
    now: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Event>,
    pushed: u64,
    state: State,
    leader: Leader,
    term: u64,
    index: u64,
    machines: BTreeMap<u64, Machine>,
    booted: u64,
    desired: u32,
    sessions: BTreeMap<u64, u64>,
    opened: u64,
    /// When the last message each way of a stream arrives: they keep their order.
    last: BTreeMap<(u64, bool), u64>,
    /// How far the last attempt of an index had come when it ended, and its thousandths of GPUs.
    reached: BTreeMap<IndexRef, (u64, u64)>,
    fleet: Fleet,
    changed_at: u64,
    habits: Habits,
    chance: Chance,
}

impl Cluster {
    /// # Errors
    /// A job that is refused.
    pub fn new(seed: u64, habits: Habits, machines: u32) -> Result<Self> {
        let mut cluster = Self {
            tally: Tally::default(),
            now: 1_000,
            heap: BinaryHeap::new(),
            due: BTreeMap::new(),
            pushed: 0,
            state: State::new(),
            leader: Leader::new(),
            term: 1,
            index: 0,
            machines: BTreeMap::new(),
            booted: 0,
            desired: machines,
            sessions: BTreeMap::new(),
            opened: 0,
            last: BTreeMap::new(),
            reached: BTreeMap::new(),
            fleet: Fleet::default(),
            changed_at: 0,
            habits,
            chance: Chance(seed),
        };
        cluster.set_max(machines);
        cluster.lead(Input::Elected { term: 1, state: Box::new(State::new().full_delta()) });
        let request = Request { id: "bench".to_owned(), user: "bench".to_owned() };
        let spec = SpecBytes::encode(&job(machines, habits.grace_ms));
        let replies = cluster.apply(&[Command::Submit { request, spec, parts: 0, forecast_micro_usd: None }]);
        let [Reply::Submitted { .. }] = replies[..] else { bail!("the job was refused: {replies:?}") };
        (0..machines).for_each(|_| cluster.boot(0));
        cluster.at(0, Event::Tick);
        cluster.at(0, Event::Look);
        Ok(cluster)
    }

    /// The pool may have so many machines from now on.
    pub fn set_max(&mut self, max: u32) {
        let timing = PoolTiming { drain_ms: DRAIN_MS, ..PoolTiming::default() };
        let template = Some(Box::new(template()));
        let pool = PoolSpec { max, template, driven: true, timing, ..PoolSpec::default() };
        self.fleet.pools.insert(POOL.to_owned(), pool);
        self.changed_at = self.now;
        self.lead(Input::Fleet(Box::new(self.fleet.clone())));
    }

    /// Another leader, some time within the next drain.
    pub fn plan_election(&mut self) {
        let delay = self.draw(0, DRAIN_MS + 5_000);
        self.at(delay, Event::Election);
    }

    /// Every index runs, and every machine is there.
    #[must_use]
    pub fn is_whole(&self, machines: u32) -> bool {
        let indices: u32 = TASKS.iter().map(|(_, each)| each * machines).sum();
        // One that saves stands still and has more than it has committed.
        let works = |p: &&Process| !p.stops && (p.since.is_some() || p.step > p.committed);
        let running = self.machines.values().flat_map(|m| m.processes.values()).filter(works).count();
        running == indices as usize && self.machines.len() == machines as usize
    }

    /// The tasks work for a while.
    pub fn rest(&mut self) {
        let end = self.now + self.draw(1_000, 90_000);
        self.run_until(u64::MAX, |c| c.now >= end);
    }

    /// Goes on until this holds; false: it does not after so long.
    pub fn run_until(&mut self, limit_ms: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.saturating_add(limit_ms);
        while !holds(self) {
            let Some(Reverse((at, number))) = self.heap.pop() else { return false };
            self.now = at;
            if at > end {
                return false;
            }
            if let Some(event) = self.due.remove(&number) {
                self.happen(event);
            }
        }
        true
    }

    /// For an error: what is there.
    #[must_use]
    pub fn describe(&self) -> String {
        let workers: Vec<String> =
            self.state.workers().map(|w| format!("{} {}", w.spec.name, w.state.as_str())).collect();
        format!(
            "workers [{}], {} attempts live, {:?}",
            workers.join(", "),
            self.state.live().count(),
            self.tally
        )
    }

    fn draw(&mut self, least: u64, below: u64) -> u64 {
        least + self.chance.below((below - least).max(1) as usize) as u64
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.at_time(self.now + delay, event);
    }

    fn at_time(&mut self, time: u64, event: Event) {
        self.pushed += 1;
        self.heap.push(Reverse((time, self.pushed)));
        self.due.insert(self.pushed, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => {
                let outputs = self.leader.step(self.now, Input::Tick);
                self.perform(outputs);
                self.at(TICK_MS, Event::Tick);
            }
            Event::Look => {
                self.look();
                self.at(LOOK_MS, Event::Look);
            }
            Event::Election => self.elect(),
            Event::Commit { term, id, commands } => self.commit(term, id, &commands),
            Event::Confirm { term, batch } if term == self.term => {
                self.lead(Input::Confirmed { batch, ok: true });
            }
            Event::Confirm { .. } => {}
            Event::Up { session, up } => self.up(session, up),
            Event::Down { session, instruction } => {
                if let Some(machine) = self.sessions.get(&session).copied() {
                    self.step(machine, AgentInput::Instruction(instruction));
                }
            }
            Event::Register { machine } => self.register(machine),
            Event::Opened { session } => {
                if let Some(machine) = self.sessions.get(&session).copied() {
                    self.step(machine, AgentInput::SessionOpened);
                }
            }
            Event::Wake { machine } => self.step(machine, AgentInput::Tick),
            Event::Starts { machine, token } => self.starts(machine, token),
            Event::SaveDue { machine, token } => self.save(machine, token),
            Event::Stored { machine, token, step, took_ms } => {
                let part = Part { manifest: Sha256::default(), size: step, files: 1 };
                let saved = Saved { step, part, single: false, took_ms };
                self.step(machine, AgentInput::Saved { token, saved });
            }
            Event::Ends { machine, token, killed } => self.ends(machine, token, killed),
        }
    }

    // The coordinator.

    fn lead(&mut self, input: Input) {
        let mut outputs = self.leader.step(self.now, input);
        outputs.extend(self.leader.step(self.now, Input::Tick));
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        let term = self.term;
        for output in outputs {
            match output {
                Output::Propose { id, commands } => {
                    let delay = self.draw(1, 12);
                    self.at(delay, Event::Commit { term, id, commands });
                }
                Output::Confirm { batch } => {
                    let delay = self.draw(1, 5);
                    self.at(delay, Event::Confirm { term, batch });
                }
                Output::Instruct { session: SessionId(session), instructions } => {
                    for instruction in instructions {
                        self.send(session, false, Event::Down { session, instruction });
                    }
                }
                Output::Close { session: SessionId(session) } => self.close(session),
                Output::Drive { order, .. } => self.obey(order),
                Output::Signals(_) => {}
            }
        }
    }

    fn apply(&mut self, commands: &[Command]) -> Vec<Reply> {
        self.index += 1;
        let stamp = Stamp { wall: Wall(self.now.cast_signed()), tick: Tick(self.now) };
        let (mut replies, mut changes) = (Vec::new(), Changes::default());
        for command in commands {
            let applied = self.state.apply(Entry { index: self.index, stamp, command });
            replies.push(applied.reply);
            changes.merge(applied.changes);
        }
        let delta = Box::new(self.state.delta(&changes));
        self.lead(Input::Delta(delta));
        replies
    }

    /// Of what an older leader had proposed, half is in the log.
    fn commit(&mut self, term: u64, id: u64, commands: &[Command]) {
        let is_own = term == self.term;
        if is_own || self.draw(0, 2) == 0 {
            let replies = self.apply(commands);
            if is_own {
                self.lead(Input::Proposed { id, replies: Some(replies) });
            }
        }
    }

    /// Another member leads: it has the state, and every stream begins anew.
    fn elect(&mut self) {
        self.tally.elections += 1;
        self.term += 1;
        self.leader = Leader::new();
        let all: Vec<u64> = self.sessions.keys().copied().collect();
        all.into_iter().for_each(|session| self.close(session));
        self.leader.step(self.now, Input::Fleet(Box::new(self.fleet.clone())));
        self.lead(Input::Elected { term: self.term, state: Box::new(self.state.full_delta()) });
    }

    // Streams.

    fn send(&mut self, session: u64, up: bool, event: Event) {
        let at = self.now + self.draw(1, 40);
        let last = self.last.entry((session, up)).or_insert(0);
        *last = at.max(*last);
        let at = *last;
        self.at_time(at, event);
    }

    fn up(&mut self, session: u64, up: Up) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let id = SessionId(session);
        self.lead(match up {
            Up::Heartbeat { seq, held } => Input::Heartbeat { session: id, seq, held },
            Up::Reports(reports) => Input::Reports { session: id, reports },
        });
    }

    fn register(&mut self, number: u64) {
        let Some(machine) = self.machines.get_mut(&number).filter(|m| m.session.is_none()) else { return };
        machine.joined = true;
        let (incarnation, held) = (machine.incarnation.clone(), machine.agent.held());
        let (spec, held_too) = (Box::new(machine.spec.clone()), held.clone());
        let command = Command::Register { spec, incarnation: incarnation.clone(), held: held_too };
        let Some(Reply::Registered { worker }) = self.apply(&[command]).first().cloned() else {
            self.at(500, Event::Register { machine: number });
            return;
        };
        self.opened += 1;
        let session = self.opened;
        self.sessions.insert(session, number);
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.session = Some(session);
        }
        self.lead(Input::SessionOpened { session: SessionId(session), worker, incarnation, held });
        self.send(session, false, Event::Opened { session });
    }

    /// The stream ends, and the machine registers again.
    fn close(&mut self, session: u64) {
        let Some(number) = self.sessions.remove(&session) else { return };
        self.last.retain(|(of, _), _| *of != session);
        self.lead(Input::SessionClosed { session: SessionId(session) });
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.session = None;
            self.step(number, AgentInput::SessionClosed);
            let delay = self.draw(100, 1_000);
            self.at(delay, Event::Register { machine: number });
        }
    }

    // The provider.

    fn boot(&mut self, delay: u64) {
        self.booted += 1;
        self.machines.insert(self.booted, Machine::new(self.booted));
        self.at(delay, Event::Register { machine: self.booted });
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::SetDesired(desired) => {
                self.desired = desired;
                while (self.machines.len() as u32) < desired {
                    self.boot(BOOT_MS);
                }
            }
            Order::Terminate(id) | Order::Release(id) => {
                let Some(number) = self.machines.keys().copied().find(|n| name(*n) == id) else { return };
                self.desired = self.desired.saturating_sub(1);
                self.end_machine(number);
            }
            Order::Hold(_) | Order::Protect(_) => {}
        }
    }

    fn end_machine(&mut self, number: u64) {
        let Some(machine) = self.machines.remove(&number) else { return };
        self.tally.terminated += 1;
        self.tally.took_ms.push(self.now - self.changed_at);
        self.tally.ended_busy += u64::from(!machine.processes.is_empty());
        for process in machine.processes.values() {
            self.reached.insert(process.at, (process.work(self.now), process.milli));
        }
        if let Some(session) = machine.session {
            self.close(session);
        }
    }

    fn look(&mut self) {
        let instance = |(number, machine): (&u64, &Machine)| InstanceReport {
            id: name(*number),
            phase: if machine.joined { InstancePhase::InService } else { InstancePhase::Booting },
            protected: false,
            image: None,
        };
        let instances = self.machines.iter().map(instance).collect();
        let report = GroupReport { desired: self.desired, min: 0, max: 100, instances };
        self.lead(Input::Group { pool: POOL.to_owned(), report });
    }

    // Machines.

    fn step(&mut self, number: u64, input: AgentInput) {
        let Some(machine) = self.machines.get_mut(&number) else { return };
        let actions = machine.agent.step(self.now, input);
        let wake = machine.agent.next_wake().filter(|wake| *wake > machine.wakes_at);
        machine.wakes_at = wake.unwrap_or(machine.wakes_at);
        actions.into_iter().for_each(|action| self.act(number, action));
        if let Some(wake) = wake {
            self.at_time(wake, Event::Wake { machine: number });
        }
    }

    fn act(&mut self, number: u64, action: Action) {
        let Some(machine) = self.machines.get_mut(&number) else { return };
        let session = machine.session;
        match action {
            Action::Heartbeat { seq, held } => self.send_up(session, Up::Heartbeat { seq, held }),
            Action::Report(reports) => self.send_up(session, Up::Reports(reports)),
            Action::Launch { order, .. } => self.launch(number, &order),
            Action::Stop { token, grace_ms, .. } => self.stop(number, token, grace_ms),
            Action::Kill { token } => self.at(1, Event::Ends { machine: number, token, killed: true }),
            Action::Verdict { token, step, verdict } => self.answered(number, token, step, &verdict),
            // The journal is for restarts of agents, deadlines are for cut networks, and devices do not break: none of that happens here.
            Action::Journal(_)
            | Action::Forget { .. }
            | Action::Renew { .. }
            | Action::DeviceEvents(_)
            | Action::Notice(_)
            | Action::Probe { .. } => {}
        }
    }

    fn send_up(&mut self, session: Option<u64>, up: Up) {
        if let Some(session) = session {
            self.send(session, true, Event::Up { session, up });
        }
    }

    fn process(&mut self, machine: u64, token: Token) -> Option<&mut Process> {
        self.machines.get_mut(&machine)?.processes.get_mut(&token)
    }

    /// What the attempt before had done and this one does not begin with is lost.
    fn launch(&mut self, number: u64, order: &StartOrder) {
        let step = order.launch.resume.as_ref().map_or(0, |resume| resume.step);
        if let Some((reached, milli)) = self.reached.remove(&order.at) {
            self.tally.lost_gpu_ms += reached.saturating_sub(step) * milli / 1_000;
        }
        let milli = order.devices.iter().map(|device| u64::from(device.milli)).sum();
        let process = Process { at: order.at, milli, step, since: None, committed: step, stops: false };
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.processes.insert(order.token, process);
        }
        let delay = self.draw(20, 500);
        self.at(delay, Event::Starts { machine: number, token: order.token });
    }

    fn starts(&mut self, number: u64, token: Token) {
        let (now, every) = (self.now, self.habits.every_ms);
        let Some(process) = self.process(number, token).filter(|p| !p.stops) else { return };
        process.since = Some(now);
        let first = self.draw(1_000, every);
        self.at(first, Event::SaveDue { machine: number, token });
        self.step(number, AgentInput::Started { token });
    }

    /// It stands still until the log has its step.
    fn save(&mut self, number: u64, token: Token) {
        let (now, (least, below)) = (self.now, self.habits.save_ms);
        let took_ms = self.draw(least, below);
        let Some(process) = self.process(number, token).filter(|p| p.since.is_some()) else { return };
        process.step = process.work(now);
        process.since = None;
        let step = process.step;
        self.at(took_ms, Event::Stored { machine: number, token, step, took_ms });
    }

    fn answered(&mut self, number: u64, token: Token, step: u64, verdict: &Verdict) {
        let (now, every) = (self.now, self.habits.every_ms);
        let Some(process) = self.process(number, token).filter(|p| p.since.is_none() && p.step == step)
        else {
            return;
        };
        match verdict {
            Verdict::Waits => return,
            Verdict::Committed { .. } => process.committed = step,
            Verdict::Refused(_) => {}
        }
        if process.stops {
            self.at(5, Event::Ends { machine: number, token, killed: false });
        } else {
            process.since = Some(now);
            self.at(every, Event::SaveDue { machine: number, token });
        }
    }

    fn stop(&mut self, number: u64, token: Token, grace_ms: u64) {
        let (now, saves) = (self.now, self.habits.saves_at_stop);
        let Some(process) = self.process(number, token).filter(|p| !p.stops) else { return };
        process.stops = true;
        let at_risk = (process.work(now) - process.committed) * process.milli / 1_000;
        let is_saving = process.since.is_none() && process.step > process.committed;
        if at_risk == 0 || !saves {
            // It works no more, and ends.
            (process.step, process.since) = (process.work(now), None);
        }
        self.tally.evicted += 1;
        self.tally.at_risk_gpu_ms += at_risk;
        self.at(grace_ms + TERM_TO_KILL_MS, Event::Ends { machine: number, token, killed: true });
        if at_risk == 0 || !saves {
            self.at(5, Event::Ends { machine: number, token, killed: true });
        } else if !is_saving {
            self.save(number, token);
        }
    }

    fn ends(&mut self, number: u64, token: Token, killed: bool) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&number) else { return };
        let Some(mut process) = machine.processes.remove(&token) else { return };
        process.step = process.work(now);
        self.reached.insert(process.at, (process.step, process.milli));
        let outcome = if killed { Outcome::Signal(15) } else { Outcome::Exit(EXIT_SAVED) };
        self.step(number, AgentInput::Ended { token, outcome, artifacts: Vec::new(), ran_ms: 0 });
    }
}

/// One job whose indices take all GPUs of all machines and never end by themselves.
fn job(machines: u32, grace_ms: u64) -> JobSpec {
    let common = |(gpus, _): &(u32, u32)| TaskCommon {
        resources: Resources {
            cpu_milli: 1_000,
            gpus: Some(GpuRequest { amount: GpuAmount::Whole(*gpus), ..GpuRequest::default() }),
            ..Resources::default()
        },
        stop: StopSpec { signal: SIGUSR1, grace_ms },
        ..TaskCommon::default()
    };
    let task = |(no, (_, each)): (u32, &(u32, u32))| {
        let count = each * machines;
        let range = IndexRange { first: 0, count, step: 1 };
        let array = ArraySpec { count, indices: Indices::Ranges(vec![range]), max_running: None };
        TaskSpec {
            name: format!("t{no}").into(),
            run: Run::Exec(["train"].into_iter().collect()),
            needs: Box::default(),
            common: no,
            extra: Some(Box::new(TaskExtra { array: Some(array), ..TaskExtra::default() })),
        }
    };
    JobSpec {
        budget: None,
        name: "bench".to_owned(),
        queue: "default".to_owned(),
        priority: 50,
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        workdir: None,
        params: BTreeMap::new(),
        compat_slurm: false,
        commons: TASKS.iter().map(common).collect(),
        tasks: (0..).zip(&TASKS).map(task).collect(),
    }
}
