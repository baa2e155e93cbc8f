//! What commands do to the state, one promise a test. Every command is followed by `State::check`: the rows say the same.

use super::test_state::{TestJob, TestState, at, whole};
use super::{Key, State};
use crate::command::{Command, Report, ReportKind, Target};
use crate::model::attempt::{Cause, Outcome, StopReason};
use crate::model::ids::{JobId, TaskNo, Token, WorkerId};
use crate::model::job::IndexState::{Cancelled, Failed, Held, Live, Pending, Skipped, Succeeded};
use crate::model::job_spec::TriggerRule;
use crate::model::worker::Incarnation;
use crate::reply::{Rejection, Reply};

#[test]
fn the_same_request_id_gives_the_same_job_and_another_payload_is_refused() {
    let mut test = TestState::new();
    let request = test.request();
    let submit = |job: &TestJob| Command::Submit {
        request: request.clone(),
        spec: job.bytes(),
        parts: 0,
        forecast_micro_usd: None,
    };
    let one = TestJob::new().task(&[]);

    let first = test.apply(submit(&one)).reply;
    let again = test.apply(submit(&one)).reply;
    let other = test.apply(submit(&one.task(&[]))).reply;

    assert_eq!(first, Reply::Submitted { job: JobId(1), tasks: 1, indices: 1 });
    assert_eq!(again, first);
    assert_eq!(other, Reply::Rejected(Rejection::RequestIdReused { id: request.id }));
    assert_eq!(test.state.jobs().count(), 1);
}

#[test]
fn a_stale_token_changes_nothing_and_is_settled() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    let old = test.place(at(job, 0, 0), &[]).unwrap();
    test.lose("a");
    test.register("w1", 0, "b", &[]);
    let new = test.place(at(job, 0, 0), &[]).unwrap();
    let before = test.state.clone();

    assert_eq!(test.end(old, at(job, 0, 0), Outcome::Exit(0)), None);

    assert!(new > old);
    assert_eq!(test.state, before);
}

#[test]
fn a_cancel_that_was_acknowledged_first_wins_over_the_result() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    let token = test.place(at(job, 0, 0), &[]).unwrap();
    let request = test.request();
    let reply = test.apply(Command::Cancel { request, target: whole(job) }).reply;

    let cause = test.end(token, at(job, 0, 0), Outcome::Exit(0));

    assert_eq!(reply, Reply::Changed { indices: 1 });
    assert_eq!(cause, Some(Cause::Cancelled));
    assert_eq!(test.job_state(job), "cancelled");
}

#[test]
fn a_cancelled_index_whose_worker_comes_back_as_another_stays_cancelled() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    test.place(at(job, 0, 0), &[]).unwrap();
    let request = test.request();
    let target = Target { task: Some(TaskNo(0)), ..whole(job) };
    test.apply(Command::Cancel { request, target });

    test.register("w1", 0, "b", &[]);
    test.lose("b");

    assert_eq!(test.index_state(at(job, 0, 0)), Cancelled);
}

#[test]
fn a_failure_is_tried_again_after_its_wait_until_its_attempts_are_used_up() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).retry(2, 1_000));
    let index = at(job, 0, 0);

    assert_eq!(test.run(index, Outcome::Exit(3)), Some(Cause::Exit(3)));
    assert_eq!(test.index_state(index), Pending);
    test.tick = 999;
    assert_eq!(test.place(index, &[]), None, "it waits");
    test.tick = 1_000;
    assert_eq!(test.run(index, Outcome::Signal(11)), Some(Cause::Signal(11)));

    assert_eq!(test.index_state(index), Failed);
    assert_eq!(test.state.job(JobId(job)).unwrap().exit_code(), Some(128 + 11));
}

#[test]
fn what_is_not_the_tasks_fault_is_not_charged() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    let index = at(job, 0, 0);
    for reason in [StopReason::Drain, StopReason::Drain, StopReason::Drain] {
        let token = test.place(index, &[]).unwrap();
        test.apply(Command::Stop { tokens: vec![Token(token)], reason });
        assert_eq!(test.end(token, index, Outcome::Signal(15)), Some(Cause::Evicted(reason)));
    }
    test.run(index, Outcome::Exit(0));
    assert_eq!(test.job_state(job), "succeeded");
}

#[test]
fn a_success_wins_over_a_timeout() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    let token = test.place(at(job, 0, 0), &[]).unwrap();
    test.apply(Command::Stop { tokens: vec![Token(token)], reason: StopReason::Timeout });
    assert_eq!(test.end(token, at(job, 0, 0), Outcome::Exit(0)), Some(Cause::Exit(0)));
}

