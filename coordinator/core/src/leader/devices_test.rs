//! What becomes of the events of devices between a worker and the log.

use super::instruction::Instruction;
use super::{Input, Leader, Output, SessionId};
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::Outcome;
use crate::model::device_event::{DeviceEvent, DeviceEventKind};
use crate::model::ids::{Token, WorkerId};
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState, at};

const SESSION: SessionId = SessionId(1);

/// A leader that hears worker 1 through a session, with one heartbeat acknowledged at 10 ms.
fn leading(test: &TestState, held: &[u64]) -> Leader {
    let mut leader = Leader::new();
    leader.step(0, Input::Elected { term: 1, state: Box::new(test.state.full_delta()) });
    let incarnation = Incarnation("a".to_owned());
    leader.step(
        0,
        Input::SessionOpened { session: SESSION, worker: WorkerId(1), incarnation, held: Vec::new() },
    );
    beat(&mut leader, 10, held);
    leader
}

/// A heartbeat that a quorum confirms; what the worker is told for it.
fn beat(leader: &mut Leader, now: u64, held: &[u64]) -> Vec<Instruction> {
    let held = held.iter().map(|t| Token(*t)).collect();
    leader.step(now, Input::Heartbeat { session: SESSION, seq: now, held });
    let batch = leader.step(now, Input::Tick).into_iter().find_map(|o| match o {
        Output::Confirm { batch } => Some(batch),
        _ => None,
    });
    leader.step(now, Input::Confirmed { batch: batch.expect("asks a quorum"), ok: true });
    told(&leader.step(now, Input::Tick))
}

fn told(outputs: &[Output]) -> Vec<Instruction> {
    let instructions = outputs.iter().filter_map(|o| match o {
        Output::Instruct { instructions, .. } => Some(instructions.clone()),
        _ => None,
    });
    instructions.flatten().collect()
}

fn event(seq: u64, kind: DeviceEventKind) -> Input {
    let uuid = "w1-0".to_owned();
    let events = vec![DeviceEvent { seq, uuid, kind, at: 0, detail: String::new() }];
    Input::DeviceEvents { session: SESSION, events }
}

/// Applies what the leader proposes now, and tells it; what was proposed.
fn commit(test: &mut TestState, leader: &mut Leader, now: u64) -> Vec<Command> {
    let mut all = Vec::new();
    for output in leader.step(now, Input::Tick) {
        let Output::Propose { id, commands } = output else { continue };
        for command in &commands {
            let applied = test.apply(command.clone());
            leader.step(now, Input::Delta(Box::new(test.state.delta(&applied.changes))));
        }
        leader.step(now, Input::Proposed { id, replies: Some(Vec::new()) });
        all.extend(commands);
    }
    all
}

#[test]
fn a_fault_is_written_before_the_end_that_it_caused_and_settled_once_it_is() {
    let mut test = TestState::with_worker(1);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    let token = test.place(at(job, 0, 0), &[0]).expect("placed");
    let mut leader = leading(&test, &[token]);

    let kind = ReportKind::Ended { outcome: Outcome::Exit(1), artifacts: Vec::new(), ran_ms: 5 };
    let report = Report { token: Token(token), rank: 0, at: at(job, 0, 0), kind };
    leader.step(20, Input::Reports { session: SESSION, reports: vec![report] });
    leader.step(20, event(5, DeviceEventKind::Xid(79)));
    let proposed = commit(&mut test, &mut leader, 20);

    assert!(matches!(proposed[..2], [Command::DeviceEvents { .. }, Command::Reports { .. }]), "{proposed:?}");
    let memory = test.state.job(at(job, 0, 0).job).and_then(|j| j.task(at(job, 0, 0).task).indices.memory(0));
    assert_eq!(memory.and_then(|m| m.cause.clone()).map(|c| c.to_string()).as_deref(), Some("device(79)"));
    assert!(told(&leader.step(21, Input::Tick)).contains(&Instruction::EventsSettled { seq: 5 }));

    // Said again, it is only settled again.
    leader.step(30, event(5, DeviceEventKind::Xid(79)));
    let outputs = leader.step(30, Input::Tick);
    assert!(told(&outputs).contains(&Instruction::EventsSettled { seq: 5 }));
    let again = |o: &Output| matches!(o, Output::Propose { commands, .. } if commands.iter().any(|c| matches!(c, Command::DeviceEvents { .. })));
    assert!(!outputs.iter().any(again), "{outputs:?}");
}

#[test]
fn a_worker_is_asked_to_look_again_at_what_a_look_may_return() {
    let mut test = TestState::with_worker(1);
    let mut leader = leading(&test, &[]);
    leader.step(20, event(1, DeviceEventKind::Thermal));
    commit(&mut test, &mut leader, 20);
    let asked = |told: &[Instruction]| told.contains(&Instruction::Probe { uuids: vec!["w1-0".to_owned()] });
    for (now, expected) in [(10_000, false), (20_000, false), (30_100, true), (33_000, false)] {
        assert_eq!(asked(&beat(&mut leader, now, &[])), expected, "at {now}");
    }

    test.tick = 33_000;
    leader.step(33_000, event(2, DeviceEventKind::Recovered));
    commit(&mut test, &mut leader, 33_000);
    assert!(!test.state.is_quarantined("w1-0"));
    for tick in [40_000, 50_000] {
        assert!(!asked(&beat(&mut leader, tick, &[])), "at {tick}");
    }
}

#[test]
fn a_drill_reaches_the_worker_that_has_the_device_and_nobody_else() {
    let test = TestState::with_worker(1);
    let mut leader = leading(&test, &[]);
    let kind = DeviceEventKind::Xid(79);
    let event = DeviceEvent { seq: 0, uuid: "w1-0".to_owned(), kind, at: 7, detail: "drill".to_owned() };
    let drill = |worker| Input::Drill { worker: WorkerId(worker), event: event.clone() };
    leader.step(20, drill(2));
    assert_eq!(told(&leader.step(20, Input::Tick)), [], "worker 2 is not connected");
    leader.step(21, drill(1));
    assert_eq!(told(&leader.step(21, Input::Tick)), [Instruction::Drill(event.clone())]);
}
