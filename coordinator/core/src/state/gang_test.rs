//! Gangs and shares of devices: what is granted, and how the ends of ranks make the end of an attempt.

use super::test_state::{TestJob, TestState, at};
use crate::command::{Command, Placement, Report, ReportKind, Target};
use crate::model::attempt::{AttemptState, Cause, Outcome, RankState, StopReason};
use crate::model::ids::{IndexRef, JobId, Token, WorkerId};
use crate::model::job::IndexState::{Cancelled, Failed, Live, Pending, Succeeded};
use crate::model::placement::{Seat, Share};
use crate::model::resources::GpuAmount;
use crate::model::worker::{Incarnation, WorkerState};

/// Three workers of 8 CPUs, and a job whose only task is a gang of `min` to `max`.
fn gang_of(min: u32, max: u32) -> (TestState, IndexRef) {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    test.register("w3", 0, "a", &[]);
    let job = test.submit(&TestJob::new().task(&[]).workers(min, max).retry(2, 0));
    (test, at(job, 0, 0))
}

fn lose(test: &mut TestState, worker: u64) {
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::LoseWorker { worker: WorkerId(worker), incarnation });
}

fn runs(test: &mut TestState, worker: u64, token: u64, rank: u32, at: IndexRef) {
    test.report(worker, Report { token: Token(token), rank, at, kind: ReportKind::Running });
}

#[test]
fn a_gang_is_granted_whole_or_not_at_all() {
    let (mut test, index) = gang_of(2, 2);
    let other = test.submit(&TestJob::new().task(&[]).cpus(8_000));
    test.place_on(3, at(other, 0, 0), &[]).expect("placed");
    for (why, workers) in [
        ("one is full", &[1, 3][..]),
        ("twice the same", &[1, 1]),
        ("too few", &[1]),
        ("too many", &[1, 2, 3]),
        ("nobody", &[]),
    ] {
        assert_eq!(test.gang(index, workers), None, "{why}");
        assert_eq!(test.state.used(WorkerId(1)), super::Used::default(), "{why}");
    }
    let seats = [1, 2].map(|w| Seat::whole(WorkerId(w), &[])).to_vec();
    assert_eq!(test.grant(Placement { at: index, seats, port: 80 }), None, "no port of gangs");
    let token = test.gang(index, &[2, 1]).expect("placed");
    let attempt = test.state.attempt(Token(token)).expect("lives");
    assert_eq!(
        attempt.seats.iter().map(|s| s.worker.0).collect::<Vec<_>>(),
        [2, 1],
        "ranks keep their order"
    );
    assert_eq!((attempt.first_worker(), attempt.seat_on(WorkerId(1)).map(|s| s.0)), (WorkerId(2), Some(1)));
    assert_eq!([1, 2].map(|w| test.state.used(WorkerId(w)).cpu_milli), [1_000, 1_000]);
}

#[test]
fn two_gangs_of_a_worker_do_not_meet_on_one_port() {
    let (mut test, first) = gang_of(2, 2);
    let second = at(test.submit(&TestJob::new().task(&[]).workers(2, 2)), 0, 0);
    let token = test.gang(first, &[1, 2]).expect("placed");
    assert_eq!(test.gang(second, &[1, 3]), None);
    assert!(test.gang(second, &[2, 1]).is_some(), "another worker's port is another port");
    assert_eq!(test.state.attempt(Token(token)).map(|a| a.port), Some(20_000));
}

#[test]
fn it_runs_when_all_its_ranks_run_and_succeeds_when_all_have() {
    let (mut test, index) = gang_of(1, 3);
    let token = test.gang(index, &[1, 2]).expect("placed");
    runs(&mut test, 1, token, 0, index);
    let state = |test: &TestState| test.state.attempt(Token(token)).map(|a| (a.state, a.started.is_some()));
    assert_eq!(state(&test), Some((AttemptState::Starting, false)));
    runs(&mut test, 2, token, 1, index);
    assert_eq!(state(&test), Some((AttemptState::Running, true)));
    assert_eq!(test.end_rank(1, token, 1, index, Outcome::Exit(0)), None, "another worker's rank");
    assert_eq!(test.end_rank(1, token, 0, index, Outcome::Exit(0)), None);
    assert_eq!(test.end_rank(1, token, 0, index, Outcome::Exit(0)), None, "once is enough");
    assert_eq!(test.index_state(index), Live);
    assert_eq!(test.end_rank(2, token, 1, index, Outcome::Exit(0)), Some(Cause::Exit(0)));
    assert_eq!(test.index_state(index), Succeeded);
    assert!([1, 2].iter().all(|w| test.state.tokens_of(WorkerId(*w)).is_empty()));
}