#[test]
fn three_launches_in_vain_fail_the_index() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    for n in 1..=3 {
        test.tick += 10_000;
        assert_eq!(test.index_state(at(job, 0, 0)), Pending, "before launch {n}");
        test.run(at(job, 0, 0), Outcome::Launch("no such program".to_owned()));
    }
    assert_eq!(test.index_state(at(job, 0, 0)), Failed);
}

#[test]
fn three_workers_lost_in_a_row_hold_the_index_until_it_is_released() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    for (old, new) in [("a", "b"), ("b", "c"), ("c", "d")] {
        assert_eq!(test.index_state(at(job, 0, 0)), Pending);
        test.place(at(job, 0, 0), &[]).unwrap();
        test.lose(old);
        test.register("w1", 0, new, &[]);
    }
    assert_eq!(test.index_state(at(job, 0, 0)), Held);
    assert_eq!(test.job_state(job), "held");

    let request = test.request();
    let reply = test.apply(Command::Release { request, target: whole(job) }).reply;

    assert_eq!(reply, Reply::Changed { indices: 1 });
    assert!(test.place(at(job, 0, 0), &[]).is_some());
}

/// A restarted member reads the rows that changed, so every change has to be named.
#[test]
fn the_reason_why_an_index_of_an_array_is_held_is_a_change_of_its_tasks_row() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(2, None));
    for _ in 0..2 {
        test.place(at(job, 0, 0), &[]).unwrap();
        test.lose("a");
        test.register("w1", 0, "a", &[]);
    }
    test.place(at(job, 0, 0), &[]).unwrap();

    let lost = Command::LoseWorker { worker: WorkerId(1), incarnation: Incarnation("a".to_owned()) };
    let applied = test.apply(lost);

    assert!(test.state.job(JobId(job)).unwrap().task(TaskNo(0)).reason.is_some());
    assert!(applied.changes.keys.contains(&Key::Task(JobId(job), TaskNo(0))));
}

#[test]
fn a_registration_of_another_incarnation_ends_nothing_and_marks_what_is_not_its_own() {
    let mut test = TestState::with_worker(2);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1).array(2, None));
    let old = test.place(at(job, 0, 0), &[1]).unwrap();

    // The machine comes back smaller, then a registration of before its reboot is committed after all.
    test.register("w1", 1, "b", &[]);
    let new = test.place(at(job, 0, 1), &[0]).unwrap();
    let worker = test.state.worker(WorkerId(1)).unwrap().clone();
    test.register("w1", 2, "a", &[old]);

    // The second device is not there any more, and keeps its number while the old attempt may hold it.
    let absent: Vec<bool> = worker.spec.devices.iter().map(|device| device.absent).collect();
    assert_eq!((worker.former, absent), (Token(old), vec![false, true]));
    assert_eq!(test.state.worker(WorkerId(1)).unwrap().former, Token(new));
    assert_eq!([0, 1].map(|i| test.index_state(at(job, 0, i))), [Live, Live]);
}

#[test]
fn a_lost_worker_gives_its_attempts_back_and_an_old_incarnation_is_not_heard() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]));
    test.place(at(job, 0, 0), &[]).unwrap();
    let lose =
        |name: &str| Command::LoseWorker { worker: WorkerId(1), incarnation: Incarnation(name.to_owned()) };

    let refused = test.apply(lose("older")).reply;
    assert_eq!(test.index_state(at(job, 0, 0)), Live);
    test.apply(lose("a"));

    assert_eq!(refused, Reply::Rejected(Rejection::OldIncarnation { got: "older".to_owned() }));
    assert_eq!(test.index_state(at(job, 0, 0)), Pending);
    assert_eq!(test.place(at(job, 0, 0), &[]), None, "nothing is placed on a lost worker");
}

#[test]
fn an_array_never_runs_more_than_it_may_at_once() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(5, Some(2)));
    let first = test.place(at(job, 0, 0), &[]).unwrap();
    test.place(at(job, 0, 1), &[]).unwrap();
    assert_eq!(test.place(at(job, 0, 2), &[]), None);
    test.end(first, at(job, 0, 0), Outcome::Exit(0));
    assert!(test.place(at(job, 0, 2), &[]).is_some());
}

#[test]
fn a_gpu_is_never_granted_twice() {
    let mut test = TestState::with_worker(2);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1).array(3, None));
    let token = test.place(at(job, 0, 0), &[1]).unwrap();
    assert_eq!(test.place(at(job, 0, 1), &[1]), None, "taken");
    assert_eq!(test.place(at(job, 0, 1), &[2]), None, "not there");
    assert_eq!(test.place(at(job, 0, 1), &[0, 1]), None, "more than asked");
    assert!(test.place(at(job, 0, 1), &[0]).is_some());
    test.end(token, at(job, 0, 0), Outcome::Exit(0));
    assert!(test.place(at(job, 0, 2), &[1]).is_some());
}

