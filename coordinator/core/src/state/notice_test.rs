//! Machines that go: what is known of them, what is stopped, what comes back.

use super::test_state::{TestJob, TestState, at};
use crate::command::Command;
use crate::event::Event;
use crate::model::attempt::{AttemptState, Cause, Outcome, StopReason};
use crate::model::ids::{Token, WorkerId};
use crate::model::job::IndexState::{Live, Pending};
use crate::model::notice::NoticeKind::{Advice, Preemption, Withdrawn};
use crate::model::notice::{Notice, NoticeKind, NoticeSource};
use crate::model::time::Tick;
use crate::model::worker::{Incarnation, WorkerState};
use crate::reply::{Rejection, Reply};

fn notice(source: NoticeSource, kind: NoticeKind, in_ms: Option<u64>) -> Notice {
    Notice { source, kind, in_ms, detail: String::new(), drill: false }
}

/// Worker 1 says so of itself.
fn says(test: &mut TestState, kind: NoticeKind, in_ms: Option<u64>) -> Reply {
    let notice = notice(NoticeSource::Aws, kind, in_ms);
    let incarnation = Some(Incarnation("a".to_owned()));
    test.apply(Command::Notice { request: None, worker: WorkerId(1), incarnation, notice }).reply
}

/// An operator says so of worker 1.
fn operator(test: &mut TestState, kind: NoticeKind, in_ms: Option<u64>, drill: bool) -> Reply {
    let notice = Notice { drill, ..notice(NoticeSource::Operator, kind, in_ms) };
    let request = Some(test.request());
    test.apply(Command::Notice { request, worker: WorkerId(1), incarnation: None, notice }).reply
}

/// State, deadline, whether it is an exercise; of worker 1.
fn known(test: &TestState) -> (WorkerState, Option<(NoticeKind, Option<Tick>, bool)>) {
    let worker = test.state.worker(WorkerId(1)).expect("there");
    let notice = worker.notice.as_ref().map(|n| (n.notice.kind, n.deadline, n.notice.drill));
    (worker.state, notice)
}

fn changed(indices: u64) -> Reply {
    Reply::Changed { indices }
}

#[test]
fn a_preemption_stops_what_runs_at_once_and_nothing_comes_any_more() {
    let mut test = TestState::with_worker(2);
    test.tick = 100;
    let job = test.submit(&TestJob::new().task(&[]).gpus(1).array(3, None).retry(1, 0));
    let first = test.place(at(job, 0, 0), &[0]).expect("placed");
    assert_eq!(says(&mut test, Preemption, Some(30_000)), changed(1));
    assert_eq!(known(&test), (WorkerState::Draining, Some((Preemption, Some(Tick(30_100)), false))));
    let attempt = test.state.attempt(Token(first)).expect("lives");
    assert_eq!((attempt.state, attempt.stop), (AttemptState::Stopping, Some(StopReason::Notice)));
    assert_eq!(test.place(at(job, 0, 1), &[1]), None);
    assert_eq!(test.index_state(at(job, 0, 0)), Live, "its process may live: nothing is granted twice");
    // Whatever its end, it is no failure, and it waits at once.
    assert_eq!(test.end(first, at(job, 0, 0), Outcome::Signal(9)), Some(Cause::Evicted(StopReason::Notice)));
    assert_eq!(test.index_state(at(job, 0, 0)), Pending);
    assert_eq!(known(&test).0, WorkerState::Drained);
}

#[test]
fn what_succeeds_in_its_grace_has_succeeded_and_what_the_worker_evicted_by_itself_did_not_fail() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(2, None));
    let first = test.place(at(job, 0, 0), &[]).expect("placed");
    let second = test.place(at(job, 0, 1), &[]).expect("placed");
    // It told its worker's agent before it told us.
    let cause = test.end(second, at(job, 0, 1), Outcome::Evicted);
    assert_eq!(cause, Some(Cause::Evicted(StopReason::Notice)));
    says(&mut test, Preemption, None);
    assert_eq!(test.end(first, at(job, 0, 0), Outcome::Exit(0)), Some(Cause::Exit(0)));
}

#[test]
fn a_deadline_only_comes_nearer() {
    let mut test = TestState::with_worker(0);
    let steps: [(NoticeKind, Option<u64>, Option<u64>); 6] = [
        (Advice, None, None),
        (Preemption, None, None),
        (Preemption, Some(60_000), Some(60_000)),
        (Preemption, Some(90_000), Some(60_000)),
        (Preemption, Some(5_000), Some(5_000)),
        (Advice, Some(1_000), Some(5_000)),
    ];
    for (kind, in_ms, deadline) in steps {
        says(&mut test, kind, in_ms);
        let known = known(&test).1.expect("under one");
        assert_eq!(known.1, deadline.map(Tick), "after {kind:?} {in_ms:?}");
    }
    assert_eq!(known(&test).1.map(|k| k.0), Some(Preemption));
}

#[test]
fn advice_lets_what_runs_go_on() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(2, None));
    let token = test.place(at(job, 0, 0), &[]).expect("placed");
    assert_eq!(says(&mut test, Advice, None), changed(0));
    assert_eq!(test.state.attempt(Token(token)).and_then(|a| a.stop), None);
    assert_eq!((known(&test).0, test.place(at(job, 0, 1), &[])), (WorkerState::Draining, None));
    assert_eq!(says(&mut test, Preemption, Some(10)), changed(1));
}

