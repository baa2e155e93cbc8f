//! From the driver's word to the end of what held the device, with the real rules of worker and leader and a clock that stands still: no
//! heartbeat, no timer and no further look is waited for on the way. So what a quarantine takes is the look of the worker's shell, which
//! is bounded where it is made (`muster-worker`, run/mod.rs), and one commit.

use muster_agent::{Action, Agent, Input, Instruction};
use muster_core::command::Command;
use muster_core::leader::{self, Leader, Output, SessionId};
use muster_core::model::device_event::{DeviceEvent, DeviceEventKind};
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::model::worker::{Device, Incarnation, WorkerSpec};
use muster_core::spec::{self, Format, SpecBytes};
use muster_core::state::{Entry, State};

const SESSION: SessionId = SessionId(1);

/// A worker with one device, the leader, and the log between them.
struct Pair {
    agent: Agent,
    leader: Leader,
    state: State,
    index: u64,
    now: u64,
}

impl Pair {
    /// Connected, and the worker's first heartbeat is acknowledged.
    fn new() -> Self {
        let (agent, leader) = (Agent::new(Vec::new(), Token(0), 0), Leader::new());
        let mut pair = Self { agent, leader, state: State::new(), index: 0, now: 0 };
        let device = Device { uuid: "GPU-a".to_owned(), memory: 80 << 30, ..Device::default() };
        let spec = WorkerSpec {
            name: "w1".to_owned(),
            cpu_milli: 8_000,
            memory: 8 << 30,
            disk: 8 << 30,
            devices: vec![device],
            ..WorkerSpec::default()
        };
        let incarnation = Incarnation("a".to_owned());
        pair.apply(&Command::Register {
            spec: Box::new(spec),
            incarnation: incarnation.clone(),
            held: Vec::new(),
        });
        let state = Box::new(pair.state.full_delta());
        pair.leader.step(0, leader::Input::Elected { term: 1, state });
        let (session, worker, held) = (SESSION, WorkerId(1), Vec::new());
        pair.leader.step(0, leader::Input::SessionOpened { session, worker, incarnation, held });
        pair.step(Input::SessionOpened);
        pair
    }

    fn apply(&mut self, command: &Command) {
        self.index += 1;
        let stamp = Stamp { wall: Wall(0), tick: Tick(self.now) };
        let applied = self.state.apply(Entry { index: self.index, stamp, command });
        let delta = Box::new(self.state.delta(&applied.changes));
        self.leader.step(self.now, leader::Input::Delta(delta));
    }

    /// Something happens to the worker, and everything that comes of it at this very moment; what the worker's shell was to do, in order.
    fn step(&mut self, input: Input) -> Vec<Action> {
        let mut done = Vec::new();
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            for input in std::mem::take(&mut inputs) {
                for action in self.agent.step(self.now, input) {
                    self.say(&action);
                    done.push(action);
                }
            }
            inputs.extend(self.settle().into_iter().map(Input::Instruction));
        }
        done
    }

    /// What of it reaches the leader.
    fn say(&mut self, action: &Action) {
        let session = SESSION;
        let input = match action.clone() {
            Action::Heartbeat { seq, held } => leader::Input::Heartbeat { session, seq, held },
            Action::Report(reports) => leader::Input::Reports { session, reports },
            Action::DeviceEvents(events) => leader::Input::DeviceEvents { session, events },
            _ => return,
        };
        self.leader.step(self.now, input);
    }

    /// The leader decides and the log takes it, until there is nothing more; what the worker is told.
    fn settle(&mut self) -> Vec<Instruction> {
        let mut told = Vec::new();
        loop {
            let outputs = self.leader.step(self.now, leader::Input::Tick);
            if outputs.is_empty() {
                return told;
            }
            for output in outputs {
                match output {
                    Output::Confirm { batch } => {
                        self.leader.step(self.now, leader::Input::Confirmed { batch, ok: true });
                    }
                    Output::Propose { id, commands } => {
                        commands.iter().for_each(|command| self.apply(command));
                        self.leader.step(self.now, leader::Input::Proposed { id, replies: Some(Vec::new()) });
                    }
                    Output::Instruct { instructions, .. } => told.extend(instructions),
                    Output::Close { .. } => panic!("nobody is to go"),
                    Output::Signals(_) | Output::Drive { .. } => {}
                }
            }
        }
    }
}

#[test]
fn a_sick_device_is_out_and_its_task_is_stopped_before_the_next_heartbeat_is_due() {
    let mut pair = Pair::new();
    // 1. A task gets the device and runs.
    let job = br#"{"name": "train", "tasks": {"t": {"run": "true", "resources": {"gpus": 1}}}}"#;
    let file = spec::parse(job, Format::Json, "job").expect("a job");
    let spec = SpecBytes::encode(&spec::check(&file, None).expect("sound").spec);
    let request = muster_core::command::Request { id: "r1".to_owned(), user: "ann".to_owned() };
    pair.apply(&Command::Submit { request, spec, parts: 0, forecast_micro_usd: None });
    pair.now = 1;
    let started: Vec<Instruction> = pair.settle();
    let order = started.iter().find_map(|told| match told {
        Instruction::Start(order) => Some(order.clone()),
        _ => None,
    });
    let token = order.as_ref().expect("placed").token;
    let launched = pair.step(Input::Instruction(Instruction::Start(order.expect("placed"))));
    assert!(launched.iter().any(|action| matches!(action, Action::Launch { .. })), "{launched:?}");
    pair.step(Input::Started { token });

    // 2. The driver says that it fell off the bus.
    pair.now = 2;
    let kind = DeviceEventKind::Xid(79);
    let event = DeviceEvent { seq: 0, uuid: "GPU-a".to_owned(), kind, at: 0, detail: String::new() };
    let done = pair.step(Input::DeviceEvents(vec![event]));

    assert!(pair.state.is_quarantined("GPU-a"));
    let what = |action: &Action| match action {
        Action::DeviceEvents(_) => "said",
        Action::Stop { token: stopped, .. } if *stopped == token => "stopped",
        other => panic!("{other:?} was waited for"),
    };
    assert_eq!(done.iter().map(what).collect::<Vec<_>>(), ["said", "stopped"]);
    assert!(pair.agent.next_wake().is_some_and(|at| at > pair.now), "a heartbeat was due meanwhile");
    // 3. It has been settled: the next heartbeat does not say it again.
    pair.now = pair.agent.next_wake().expect("a session");
    let beat = pair.step(Input::Tick);
    assert!(!beat.iter().any(|action| matches!(action, Action::DeviceEvents(_))), "{beat:?}");
}