#[test]
fn a_rerun_runs_what_failed_and_counts_the_parents_anew() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).task(&[]).task(&[0, 1]));
    test.run(at(job, 0, 0), Outcome::Exit(0));
    test.run(at(job, 1, 0), Outcome::Exit(1));
    assert_eq!(test.index_state(at(job, 2, 0)), Skipped);
    assert_eq!(test.job_state(job), "failed");

    let request = test.request();
    let reply = test.apply(Command::Rerun { request, target: whole(job) }).reply;
    assert_eq!(reply, Reply::Changed { indices: 2 });
    assert_eq!(test.place(at(job, 0, 0), &[]), None, "what succeeded stays");
    assert_eq!(test.place(at(job, 2, 0), &[]), None, "its parent has not run yet");
    test.run(at(job, 1, 0), Outcome::Exit(0));
    test.run(at(job, 2, 0), Outcome::Exit(0));

    assert_eq!(test.job_state(job), "succeeded");
}

#[test]
fn an_attempt_that_outlives_the_rerun_of_its_parent_does_not_leave_its_task_waiting() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).task(&[0]).rule(TriggerRule::OneFailed).retry(5, 1));
    test.run(at(job, 0, 0), Outcome::Exit(1));
    let child = test.place(at(job, 1, 0), &[]).unwrap();
    let request = test.request();
    test.apply(Command::Rerun { request, target: whole(job) });
    // Now the parent succeeds: nothing is left for the child, which still runs, and then fails.
    test.run(at(job, 0, 0), Outcome::Exit(0));
    test.end(child, at(job, 1, 0), Outcome::Exit(1));

    assert_eq!(test.index_state(at(job, 1, 0)), Skipped);
    assert_eq!(test.job_state(job), "succeeded");
}

/// Some indices succeeded under the first verdict, the rest was skipped under the second: no success for children that ask for one (I5),
/// and no failure for those that ask for none.
#[test]
fn a_task_that_is_partly_succeeded_and_partly_skipped_is_skipped() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(
        &TestJob::new()
            .task(&[])
            .task(&[0])
            .rule(TriggerRule::OneFailed)
            .array(2, None)
            .task(&[1])
            .task(&[1])
            .rule(TriggerRule::NoneFailed)
            .task(&[1])
            .rule(TriggerRule::OneSuccess),
    );
    let rerun = |test: &mut TestState, target| {
        let request = test.request();
        test.apply(Command::Rerun { request, target })
    };
    test.run(at(job, 0, 0), Outcome::Exit(1));
    test.run(at(job, 1, 0), Outcome::Exit(0));
    test.run(at(job, 1, 1), Outcome::Exit(1));
    rerun(&mut test, whole(job));
    // The parent succeeds now, and what is left of the task that waited for its failure never runs.
    test.run(at(job, 0, 0), Outcome::Exit(0));

    assert_eq!([0, 1].map(|i| test.index_state(at(job, 1, i))), [Succeeded, Skipped]);
    assert_eq!(test.state.job(JobId(job)).unwrap().task_state(TaskNo(1)), "skipped");
    assert_eq!(test.index_state(at(job, 2, 0)), Skipped, "all_success");
    assert_eq!(test.index_state(at(job, 4, 0)), Skipped, "one_success");
    test.run(at(job, 3, 0), Outcome::Exit(0));
    assert_eq!(test.job_state(job), "succeeded");
}

#[test]
fn a_condition_that_turned_false_while_an_index_still_ran_is_asked_again_when_that_index_waits_again() {
    let mut test = TestState::with_worker(0);
    let child =
        TestJob::new().task(&[]).task(&[0]).rule(TriggerRule::OneFailed).retry(5, 0).array(2, None).when("w");
    let job = test.submit(&child);
    let resolve = |test: &mut TestState, run| {
        let reason = String::new();
        test.apply(Command::ResolveWhen { job: JobId(job), task: TaskNo(1), run, reason });
    };
    test.run(at(job, 0, 0), Outcome::Exit(1));
    resolve(&mut test, true);
    let token = test.place(at(job, 1, 0), &[]).unwrap();
    let request = test.request();
    test.apply(Command::Rerun { request, target: whole(job) });
    test.run(at(job, 0, 0), Outcome::Exit(1));
    resolve(&mut test, false);
    assert_eq!([0, 1].map(|i| test.index_state(at(job, 1, i))), [Live, Skipped]);

    // The leader evaluates what it is told to read again.
    let kind = ReportKind::Ended { outcome: Outcome::Exit(1), artifacts: Vec::new(), ran_ms: 5 };
    let reports = vec![Report { token: Token(token), rank: 0, at: at(job, 1, 0), kind }];
    let incarnation = Incarnation("a".to_owned());
    let applied = test.apply(Command::Reports { worker: WorkerId(1), incarnation, reports });
    assert_eq!(applied.changes.reread[&JobId(job)].iter().collect::<Vec<_>>(), [1]);
    resolve(&mut test, false);

    assert_eq!(test.index_state(at(job, 1, 0)), Skipped);
    assert_eq!(test.job_state(job), "failed");
}

