//! From measurements to the account: what nothing computed on is held empty.

use super::{Input, Leader, Output, SessionId};
use crate::command::{Command, Report, ReportKind};
use crate::ledger::Class;
use crate::model::ids::{Token, WorkerId};
use crate::model::time::{Stamp, Tick, Wall};
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState, at, worker_spec};

/// A leader that hears the one worker, of two GPUs that are real or not, both of which a running attempt has.
fn leading(simulated: bool) -> (TestState, Leader, u64) {
    let mut test = TestState::new();
    let mut spec = worker_spec("w1", 8, 2);
    spec.devices.iter_mut().for_each(|device| device.simulated = simulated);
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::Register {
        spec: Box::new(spec),
        incarnation: incarnation.clone(),
        held: Vec::new(),
    });
    test.submit(&TestJob::new().task(&[]).gpus(2));
    let token = test.place(at(1, 0, 0), &[0, 1]).expect("placed");
    test.report(1, Report { token: Token(token), rank: 0, at: at(1, 0, 0), kind: ReportKind::Running });
    let mut leader = Leader::new();
    leader.step(0, Input::Elected { term: 1, state: Box::new(test.state.full_delta()) });
    let session = SessionId(1);
    leader.step(0, Input::SessionOpened { session, worker: WorkerId(1), incarnation, held: Vec::new() });
    leader.step(0, Input::Tick);
    (test, leader, token)
}

/// The worker measured at a moment that the log's tick is too.
fn measured(leader: &mut Leader, now: u64, empty: &[&str]) {
    let empty = empty.iter().map(|uuid| (*uuid).to_owned()).collect();
    leader.step(now, Input::Measured { worker: WorkerId(1), computing: Vec::new(), empty });
}

/// What the leader proposes then of empty devices, applied.
fn claimed(test: &mut TestState, leader: &mut Leader, now: u64) -> bool {
    let session = SessionId(1);
    leader.step(now, Input::Heartbeat { session, seq: now, held: Vec::new() });
    let outputs = leader.step(now, Input::Tick);
    let commands = outputs.into_iter().filter_map(|output| match output {
        Output::Propose { commands, .. } => Some(commands),
        _ => None,
    });
    let claim = commands.flatten().find(|command| matches!(command, Command::HeldEmpty { .. }));
    test.tick = now;
    claim.is_some_and(|claim| {
        test.apply(claim);
        true
    })
}

fn held_empty(test: &TestState) -> u128 {
    let now = Stamp { wall: Wall(0), tick: Tick(test.tick) };
    test.state.classes_at(now).of(Class::HeldEmpty).time / 1_000
}

#[test]
fn what_two_measurements_agree_on_is_held_empty() {
    let (mut test, mut leader, _) = leading(false);
    measured(&mut leader, 5_000, &["w1-0", "w1-1"]);
    measured(&mut leader, 10_000, &["w1-0", "w1-1"]);
    measured(&mut leader, 15_000, &["w1-1"]);
    measured(&mut leader, 20_000, &[]);
    measured(&mut leader, 25_000, &["w1-1"]);
    // Two of them for 5 s, one for 5 s more; what was seen once counts for nothing.
    assert!(claimed(&mut test, &mut leader, 61_000));
    assert_eq!(held_empty(&test), 2 * 5_000 + 5_000);
    // A minute later nothing more is known: the gap was too long.
    measured(&mut leader, 70_000, &["w1-1"]);
    assert!(!claimed(&mut test, &mut leader, 122_000));
    measured(&mut leader, 150_000, &["w1-1"]);
    measured(&mut leader, 155_000, &["w1-1"]);
    assert!(claimed(&mut test, &mut leader, 183_000));
    assert_eq!(held_empty(&test), 20_000);
}

#[test]
fn simulated_devices_are_never_empty() {
    let (mut test, mut leader, _) = leading(true);
    measured(&mut leader, 5_000, &["w1-0", "w1-1"]);
    measured(&mut leader, 10_000, &["w1-0", "w1-1"]);
    assert!(!claimed(&mut test, &mut leader, 61_000));
}

#[test]
fn a_claim_of_an_attempt_that_is_over_changes_nothing() {
    let (mut test, mut leader, token) = leading(false);
    measured(&mut leader, 5_000, &["w1-0"]);
    measured(&mut leader, 10_000, &["w1-0"]);
    test.tick = 20_000;
    test.end(token, at(1, 0, 0), crate::model::attempt::Outcome::Exit(0));
    claimed(&mut test, &mut leader, 61_000);
    assert_eq!(held_empty(&test), 0);
}