#[test]
fn the_first_rank_that_fails_gives_the_cause_and_stops_the_others() {
    let (mut test, index) = gang_of(3, 3);
    let token = test.gang(index, &[1, 2, 3]).expect("placed");
    assert_eq!(test.end_rank(2, token, 1, index, Outcome::Exit(7)), None);
    let attempt = test.state.attempt(Token(token)).expect("lives");
    assert_eq!((attempt.state, attempt.stop), (AttemptState::Stopping, None));
    assert_eq!(attempt.ranks, [RankState::Starting, RankState::Ended, RankState::Starting]);
    assert_eq!(test.gang(index, &[1, 2, 3]), None, "nothing of it is granted again while a rank may live");
    assert_eq!(test.end_rank(1, token, 0, index, Outcome::Signal(15)), None);
    assert_eq!(test.end_rank(3, token, 2, index, Outcome::Exit(0)), Some(Cause::Exit(7)));
    assert_eq!(test.index_state(index), Pending);
    let again = test.gang(index, &[1, 2, 3]).expect("its second attempt");
    for (worker, rank) in [(1, 0), (2, 1), (3, 2)] {
        test.end_rank(worker, again, rank, index, Outcome::Oom);
    }
    assert_eq!(test.index_state(index), Failed);
}

#[test]
fn a_lost_worker_ends_the_gang_only_when_the_others_have_ended() {
    let (mut test, index) = gang_of(2, 2);
    let token = test.gang(index, &[1, 2]).expect("placed");
    lose(&mut test, 1);
    assert_eq!(test.index_state(index), Live);
    assert_eq!(test.gang(index, &[2, 3]), None);
    let attempt = test.state.attempt(Token(token)).expect("lives");
    assert_eq!((attempt.state, &attempt.failed), (AttemptState::Stopping, &Some(Cause::Lost)));
    assert_eq!(test.end_rank(2, token, 1, index, Outcome::Signal(15)), Some(Cause::Lost));
    assert_eq!(test.index_state(index), Pending);
    assert!(test.gang(index, &[2, 3]).is_some());
}

#[test]
fn peers_that_fail_because_a_machine_died_are_not_charged() {
    let (mut test, index) = gang_of(2, 2);
    let token = test.gang(index, &[1, 2]).expect("placed");
    runs(&mut test, 1, token, 0, index);
    runs(&mut test, 2, token, 1, index);
    assert_eq!(test.end_rank(2, token, 1, index, Outcome::Exit(1)), None);
    lose(&mut test, 1);
    assert_eq!(test.state.attempt(Token(token)), None);
    let memory = |test: &TestState| {
        test.state.job(JobId(index.job.0)).and_then(|j| j.task(index.task).indices.memory(0).cloned())
    };
    let charged = memory(&test).expect("it has failed");
    assert_eq!((charged.charged, charged.lost, charged.cause), (0, 1, Some(Cause::Lost)));
}

#[test]
fn a_cancel_and_a_drain_speak_to_all_ranks() {
    let (mut test, index) = gang_of(2, 2);
    let token = test.gang(index, &[1, 2]).expect("placed");
    let request = test.request();
    test.apply(Command::Drain { request, worker: WorkerId(1), deadline_ms: None, reason: "x".to_owned() });
    test.apply(Command::Stop { tokens: vec![Token(token)], reason: StopReason::Drain });
    test.end_rank(1, token, 0, index, Outcome::Exit(3));
    assert_eq!(test.state.worker(WorkerId(1)).map(|w| w.state), Some(WorkerState::Draining));
    let cause = test.end_rank(2, token, 1, index, Outcome::Signal(15));
    assert_eq!(cause, Some(Cause::Evicted(StopReason::Drain)));
    assert_eq!(test.state.worker(WorkerId(1)).map(|w| w.state), Some(WorkerState::Drained));

    let token = test.gang(index, &[2, 3]).expect("placed");
    let request = test.request();
    test.apply(Command::Cancel { request, target: Target { job: index.job, task: None, index: None } });
    test.end_rank(2, token, 0, index, Outcome::Exit(0));
    assert_eq!(test.end_rank(3, token, 1, index, Outcome::Exit(0)), Some(Cause::Cancelled));
    assert_eq!(test.index_state(index), Cancelled);
}

#[test]
fn parts_of_a_device_are_granted_up_to_all_of_it() {
    let mut test = TestState::with_worker(1);
    let half = TestJob::new().task(&[]).amount(GpuAmount::Fraction(400)).array(4, None);
    let job = test.submit(&half);
    let share = |milli, memory| Share { device: 0, milli, memory };
    let mut grant = |index, share| {
        let seat = Seat { worker: WorkerId(1), devices: vec![share] };
        test.grant(Placement::single(at(job, 0, index), seat))
    };
    assert_eq!(grant(0, share(300, 0)), None, "not what it asked for");
    assert_eq!(grant(0, share(400, 81 << 30)), None, "more memory than there is");
    let token = grant(0, share(400, 0)).expect("placed");
    assert!(grant(1, share(400, 32 << 30)).is_some());
    assert_eq!(grant(2, share(400, 1)), None, "1200 thousandths");
    let used = test.state.used(WorkerId(1)).device(0);
    assert_eq!((used.milli, used.memory), (800, 64 << 30), "its part of the memory is said in bytes");
    assert_eq!(test.end(token, at(job, 0, 0), Outcome::Exit(0)), Some(Cause::Exit(0)));
    assert_eq!(test.state.used(WorkerId(1)).device(0).milli, 400);
}
