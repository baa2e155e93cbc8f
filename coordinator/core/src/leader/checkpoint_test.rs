//! What a leader answers to those who have stored a checkpoint, and where it lets the next attempt begin.

use super::instruction::{Instruction, ResumeOrder};
use super::leader_test::Rig;
use super::{Input, Output, SessionId};
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::Outcome;
use crate::model::checkpoint::{Saved, Verdict};
use crate::model::ids::Token;
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, at, stored, worker_spec};

/// Worker 1, heard through stream 1, and the token of the task that it runs.
fn one() -> (Rig, u64) {
    let mut rig = Rig::new();
    rig.test.submit(&TestJob::new().task(&[]).keep(2));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.open_of(1, 1, "a");
    rig.beat(1, &[]);
    let token = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed").token.0;
    let running = report(token, 0, ReportKind::Running);
    rig.step(Input::Reports { session: SessionId(1), reports: vec![running] });
    rig.told.clear();
    (rig, token)
}

fn report(token: u64, rank: u32, kind: ReportKind) -> Report {
    Report { token: Token(token), rank, at: at(1, 0, 0), kind }
}

fn save(rig: &mut Rig, session: u64, token: u64, rank: u32, saved: Saved) {
    let reports = vec![report(token, rank, ReportKind::Saved(saved))];
    rig.step(Input::Reports { session: SessionId(session), reports });
}

/// What streams were told since the last look: of checkpoints, and by name of other things.
fn told(rig: &mut Rig) -> Vec<(u64, String)> {
    let say = |(session, instruction)| {
        let text = match instruction {
            Instruction::Checkpoint { step, verdict: Verdict::Committed { kept }, .. } => {
                format!("{step} committed, {} kept", kept.len())
            }
            Instruction::Checkpoint { step, verdict: Verdict::Waits, .. } => format!("{step} waits"),
            Instruction::Checkpoint { step, verdict: Verdict::Refused(why), .. } => format!("{step} {why}"),
            Instruction::Renewed { .. } | Instruction::Heard { .. } => return None,
            other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
        };
        Some((session, text))
    };
    std::mem::take(&mut rig.told).into_iter().filter_map(say).collect()
}

fn lines(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(session, text)| (*session, (*text).to_owned())).collect()
}

#[test]
fn a_commit_is_answered_once_it_is_in_the_log_and_again_when_asked_again() {
    let (mut rig, token) = one();
    save(&mut rig, 1, token, 0, stored(10, 1));
    assert_eq!(told(&mut rig), lines(&[(1, "10 committed, 1 kept")]), "once, and nothing else is told");
    let entries = rig.test.index;
    save(&mut rig, 1, token, 0, stored(10, 1));
    save(&mut rig, 1, token, 0, stored(7, 2));
    let refused = "7 step 7 is not after step 10, which is committed: steps only grow";
    assert_eq!(told(&mut rig), lines(&[(1, "10 committed, 1 kept"), (1, refused)]));
    assert_eq!(rig.test.index, entries, "the log is not asked what the view knows");

    // A new leader answers the same.
    rig.leader.step(0, Input::Elected { term: 2, state: Box::new(rig.test.state.full_delta()) });
    save(&mut rig, 1, token, 0, stored(10, 1));
    assert_eq!(told(&mut rig), lines(&[(1, "10 committed, 1 kept")]));
}

#[test]
fn one_that_is_on_its_way_is_not_proposed_twice_and_one_that_was_lost_is() {
    let (mut rig, token) = one();
    let say = |rig: &mut Rig| {
        let reports = vec![report(token, 0, ReportKind::Saved(stored(10, 1)))];
        rig.leader.step(rig.now, Input::Reports { session: SessionId(1), reports });
        rig.leader.step(rig.now, Input::Tick)
    };
    let outputs = say(&mut rig);
    let [Output::Propose { id, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(say(&mut rig), []);
    rig.leader.step(rig.now, Input::Proposed { id: *id, replies: None });
    let outputs = say(&mut rig);
    let [Output::Propose { id, commands }] = &outputs[..] else { panic!("{outputs:?}") };
    rig.apply(commands[0].clone());
    assert_eq!(told(&mut rig), lines(&[(1, "10 committed, 1 kept")]));
    rig.step(Input::Proposed { id: *id, replies: Some(Vec::new()) });
    assert_eq!(told(&mut rig), []);
}

#[test]
fn a_token_that_is_over_is_told_so() {
    let (mut rig, token) = one();
    save(&mut rig, 1, token + 9, 0, stored(10, 1));
    let said = told(&mut rig);
    assert!(said[0].1.starts_with("10 the attempt of token"), "{said:?}");
    assert_eq!(said[1..], lines(&[(1, "Kill")]));
}

#[test]
fn the_next_attempt_is_ordered_to_begin_from_the_newest() {
    let (mut rig, token) = one();
    save(&mut rig, 1, token, 0, stored(10, 1));
    save(&mut rig, 1, token, 0, stored(20, 2));
    let ended = ReportKind::Ended { outcome: Outcome::Fenced, artifacts: Vec::new(), ran_ms: 1 };
    rig.told.clear();
    rig.step(Input::Reports { session: SessionId(1), reports: vec![report(token, 0, ended)] });
    rig.beat(1, &[]);
    let orders: Vec<Option<ResumeOrder>> = std::mem::take(&mut rig.told)
        .into_iter()
        .filter_map(|(_, instruction)| match instruction {
            Instruction::Start(order) => Some(order.launch.resume),
            _ => None,
        })
        .collect();
    let newest = ResumeOrder { step: 20, token: Token(token), rank: 0, part: stored(20, 2).part };
    assert!(!orders.is_empty());
    assert!(orders.iter().all(|order| *order == Some(newest.clone())), "{orders:?}");
}

#[test]
fn of_a_gang_each_rank_waits_for_the_others_and_hears_of_the_commit() {
    let mut rig = Rig::new();
    let incarnation = Incarnation("a".to_owned());
    rig.apply(Command::Register { spec: Box::new(worker_spec("w2", 8, 0)), incarnation, held: Vec::new() });
    rig.test.submit(&TestJob::new().task(&[]).workers(2, 2));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    for worker in [1, 2] {
        rig.open_of(worker, worker, "a");
        rig.beat(worker, &[]);
    }
    let token = rig.test.state.attempt_of(at(1, 0, 0)).expect("placed").token.0;
    rig.told.clear();
    // The other rank may be fetching what they begin from.
    save(&mut rig, 1, token, 0, Saved { single: true, ..stored(5, 1) });
    assert_eq!(told(&mut rig), lines(&[(1, "5 waits")]));
    for (session, rank) in [(1, 0), (2, 1)] {
        let reports = vec![report(token, rank, ReportKind::Running)];
        rig.step(Input::Reports { session: SessionId(session), reports });
    }
    told(&mut rig);

    save(&mut rig, 2, token, 1, stored(10, 1));
    assert_eq!(told(&mut rig), lines(&[(2, "10 waits")]));
    save(&mut rig, 1, token, 0, stored(10, 2));
    assert_eq!(told(&mut rig), lines(&[(1, "10 committed, 1 kept"), (2, "10 committed, 1 kept")]));
}
