//! From measurements to the account: what nothing computed on is held empty.

use super::{Input, Leader, Output, SessionId};
use crate::command::{Command, Report, ReportKind};
use crate::ledger::Class;
use crate::model::attempt::Outcome;
use crate::model::idle::{IdleAction, IdlePolicy};
use crate::model::ids::{Token, WorkerId};
use crate::model::time::{Stamp, Tick, Wall};
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState, at, worker_spec};

/// A leader that hears the one worker, of two GPUs that are real or not, both of which a running attempt has.
fn leading(simulated: bool) -> (TestState, Leader, u64) {
    leading_by(simulated, None)
}

fn leading_by(simulated: bool, idle: Option<IdlePolicy>) -> (TestState, Leader, u64) {
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
    let mut leader = Leader::new().with_idle(idle);
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
    test.end(token, at(1, 0, 0), Outcome::Exit(0));
    claimed(&mut test, &mut leader, 61_000);
    assert_eq!(held_empty(&test), 0);
}

/// Both devices compute nothing until a moment; what the leader then finds idle.
fn idle_until(leader: &mut Leader, from: u64, to: u64) -> Option<Command> {
    let mut found = None;
    for now in (from..=to).step_by(5_000) {
        let session = SessionId(1);
        leader.step(now, Input::Heartbeat { session, seq: now, held: Vec::new() });
        measured(leader, now, &["w1-0", "w1-1"]);
        let commands = leader.step(now, Input::Tick).into_iter().filter_map(|output| match output {
            Output::Propose { commands, .. } => Some(commands),
            _ => None,
        });
        found = commands.flatten().find(|c| matches!(c, Command::IdleAttempts { .. })).or(found);
    }
    found
}

#[test]
fn an_attempt_that_computes_nothing_for_long_falls_under_the_rule() {
    for (action, cause) in [
        (IdleAction::Requeue, Some("evicted(idle)")),
        (IdleAction::Kill, Some("timeout(idle)")),
        (IdleAction::Warn, None),
    ] {
        let (mut test, mut leader, token) = leading_by(false, Some(IdlePolicy { after_ms: 600_000, action }));
        assert_eq!(idle_until(&mut leader, 5_000, 590_000), None);
        let found = idle_until(&mut leader, 595_000, 700_000).expect("idle for ten minutes");
        assert_eq!(found, Command::IdleAttempts { tokens: vec![Token(token)], action, after_ms: 600_000 });
        test.tick = 700_000;
        test.apply(found);
        assert!(test.state.ledger().idle(Token(token)).is_some());
        let stopped = test.state.attempt(Token(token)).is_some_and(|attempt| attempt.stop.is_some());
        assert_eq!(stopped, cause.is_some());
        if let Some(cause) = cause {
            let ended = test.end(token, at(1, 0, 0), Outcome::Signal(15));
            assert_eq!(ended.map(|ended| ended.to_string()).as_deref(), Some(cause));
        } else {
            assert_eq!(idle_until(&mut leader, 705_000, 900_000), None, "it is said once");
        }
    }
}

#[test]
fn one_measurement_of_work_begins_the_time_anew() {
    let rule = IdlePolicy { after_ms: 600_000, action: IdleAction::Requeue };
    let (_, mut leader, _) = leading_by(false, Some(rule));
    idle_until(&mut leader, 5_000, 500_000);
    measured(&mut leader, 505_000, &["w1-0"]);
    assert_eq!(idle_until(&mut leader, 510_000, 1_105_000), None);
    assert!(idle_until(&mut leader, 1_110_000, 1_200_000).is_some());
}
