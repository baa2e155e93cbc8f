//! What a leader tells the workers of a gang.

use super::instruction::Instruction;
use super::leader_test::Rig;
use super::{Input, SessionId};
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::{Cause, Outcome};
use crate::model::ids::Token;
use crate::model::lease::LEADER_LEASE_MS;
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, at, worker_spec};

/// Workers 1 and 2, heard through streams 1 and 2, and a gang of two that is placed on them; its token.
fn gang() -> (Rig, u64) {
    let mut rig = Rig::new();
    let incarnation = Incarnation("a".to_owned());
    rig.apply(Command::Register { spec: Box::new(worker_spec("w2", 8, 0)), incarnation, held: Vec::new() });
    let job = rig.test.submit(&TestJob::new().task(&[]).workers(2, 2));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.open_of(1, 1, "a");
    rig.open_of(2, 2, "a");
    rig.beat(1, &[]);
    assert_eq!(rig.test.state.attempt_of(at(job, 0, 0)), None, "one worker is not enough");
    rig.beat(2, &[]);
    let token = rig.test.state.attempt_of(at(job, 0, 0)).expect("placed").token.0;
    (rig, token)
}

fn report(rig: &mut Rig, session: u64, token: u64, kind: ReportKind) {
    let rank = session as u32 - 1;
    let report = Report { token: Token(token), rank, at: at(1, 0, 0), kind };
    rig.step(Input::Reports { session: SessionId(session), reports: vec![report] });
}

fn ended(outcome: Outcome) -> ReportKind {
    ReportKind::Ended { outcome, artifacts: Vec::new(), ran_ms: 1 }
}

/// What a stream was told of attempts since the last look.
fn told(rig: &mut Rig) -> Vec<(u64, String)> {
    let all = std::mem::take(&mut rig.told).into_iter().filter_map(|(session, instruction)| {
        let text = match instruction {
            Instruction::Start(order) => {
                let gang = order.launch.gang.expect("a gang");
                format!("start rank {} of {} on {}", order.rank, gang.hosts.len(), gang.port > 0)
            }
            Instruction::Stop { signal, grace_ms, .. } => format!("stop {signal} {grace_ms}"),
            Instruction::Checkpoint { .. } | Instruction::NoticeHeard | Instruction::Notice(_) => {
                "other".to_owned()
            }
            Instruction::Kill { .. } => "kill".to_owned(),
            Instruction::Settled { .. } => "settled".to_owned(),
            Instruction::Renewed { .. }
            | Instruction::Heard { .. }
            | Instruction::EventsSettled { .. }
            | Instruction::Probe { .. }
            | Instruction::Drill(_) => return None,
        };
        Some((session, text))
    });
    all.collect()
}

fn lines(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(session, text)| (*session, (*text).to_owned())).collect()
}

#[test]
fn each_worker_starts_its_rank_and_a_rank_that_fails_stops_the_others_at_once() {
    let (mut rig, token) = gang();
    assert_eq!(told(&mut rig), lines(&[(1, "start rank 0 of 2 on true"), (2, "start rank 1 of 2 on true")]));
    report(&mut rig, 1, token, ReportKind::Running);
    report(&mut rig, 2, token, ReportKind::Running);
    assert_eq!(told(&mut rig), [], "what runs is not told again");

    report(&mut rig, 2, token, ended(Outcome::Exit(4)));
    assert_eq!(told(&mut rig), lines(&[(1, "stop 15 3000"), (2, "settled")]));
    rig.beat(2, &[]);
    assert_eq!(told(&mut rig), [], "its rank is over");
    rig.beat(2, &[token]);
    assert_eq!(told(&mut rig), lines(&[(2, "kill")]), "a rank that is over is not held any more");

    report(&mut rig, 1, token, ended(Outcome::Signal(15)));
    assert_eq!(told(&mut rig), lines(&[(1, "settled")]));
    let job = rig.test.state.job(crate::model::ids::JobId(1)).expect("there");
    assert_eq!(job.first_failure, Some(Cause::Exit(4)));
}

#[test]
fn a_lost_worker_stops_the_others_and_nothing_is_granted_before_they_are_gone() {
    let (mut rig, token) = gang();
    report(&mut rig, 1, token, ReportKind::Running);
    report(&mut rig, 2, token, ReportKind::Running);
    told(&mut rig);
    let mut stops = 0;
    while rig.now < LEADER_LEASE_MS + 5_000 {
        rig.now += 500;
        rig.beat(2, &[token]);
        let said: Vec<_> = told(&mut rig).into_iter().filter(|(session, _)| *session == 2).collect();
        assert!(said.iter().all(|(_, text)| text == "stop 15 3000"), "{said:?} at {}", rig.now);
        stops += said.len();
        assert_eq!(rig.test.state.attempt_of(at(1, 0, 0)).map(|a| a.token.0), Some(token), "at {}", rig.now);
    }
    assert!(stops > 0);
    report(&mut rig, 2, token, ended(Outcome::Signal(15)));
    assert_eq!(rig.test.state.attempt_of(at(1, 0, 0)), None, "it waits for a second worker");
    rig.apply(Command::Register {
        spec: Box::new(worker_spec("w1", 8, 0)),
        incarnation: Incarnation("a".to_owned()),
        held: Vec::new(),
    });
    rig.open_of(1, 3, "a");
    rig.beat(3, &[]);
    rig.beat(2, &[]);
    let again = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed again");
    assert!(again.token.0 > token);
}
