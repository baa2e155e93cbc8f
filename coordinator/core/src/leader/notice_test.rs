//! Notices, from the leader's side: who is told what, and by when.

use super::instruction::Instruction;
use super::leader_test::Rig;
use super::{Input, SessionId};
use crate::command::{Command, Report, ReportKind};
use crate::model::attempt::StopReason;
use crate::model::ids::{IndexRef, Token, WorkerId};
use crate::model::notice::{Notice, NoticeKind, NoticeSource};
use crate::model::worker::{Incarnation, WorkerState};
use crate::state::test_state::{TestJob, at};

fn notice(source: NoticeSource, kind: NoticeKind, in_ms: Option<u64>) -> Notice {
    Notice { source, kind, in_ms, detail: String::new(), drill: false }
}

/// An attempt that runs on worker 1, whose stream is 1.
fn running() -> (Rig, u64, IndexRef) {
    let mut rig = Rig::new();
    rig.open_of(1, 1, "a");
    rig.beat(1, &[]);
    let request = rig.test.request();
    rig.apply(Command::Submit {
        request,
        spec: TestJob::new().task(&[]).bytes(),
        parts: 0,
        forecast_micro_usd: None,
    });
    let index = at(1, 0, 0);
    let token = rig.test.state.attempt_of(index).expect("placed").token.0;
    let report = Report { token: Token(token), rank: 0, at: index, kind: ReportKind::Running };
    rig.step(Input::Reports { session: SessionId(1), reports: vec![report] });
    rig.told.clear();
    (rig, token, index)
}

fn says(rig: &mut Rig, notice: Notice) {
    rig.step(Input::Notice { session: SessionId(1), notice });
}

/// What worker 1 was told but for renewals.
fn told(rig: &mut Rig) -> Vec<Instruction> {
    let told = std::mem::take(&mut rig.told).into_iter().map(|(_, instruction)| instruction);
    told.filter(|i| !matches!(i, Instruction::Renewed { .. } | Instruction::Heard { .. })).collect()
}

fn stop(token: u64, within_ms: Option<u64>) -> Instruction {
    Instruction::Stop { token: Token(token), signal: 15, grace_ms: 10_000, within_ms }
}

#[test]
fn what_a_worker_says_goes_into_the_log_once_and_is_answered() {
    let (mut rig, token, _) = running();
    let preemption = |in_ms| notice(NoticeSource::Aws, NoticeKind::Preemption, Some(in_ms));
    says(&mut rig, preemption(30_000));
    assert_eq!(told(&mut rig), [stop(token, Some(30_000))]);
    assert_eq!(rig.test.state.worker(WorkerId(1)).map(|w| w.state), Some(WorkerState::Draining));
    // It has heard nothing and says it again, with what is left.
    rig.now = 2_000;
    let before = rig.test.index;
    says(&mut rig, preemption(27_900));
    assert_eq!((told(&mut rig), rig.test.index), (vec![Instruction::NoticeHeard], before));
    rig.now = 4_000;
    rig.beat(1, &[token]);
    assert_eq!(told(&mut rig), [stop(token, Some(26_000))], "the order is repeated with what is left too");
    // Sooner is news.
    says(&mut rig, preemption(5_000));
    assert!(rig.test.index > before);
    says(&mut rig, notice(NoticeSource::Aws, NoticeKind::Withdrawn, None));
    assert_eq!(rig.test.state.worker(WorkerId(1)).map(|w| w.notice.is_some()), Some(false));
    told(&mut rig);
    says(&mut rig, notice(NoticeSource::Aws, NoticeKind::Withdrawn, None));
    assert_eq!(told(&mut rig), [Instruction::NoticeHeard]);
}

#[test]
fn what_an_operator_says_is_told_before_the_orders_and_again_to_a_new_stream() {
    let (mut rig, token, _) = running();
    let said = notice(NoticeSource::Operator, NoticeKind::Preemption, Some(30_000));
    let request = Some(rig.test.request());
    let (worker, incarnation) = (WorkerId(1), None);
    rig.apply(Command::Notice { request, worker, incarnation, notice: said.clone() });
    assert_eq!(told(&mut rig), [Instruction::Notice(said.clone()), stop(token, Some(30_000))]);
    rig.now = 10_000;
    rig.step(Input::SessionClosed { session: SessionId(1) });
    rig.open_of(1, 2, "a");
    rig.beat(2, &[token]);
    let left = Notice { in_ms: Some(20_000), ..said };
    assert_eq!(told(&mut rig), [Instruction::Notice(left), stop(token, Some(20_000))]);
    let request = Some(rig.test.request());
    let withdrawn = notice(NoticeSource::Operator, NoticeKind::Withdrawn, None);
    rig.apply(Command::Notice { request, worker: WorkerId(1), incarnation: None, notice: withdrawn.clone() });
    assert_eq!(told(&mut rig), [Instruction::Notice(withdrawn)]);
}

#[test]
fn the_notice_of_another_incarnation_is_not_heard() {
    let (mut rig, _, _) = running();
    rig.open_of(1, 7, "z");
    let before = rig.test.index;
    rig.step(Input::Notice {
        session: SessionId(7),
        notice: notice(NoticeSource::Aws, NoticeKind::Preemption, None),
    });
    assert_eq!(rig.test.index, before);
}

#[test]
fn a_drain_is_over_by_its_deadline() {
    let (mut rig, token, _) = running();
    let request = rig.test.request();
    let (worker, reason) = (WorkerId(1), "kernel".to_owned());
    rig.apply(Command::Drain { request, worker, deadline_ms: Some(60_000), reason });
    let stopped = |rig: &Rig| rig.test.state.attempt(Token(token)).and_then(|a| a.stop);
    // 10 s of grace, 2 s to SIGKILL, 1 s for the messages.
    for ms in (0..=46_000).step_by(1_000) {
        (rig.now, rig.test.tick) = (ms, ms);
        rig.beat(1, &[token]);
    }
    assert_eq!(stopped(&rig), None);
    (rig.now, rig.test.tick) = (47_000, 47_000);
    rig.beat(1, &[token]);
    assert_eq!(stopped(&rig), Some(StopReason::Drain));
    assert_eq!(told(&mut rig).last(), Some(&stop(token, Some(13_000))));
}

#[test]
fn all_ranks_of_a_gang_hear_the_first_deadline() {
    let mut rig = Rig::new();
    rig.test.register("w2", 0, "a", &[]);
    let job = rig.test.submit(&TestJob::new().task(&[]).workers(2, 2));
    let token = rig.test.gang(at(job, 0, 0), &[1, 2]).expect("placed");
    rig.step(Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    for worker in [1, 2] {
        rig.open_of(worker, worker, "a");
        rig.beat(worker, &[token]);
    }
    rig.told.clear();
    let incarnation = Some(Incarnation("a".to_owned()));
    let notice = notice(NoticeSource::Gcp, NoticeKind::Preemption, Some(30_000));
    rig.apply(Command::Notice { request: None, worker: WorkerId(2), incarnation, notice });
    let stops = rig.told.iter().filter(|(_, i)| *i == stop(token, Some(30_000))).map(|(to, _)| *to);
    assert_eq!(stops.collect::<Vec<_>>(), [1, 2]);
}
