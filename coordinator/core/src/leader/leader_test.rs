//! The leader beside a real state: what it proposes is applied at once, what it tells workers is looked at.

use super::instruction::Instruction;
use super::{Input, Leader, Output, SessionId, Signals};
use crate::autoscale::Order;
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::Outcome;
use crate::model::ids::{Token, WorkerId};
use crate::model::lease::LEADER_LEASE_MS;
use crate::model::time::Tick;
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState, at, worker_spec};

pub(super) struct Rig {
    pub test: TestState,
    pub leader: Leader,
    pub now: u64,
    /// What workers were told, and streams that ended.
    pub told: Vec<(u64, Instruction)>,
    closed: Vec<u64>,
    pub proposed: Vec<Command>,
    /// What is wanted of pools, and what providers were asked to do.
    pub signals: Option<Signals>,
    pub orders: Vec<(String, u64, Order)>,
}

impl Rig {
    pub fn new() -> Self {
        let test = TestState::with_worker(0);
        let mut leader = Leader::new();
        leader.step(0, Input::Elected { term: 1, state: Box::new(test.state.full_delta()) });
        Self {
            test,
            leader,
            now: 0,
            told: Vec::new(),
            closed: Vec::new(),
            proposed: Vec::new(),
            signals: None,
            orders: Vec::new(),
        }
    }

    pub fn apply(&mut self, command: Command) {
        let applied = self.test.apply(command);
        let delta = Box::new(self.test.state.delta(&applied.changes));
        self.step(Input::Delta(delta));
    }

    fn register(&mut self, incarnation: &str) {
        let incarnation = Incarnation(incarnation.to_owned());
        self.apply(Command::Register {
            spec: Box::new(worker_spec("w1", 8, 0)),
            incarnation,
            held: Vec::new(),
        });
    }

    fn open(&mut self, session: u64, incarnation: &str) {
        self.open_of(1, session, incarnation);
    }

    pub fn open_of(&mut self, worker: u64, session: u64, incarnation: &str) {
        let (session, worker) = (SessionId(session), WorkerId(worker));
        let incarnation = Incarnation(incarnation.to_owned());
        self.step(Input::SessionOpened { session, worker, incarnation, held: Vec::new() });
    }

    pub fn beat(&mut self, session: u64, held: &[u64]) {
        let held = held.iter().map(|t| Token(*t)).collect();
        self.step(Input::Heartbeat { session: SessionId(session), seq: self.now, held });
    }

    pub fn step(&mut self, input: Input) {
        self.leader.step(self.now, input);
        self.settle();
    }

    pub fn settle(&mut self) {
        let outputs = self.leader.step(self.now, Input::Tick);
        for output in outputs {
            match output {
                Output::Propose { id, commands } => {
                    for command in commands {
                        self.proposed.push(command.clone());
                        self.apply(command);
                    }
                    self.step(Input::Proposed { id, replies: Some(Vec::new()) });
                }
                Output::Instruct { session, instructions } => {
                    self.told.extend(instructions.into_iter().map(|i| (session.0, i)));
                }
                Output::Close { session } => self.closed.push(session.0),
                Output::Confirm { batch } => self.step(Input::Confirmed { batch, ok: true }),
                Output::Signals(signals) => self.signals = Some(*signals),
                Output::Drive { pool, generation, order } => self.orders.push((pool, generation, order)),
            }
        }
    }

    /// Tokens that this stream was told to start.
    fn started(&self, session: u64) -> Vec<u64> {
        let start = |(to, i): &(u64, Instruction)| match i {
            Instruction::Start(order) if *to == session => Some(order.token.0),
            _ => None,
        };
        self.told.iter().filter_map(start).collect()
    }

    /// Tokens whose end the leader said itself.
    fn given_up(&self) -> Vec<u64> {
        let reports = self.proposed.iter().filter_map(|c| match c {
            Command::Reports { reports, .. } => Some(reports),
            _ => None,
        });
        let fenced = reports
            .flatten()
            .filter(|r| matches!(&r.kind, ReportKind::Ended { outcome, .. } if *outcome == Outcome::Fenced));
        fenced.map(|r| r.token.0).collect()
    }
}