#[test]
fn a_held_job_goes_on_running_and_starts_nothing() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(2, None));
    let token = test.place(at(job, 0, 0), &[]).unwrap();
    let request = test.request();
    test.apply(Command::Hold { request, target: whole(job) });
    assert_eq!(test.place(at(job, 0, 1), &[]), None);
    test.end(token, at(job, 0, 0), Outcome::Exit(0));
    assert_eq!(test.index_state(at(job, 0, 0)), Succeeded);
    assert_eq!(test.job_state(job), "held");
}

#[test]
fn a_million_indices_are_a_few_rows() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(1_000_000, None));
    test.run(at(job, 0, 999_999), Outcome::Exit(0));
    let rows = test.state.keys().len();
    assert!(rows < 10, "{rows} rows");
    assert_eq!(test.state.job(JobId(job)).unwrap().counts().ready, 999_999);
    let request = test.request();
    let reply = test.apply(Command::Cancel { request, target: whole(job) }).reply;
    assert_eq!(reply, Reply::Changed { indices: 999_999 });
}

#[test]
fn a_submission_in_parts_needs_them_all() {
    let mut test = TestState::new();
    let bytes = TestJob::new().task(&[]).bytes().0;
    let (one, two) = bytes.split_at(bytes.len() / 2);
    let request = test.request();
    let submit = || Command::Submit {
        request: request.clone(),
        spec: crate::spec::SpecBytes(Vec::new()),
        parts: 2,
        forecast_micro_usd: None,
    };
    test.apply(Command::SubmitPart { request: request.clone(), part: 0, bytes: one.to_vec() });
    assert_eq!(test.apply(submit()).reply, Reply::Rejected(Rejection::MissingParts { have: 1, want: 2 }));
    test.apply(Command::SubmitPart { request: request.clone(), part: 1, bytes: two.to_vec() });
    assert_eq!(test.apply(submit()).reply, Reply::Submitted { job: JobId(1), tasks: 1, indices: 1 });
}

/// Every state of a random run equals the state restored from its rows, and applies the next commands alike.
#[test]
fn a_restored_state_goes_on_like_the_one_it_was_stored_from() {
    let mut seed = 7_u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut test = TestState::with_worker(4);
    for _ in 0..600 {
        test.tick += below(500);
        let job = below(6) + 1;
        let index = at(job, below(3) as u32, below(3) as u32);
        let target = match below(3) {
            0 => whole(job),
            1 => Target { task: Some(index.task), ..whole(job) },
            _ => Target { task: Some(index.task), index: Some(index.index), ..whole(job) },
        };
        let request = test.request();
        let live: Vec<(u64, _)> = test.state.live().map(|a| (a.token.0, a.at)).collect();
        match below(12) {
            0 => {
                test.submit(
                    &TestJob::new()
                        .task(&[])
                        .array(3, None)
                        .retry(3, 100)
                        .task(&[0])
                        .task(&[0])
                        .rule(TriggerRule::AllDone),
                );
            }
            1 => drop(test.apply(Command::Cancel { request, target })),
            2 => drop(test.apply(Command::Hold { request, target })),
            3 => drop(test.apply(Command::Release { request, target })),
            4 => drop(test.apply(Command::Rerun { request, target })),
            5 => {
                let (old, new) = if below(3) == 0 { ("b", "a") } else { ("a", "b") };
                if below(2) == 0 {
                    test.lose(old);
                }
                test.register("w1", 4, new, &[]);
            }
            6..=8
                if test
                    .state
                    .job(index.job)
                    .is_some_and(|j| index.index < j.task(index.task).indices.len()) =>
            {
                test.place(index, &[]);
            }
            _ => {
                if let Some((token, index)) = live.get(below(live.len().max(1) as u64) as usize) {
                    let outcomes = [Outcome::Exit(0), Outcome::Exit(1), Outcome::Fenced, Outcome::Oom];
                    test.end(*token, *index, outcomes[below(4) as usize].clone());
                }
            }
        }
        let rows = test.state.keys().into_iter().filter_map(|k| test.state.row(&k).map(|r| (k, r)));
        let again = State::restore(rows).expect("its own rows");
        assert_eq!(again.digest(), test.state.digest());
        if below(20) == 0 {
            test.state = again;
        }
    }
    assert!(test.state.jobs().count() > 5);
}
