//! A timeout is asked for until the state has it.

use super::{Input, Leader, Output};
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::StopReason;
use crate::model::ids::{Token, WorkerId};
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState, at};

/// A tick: the proposal that asks attempts to stop, and the attempts.
fn stops(leader: &mut Leader, now: u64) -> Option<(u64, Vec<Token>)> {
    leader.step(now, Input::Tick).into_iter().find_map(|output| {
        let Output::Propose { id, commands } = output else { return None };
        commands.into_iter().find_map(|command| match command {
            Command::Stop { tokens, reason: StopReason::Timeout } => Some((id, tokens)),
            _ => None,
        })
    })
}

#[test]
fn a_timeout_is_asked_for_again_when_the_proposal_was_lost() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).timeout(1_000));
    let token = Token(test.place(at(job, 0, 0), &[]).expect("placed"));
    test.apply(Command::Reports {
        worker: WorkerId(1),
        incarnation: Incarnation("a".to_owned()),
        reports: vec![Report { token, rank: 0, at: at(job, 0, 0), kind: ReportKind::Running }],
    });
    let mut leader = Leader::new();
    leader.step(0, Input::Elected { term: 1, state: Box::new(test.state.full_delta()) });

    assert_eq!(stops(&mut leader, 999), None);
    let (id, tokens) = stops(&mut leader, 1_000).expect("its time is up");
    assert_eq!(tokens, [token]);
    leader.step(1_001, Input::Proposed { id, replies: None });
    assert_eq!(stops(&mut leader, 1_100), None);
    assert_eq!(stops(&mut leader, 3_000).expect("again").1, [token]);

    let stopped = test.apply(Command::Stop { tokens, reason: StopReason::Timeout });
    leader.step(3_001, Input::Delta(Box::new(test.state.delta(&stopped.changes))));
    assert_eq!(stops(&mut leader, 9_000), None);
}