#[test]
fn an_hour_in_which_nothing_happens_is_an_hour() {
    let mut rig = Rig::new();
    for _ in 0..36_000 {
        rig.now += 100;
        rig.step(Input::Tick);
    }
    assert_eq!(rig.leader.tick(rig.now), Tick(3_600_000));
    let early = rig.proposed.iter().find(|c| matches!(c, Command::Retire { before } if *before > Tick(0)));
    assert_eq!(early, None);
}

/// What was proposed before a term began may carry a later tick than what follows it; the log's stands still until it is overtaken.
#[test]
fn a_leader_reckons_from_the_tick_that_the_log_shows() {
    let mut rig = Rig::new();
    rig.test.tick = 5_000;
    rig.register("b");
    rig.now = 3_000;
    rig.step(Input::Tick);
    assert_eq!(rig.leader.tick(rig.now), Tick(8_000));

    rig.register("c");

    assert_eq!(rig.leader.tick(rig.now + 100), Tick(5_100));
}

#[test]
fn what_an_older_incarnation_had_is_not_started_again_and_ends_with_its_lease() {
    let mut rig = Rig::new();
    rig.open(1, "a");
    rig.now = 1_000;
    rig.beat(1, &[]);
    rig.test.submit(&TestJob::new().task(&[]));
    let job = at(1, 0, 0);
    rig.leader.step(1_000, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.beat(1, &[]);
    let token = rig.test.state.attempt_of(job).expect("placed").token.0;
    assert_eq!(rig.started(1), [token]);

    // The machine is another one before the worker has answered.
    rig.now = 2_000;
    rig.register("b");
    rig.open(2, "b");
    while rig.now < 1_000 + LEADER_LEASE_MS {
        rig.beat(2, &[]);
        assert_eq!(rig.given_up(), [0_u64; 0], "at {}", rig.now);
        rig.now += 400;
    }
    rig.now = 1_001 + LEADER_LEASE_MS;
    rig.beat(2, &[]);

    assert_eq!(rig.closed, [1]);
    assert_eq!(rig.given_up(), [token]);
    // The next attempt is its own.
    let next = rig.test.state.attempt_of(job).expect("placed again").token.0;
    assert_eq!(rig.started(2), [next]);
}

#[test]
fn a_registration_that_comes_late_costs_the_living_incarnation_a_stream_and_nothing_else() {
    let mut rig = Rig::new();
    rig.register("b");
    rig.open(2, "b");
    rig.test.submit(&TestJob::new().task(&[]));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.beat(2, &[]);
    let token = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed").token.0;
    rig.beat(2, &[token]);

    // What the dead incarnation had sent arrives, and so does its stream.
    rig.register("a");
    rig.open(3, "a");
    rig.register("b");
    // A stream of the dead one that takes even longer displaces nobody.
    rig.open(5, "b");
    rig.open(4, "a");
    for _ in 0..20 {
        rig.now += 2_000;
        rig.beat(5, &[token]);
    }

    assert_eq!(rig.closed, [2, 3, 4]);
    assert_eq!(rig.given_up(), [0_u64; 0]);
    assert_eq!(rig.test.state.attempt_of(at(1, 0, 0)).map(|a| a.token), Some(Token(token)));
    assert!(matches!(rig.told.last(), Some((5, Instruction::Renewed { .. }))));
}

/// A member that lives takes all its sessions to the next leader, in any order: one that is half open may come last.
#[test]
fn a_worker_is_told_things_where_it_was_heard_last() {
    let mut rig = Rig::new();
    rig.open(2, "a");
    rig.open(1, "a");
    rig.beat(2, &[]);
    rig.test.submit(&TestJob::new().task(&[]));
    rig.leader.step(0, Input::Elected { term: 2, state: Box::new(rig.test.state.full_delta()) });
    rig.beat(2, &[]);
    let token = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed").token.0;
    assert_eq!((rig.started(1), rig.started(2)), (vec![], vec![token]));

    rig.step(Input::SessionClosed { session: SessionId(1) });
    rig.now = 2_000;
    rig.beat(2, &[]);
    assert_eq!(rig.started(2), [token, token]);
    assert_eq!(rig.closed, [0_u64; 0]);
}

#[test]
fn a_silent_worker_is_lost_when_its_lease_is_over_and_not_before() {
    let mut rig = Rig::new();
    rig.open(1, "a");
    rig.now = 700;
    rig.beat(1, &[]);
    let lost = |rig: &Rig| rig.proposed.iter().any(|c| matches!(c, Command::LoseWorker { .. }));
    while rig.now < 700 + LEADER_LEASE_MS {
        rig.settle();
        assert!(!lost(&rig), "at {}", rig.now);
        rig.now += 100;
    }
    rig.now = 701 + LEADER_LEASE_MS;
    rig.settle();
    assert!(lost(&rig));
}

#[test]
fn a_worker_that_comes_back_has_a_lease_before_its_first_heartbeat() {
    let mut rig = Rig::new();
    rig.now = LEADER_LEASE_MS + 1;
    rig.settle();
    let lost = |rig: &Rig| rig.proposed.iter().filter(|c| matches!(c, Command::LoseWorker { .. })).count();
    assert_eq!(lost(&rig), 1);

    for incarnation in ["a", "b"] {
        rig.now += 3_600_000;
        rig.register(incarnation);
        rig.now += LEADER_LEASE_MS;
        rig.settle();
        assert_eq!(lost(&rig), 1, "{incarnation}");
        rig.open(1, incarnation);
        rig.beat(1, &[]);
    }
}

/// A heartbeat that comes while the loss is on its way would start or renew something that outlives its grant by a lease. Found by the
/// lease model (plant `renews-lost`).
#[test]
fn a_worker_whose_loss_is_on_its_way_is_renewed_by_nobody() {
    let mut rig = Rig::new();
    rig.open(1, "a");
    rig.beat(1, &[]);
    rig.test.submit(&TestJob::new().task(&[]));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.beat(1, &[]);
    let first = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed").token.0;
    rig.told.clear();

    // It is silent for a lease; the proposal is made and not applied yet.
    rig.now = 1 + LEADER_LEASE_MS;
    let outputs = rig.leader.step(rig.now, Input::Tick);
    let proposed = |o: &Output| match o {
        Output::Propose { id, commands } if matches!(commands[..], [Command::LoseWorker { .. }]) => Some(*id),
        _ => None,
    };
    let id = outputs.iter().find_map(proposed).expect("given up");
    // Now it is heard again: it is not renewed, and what was granted to it is not started.
    rig.beat(1, &[]);
    assert!(rig.told.is_empty(), "{:?}", rig.told);

    rig.apply(Command::LoseWorker { worker: WorkerId(1), incarnation: Incarnation("a".into()) });
    rig.step(Input::Proposed { id, replies: Some(Vec::new()) });
    rig.beat(1, &[]);

    assert_eq!(rig.closed, [1]);
    assert_eq!(rig.started(1), [0_u64; 0]);
    assert_ne!(rig.test.state.attempt_of(at(1, 0, 0)).map(|a| a.token.0), Some(first));
}

#[test]
fn a_loss_whose_fate_is_unknown_is_proposed_again_and_the_worker_waits_for_it() {
    let mut rig = Rig::new();
    rig.open(1, "a");
    rig.beat(1, &[]);
    rig.now = 1 + LEADER_LEASE_MS;
    let outputs = rig.leader.step(rig.now, Input::Tick);
    let Some(Output::Propose { id, .. }) = outputs.first() else { panic!("{outputs:?}") };
    rig.leader.step(rig.now, Input::Proposed { id: *id, replies: None });
    rig.told.clear();
    rig.beat(1, &[]);
    assert!(rig.told.is_empty(), "{:?}", rig.told);

    rig.now += 1 + LEADER_LEASE_MS;
    rig.settle();

    assert!(rig.proposed.iter().any(|c| matches!(c, Command::LoseWorker { .. })));
}

/// A confirmation of an earlier term says nothing about this one.
#[test]
fn an_answer_that_comes_a_term_late_confirms_nothing() {
    let mut rig = Rig::new();
    rig.open(1, "a");
    rig.leader.step(0, Input::Heartbeat { session: SessionId(1), seq: 1, held: Vec::new() });
    let asked = rig.leader.step(0, Input::Tick);
    let Some(Output::Confirm { batch }) = asked.first() else { panic!("{asked:?}") };

    rig.leader.step(0, Input::Deposed);
    rig.leader.step(0, Input::Elected { term: 3, state: Box::new(rig.test.state.full_delta()) });
    rig.open(2, "a");
    rig.leader.step(0, Input::Heartbeat { session: SessionId(2), seq: 2, held: Vec::new() });
    rig.leader.step(0, Input::Tick);
    rig.leader.step(0, Input::Confirmed { batch: *batch, ok: true });
    let outputs = rig.leader.step(0, Input::Tick);

    assert!(!outputs.iter().any(|o| matches!(o, Output::Instruct { .. })), "{outputs:?}");
}

/// Nothing of a refused proposal is in the log: its workers live on, and what they said runs is said to the log again.
#[test]
fn what_a_refused_proposal_held_is_as_it_was() {
    let mut rig = Rig::new();
    rig.open(1, "a");
    rig.beat(1, &[]);
    rig.test.submit(&TestJob::new().task(&[]));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.beat(1, &[]);
    let token = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed").token;
    let report = Report { token, rank: 0, at: at(1, 0, 0), kind: ReportKind::Running };
    rig.leader.step(0, Input::Reports { session: SessionId(1), reports: vec![report.clone()] });
    let refuse = |rig: &mut Rig| {
        let outputs = rig.leader.step(rig.now, Input::Tick);
        let Some(Output::Propose { id, commands }) = outputs.first().cloned() else { panic!("{outputs:?}") };
        rig.leader.step(rig.now, Input::Refused { id });
        commands
    };
    assert!(
        matches!(&refuse(&mut rig)[..], [Command::Reports { reports, .. }] if *reports == [report.clone()])
    );
    rig.now = 1 + LEADER_LEASE_MS;
    let again = refuse(&mut rig);
    assert!(
        matches!(&again[..], [Command::LoseWorker { .. }, Command::Reports { reports, .. }] if *reports == [report])
    );
    rig.told.clear();

    rig.beat(1, &[token.0]);

    assert!(matches!(rig.told.first(), Some((1, Instruction::Renewed { .. }))), "{:?}", rig.told);
    assert!(!rig.proposed.iter().any(|command| matches!(command, Command::LoseWorker { .. })));
}

/// The loss of one incarnation is on its way; the one that took its place lives, and apply will refuse the loss.
#[test]
fn an_incarnation_is_renewed_while_the_loss_of_the_one_before_is_on_its_way() {
    let mut rig = Rig::new();
    rig.register("a");
    rig.open(1, "a");
    rig.beat(1, &[]);
    rig.now = 1 + LEADER_LEASE_MS;
    let outputs = rig.leader.step(rig.now, Input::Tick);
    let Some(Output::Propose { id, commands }) = outputs.first().cloned() else { panic!("{outputs:?}") };
    assert!(matches!(commands[..], [Command::LoseWorker { .. }]), "{commands:?}");
    rig.leader.step(rig.now, Input::Proposed { id, replies: None });
    let renewed = |rig: &Rig, session: u64| {
        rig.told.iter().any(|(to, i)| *to == session && matches!(i, Instruction::Renewed { .. }))
    };
    rig.told.clear();

    rig.register("b");
    rig.open(2, "b");
    rig.beat(2, &[]);
    assert!(renewed(&rig, 2), "{:?}", rig.told);

    // Should the old one be registered again, its loss may still come.
    rig.register("a");
    rig.open(3, "a");
    rig.beat(3, &[]);
    assert!(!renewed(&rig, 3), "{:?}", rig.told);
}