#[test]
fn withdrawn_it_is_ready_again_unless_an_operator_drains_it() {
    let mut test = TestState::with_worker(0);
    says(&mut test, Preemption, Some(10));
    says(&mut test, Withdrawn, None);
    assert_eq!(known(&test), (WorkerState::Ready, None));
    let request = test.request();
    test.apply(Command::Drain { request, worker: WorkerId(1), deadline_ms: None, reason: "x".to_owned() });
    says(&mut test, Preemption, Some(10));
    says(&mut test, Withdrawn, None);
    assert_eq!(known(&test), (WorkerState::Drained, None));
    // And the other way round: an undrain takes back no notice.
    says(&mut test, Preemption, Some(10));
    let request = test.request();
    test.apply(Command::Undrain { request, worker: WorkerId(1) });
    assert_eq!(known(&test).0, WorkerState::Drained);
    says(&mut test, Withdrawn, None);
    assert_eq!(known(&test).0, WorkerState::Ready);
}

#[test]
fn a_worker_takes_back_only_what_the_same_source_said_and_a_person_anything() {
    let mut test = TestState::with_worker(0);
    operator(&mut test, Preemption, Some(10), false);
    assert_eq!(says(&mut test, Withdrawn, None), changed(0));
    assert_eq!(known(&test).0, WorkerState::Drained);
    operator(&mut test, Withdrawn, None, false);
    assert_eq!(known(&test), (WorkerState::Ready, None));
    says(&mut test, Preemption, Some(10));
    operator(&mut test, Withdrawn, None, false);
    assert_eq!(known(&test), (WorkerState::Ready, None));
}

#[test]
fn an_exercise_is_marked_until_it_is_none_and_costs_the_pool_nothing() {
    let mut test = TestState::with_worker(0);
    test.tick = 1_000;
    operator(&mut test, Preemption, Some(9_000), true);
    assert_eq!(known(&test).1, Some((Preemption, Some(Tick(10_000)), true)));
    assert_eq!(test.state.pools()["default"].losses_milli, 0);
    says(&mut test, Preemption, Some(60_000));
    assert_eq!(known(&test).1, Some((Preemption, Some(Tick(10_000)), false)));
    assert_eq!(test.state.pools()["default"].losses_milli, 1_000);
    operator(&mut test, Preemption, Some(60_000), true);
    assert_eq!(known(&test).1, Some((Preemption, Some(Tick(10_000)), false)));
}

#[test]
fn another_incarnation_is_another_machine() {
    let mut test = TestState::with_worker(0);
    says(&mut test, Preemption, Some(10));
    test.register("w1", 0, "a", &[]);
    assert_eq!(known(&test).0, WorkerState::Drained, "the same machine registers again");
    test.lose("a");
    test.register("w1", 0, "b", &[]);
    assert_eq!(known(&test), (WorkerState::Ready, None));
    let got = "a".to_owned();
    assert_eq!(says(&mut test, Preemption, Some(10)), Reply::Rejected(Rejection::OldIncarnation { got }));
    assert_eq!(known(&test), (WorkerState::Ready, None));
}

#[test]
fn what_a_machine_took_with_it_is_lost() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    test.place(at(job, 0, 0), &[]).expect("placed");
    says(&mut test, Preemption, Some(10));
    let incarnation = Incarnation("a".to_owned());
    let applied = test.apply(Command::LoseWorker { worker: WorkerId(1), incarnation });
    let lost = |e: &Event| matches!(e, Event::AttemptEnded { cause: Cause::Lost, .. });
    assert!(applied.events.iter().any(lost), "{:?}", applied.events);
    assert_eq!(test.index_state(at(job, 0, 0)), Pending);
}

#[test]
fn a_gang_stops_as_one() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    let job = test.submit(&TestJob::new().task(&[]).workers(2, 2));
    let token = test.gang(at(job, 0, 0), &[2, 1]).expect("placed");
    assert_eq!(says(&mut test, Preemption, Some(10)), changed(1));
    assert_eq!(test.state.attempt(Token(token)).and_then(|a| a.stop), Some(StopReason::Notice));
    assert_eq!(test.state.worker(WorkerId(2)).map(|w| w.state), Some(WorkerState::Ready));
    assert_eq!(test.end_rank(2, token, 0, at(job, 0, 0), Outcome::Signal(15)), None);
    let cause = test.end_rank(1, token, 1, at(job, 0, 0), Outcome::Exit(0));
    assert_eq!(cause, Some(Cause::Evicted(StopReason::Notice)));
}

#[test]
fn the_same_call_twice_is_one() {
    let mut test = TestState::with_worker(0);
    let request = Some(test.request());
    let notice = notice(NoticeSource::Operator, Preemption, Some(10));
    let command = Command::Notice { request, worker: WorkerId(1), incarnation: None, notice };
    test.apply(command.clone());
    operator(&mut test, Withdrawn, None, false);
    let again = test.apply(command);
    assert_eq!((again.reply, again.events), (changed(0), vec![]));
    assert_eq!(known(&test), (WorkerState::Ready, None));
}

#[test]
fn losses_of_a_pool_are_counted_once() {
    let mut test = TestState::with_worker(0);
    let losses = |test: &TestState| {
        let pool = &test.state.pools()["default"];
        (pool.losses_milli / 1_000, pool.present)
    };
    assert_eq!(losses(&test), (0, 1));
    says(&mut test, Preemption, Some(10));
    test.lose("a");
    test.lose("a");
    assert_eq!(losses(&test), (1, 0), "announced, then gone");
    test.register("w1", 0, "b", &[]);
    test.register("w1", 0, "c", &[]);
    assert_eq!(losses(&test), (2, 1), "back as another before its lease was over");
    let request = test.request();
    test.apply(Command::Drain { request, worker: WorkerId(1), deadline_ms: None, reason: "x".to_owned() });
    test.lose("c");
    assert_eq!(losses(&test), (2, 0), "emptied and switched off");
}
