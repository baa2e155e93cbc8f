//! Budgets, as the log decides them: what is let in, what is told, what is stopped.

use super::test_state::{TestJob, TestState, at, worker_spec};
use super::{Applied, Entry};
use crate::command::{Command, Report, ReportKind};
use crate::event::Event;
use crate::ledger::Month;
use crate::model::attempt::Outcome;
use crate::model::budget::{Budget, BudgetRow, OnExceed, Scope};
use crate::model::ids::{JobId, Token};
use crate::model::job::IndexState;
use crate::model::time::{Stamp, Tick};
use crate::model::worker::Incarnation;
use crate::reply::{Rejection, Reply};

/// A worker of two devices, each of which costs a millionth of a USD in a millisecond.
fn cluster() -> TestState {
    let mut test = TestState::new();
    let mut spec = worker_spec("w1", 8, 2);
    spec.labels.insert("usd_per_hour".to_owned(), "7.2".to_owned());
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
    test
}

fn submit(test: &mut TestState, job: &TestJob, forecast_micro_usd: Option<u64>) -> Reply {
    let request = test.request();
    test.apply(Command::Submit { request, spec: job.bytes(), parts: 0, forecast_micro_usd }).reply
}

fn set(test: &mut TestState, scope: &Scope, micro_usd: u64, on_exceed: OnExceed) {
    let (request, scope) = (test.request(), scope.clone());
    let budget = Some(Budget { micro_usd, on_exceed });
    assert_eq!(test.apply(Command::SetBudget { request, scope, budget }).reply, Reply::Done);
}

/// What is in per cent told, at the settle of this moment.
fn settle(test: &mut TestState, tick: u64) -> Vec<u8> {
    test.tick = tick;
    let told = |event: Event| match event {
        Event::BudgetPassed { percent, .. } => Some(percent),
        _ => None,
    };
    test.apply(Command::Settle).events.into_iter().filter_map(told).collect()
}

/// The first index of a job runs on the first device.
fn run(test: &mut TestState, job: u64, device: u16) -> u64 {
    let token = test.place(at(job, 0, 0), &[device]).expect("placed");
    let report = Report { token: Token(token), rank: 0, at: at(job, 0, 0), kind: ReportKind::Running };
    test.report(1, report);
    token
}

fn row<'a>(test: &'a TestState, scope: &Scope) -> &'a BudgetRow {
    test.state.ledger().budgets().get(scope).expect("a budget")
}

fn gpu() -> TestJob {
    TestJob::new().task(&[]).gpus(1)
}

#[test]
fn a_job_whose_forecast_is_above_its_own_budget_is_refused() {
    let mut test = cluster();
    let refused = submit(&mut test, &gpu().budget(100, OnExceed::Hold), Some(101));
    let scope = "the job".to_owned();
    let why = Rejection::BudgetExceeded { scope, micro_usd: 100, spent: 0, reserved: 0, forecast: 101 };
    assert_eq!(refused, Reply::Rejected(why.clone()));
    assert_eq!(why.code(), "BUDGET_EXCEEDED");
    for (job, forecast) in [
        (gpu().budget(100, OnExceed::Hold), Some(100)),
        (gpu().budget(100, OnExceed::Warn), Some(101)),
        (gpu().budget(100, OnExceed::Cancel), None),
    ] {
        assert!(matches!(submit(&mut test, &job, forecast), Reply::Submitted { .. }), "{forecast:?}");
    }
}

#[test]
fn what_was_admitted_to_a_queue_is_spoken_for_until_it_ends() {
    let mut test = cluster();
    let scope = Scope::Queue("a".to_owned());
    set(&mut test, &scope, 1_000, OnExceed::Hold);
    assert!(matches!(submit(&mut test, &gpu().queue("a"), Some(600)), Reply::Submitted { .. }));
    let refused = submit(&mut test, &gpu().queue("a"), Some(401));
    assert!(
        matches!(refused, Reply::Rejected(Rejection::BudgetExceeded { reserved: 600, .. })),
        "{refused:?}"
    );
    assert!(matches!(submit(&mut test, &gpu().queue("b"), Some(401)), Reply::Submitted { .. }));
    // It runs for 200: that much is spent and no longer reserved.
    let token = run(&mut test, 1, 0);
    settle(&mut test, 200);
    assert_eq!((row(&test, &scope).spent, row(&test, &scope).reserved), (200, 400));
    test.end(token, at(1, 0, 0), Outcome::Exit(0));
    settle(&mut test, 300);
    assert_eq!((row(&test, &scope).spent, row(&test, &scope).reserved), (200, 0));
    assert!(matches!(submit(&mut test, &gpu().queue("a"), Some(800)), Reply::Submitted { .. }));
}

#[test]
fn the_same_request_is_the_same_job_whatever_it_is_forecast_to_cost() {
    let mut test = cluster();
    let request = test.request();
    let mut ask = |forecast_micro_usd| {
        let (request, spec) = (request.clone(), gpu().bytes());
        test.apply(Command::Submit { request, spec, parts: 0, forecast_micro_usd }).reply
    };
    let first = ask(Some(1));
    assert!(matches!(first, Reply::Submitted { .. }));
    assert_eq!((ask(Some(2)), ask(None)), (first.clone(), first));
}

#[test]
fn alerts_are_told_once_and_the_job_is_held_with_time_to_save() {
    let mut test = cluster();
    submit(&mut test, &gpu().budget(1_000, OnExceed::Hold), None);
    let token = run(&mut test, 1, 0);
    assert!(settle(&mut test, 499).is_empty());
    assert_eq!(settle(&mut test, 500), [50]);
    assert_eq!(settle(&mut test, 900), [80]);
    assert!(test.state.attempt(Token(token)).is_some_and(|attempt| attempt.stop.is_none()));
    assert_eq!(settle(&mut test, 1_100), [100]);
    assert_eq!(
        test.end(token, at(1, 0, 0), Outcome::Signal(15)).map(|c| c.to_string()).as_deref(),
        Some("evicted(budget)")
    );
    assert_eq!((test.job_state(1), test.index_state(at(1, 0, 0))), ("held", IndexState::Pending));
    assert!(test.place(at(1, 0, 0), &[0]).is_none());
    // Whoever releases it knows what it costs: it is not held for the same again.
    let request = test.request();
    test.apply(Command::Release { request, target: super::test_state::whole(1) });
    let token = run(&mut test, 1, 0);
    assert!(settle(&mut test, 2_000).is_empty());
    assert!(test.state.attempt(Token(token)).is_some_and(|attempt| attempt.stop.is_none()));
    // A higher one counts anew.
    set(&mut test, &Scope::Job(JobId(1)), 5_000, OnExceed::Cancel);
    assert_eq!(row(&test, &Scope::Job(JobId(1))).alerts.len(), 0);
    assert_eq!(settle(&mut test, 9_000), [50, 80, 100]);
    test.end(token, at(1, 0, 0), Outcome::Signal(15));
    assert_eq!(test.job_state(1), "cancelled");
    test.apply(Command::Retire { before: Tick(10_000) });
    assert!(test.state.ledger().budgets().is_empty());
}

#[test]
fn a_queue_is_held_as_a_whole_and_only_that_one() {
    let mut test = cluster();
    set(&mut test, &Scope::Queue("a".to_owned()), 500, OnExceed::Hold);
    submit(&mut test, &gpu().queue("a"), None);
    submit(&mut test, &gpu().queue("b"), None);
    submit(&mut test, &gpu().queue("a"), None);
    let (first, second) = (run(&mut test, 1, 0), run(&mut test, 2, 1));
    assert_eq!(settle(&mut test, 600), [50, 80, 100]);
    let stopped = |token| test.state.attempt(Token(token)).is_some_and(|attempt| attempt.stop.is_some());
    assert_eq!((stopped(first), stopped(second)), (true, false));
    assert_eq!(test.job_state(3), "held");
    let refused = submit(&mut test, &gpu().queue("a"), None);
    assert!(matches!(refused, Reply::Rejected(Rejection::BudgetExceeded { .. })), "{refused:?}");
    let request = test.request();
    test.apply(Command::SetBudget { request, scope: Scope::Queue("a".to_owned()), budget: None });
    assert!(matches!(submit(&mut test, &gpu().queue("a"), None), Reply::Submitted { .. }));
}

#[test]
fn a_warning_stops_nothing() {
    let mut test = cluster();
    submit(&mut test, &gpu().budget(100, OnExceed::Warn), Some(5_000));
    let token = run(&mut test, 1, 0);
    assert_eq!(settle(&mut test, 600), [50, 80, 100]);
    assert!(test.state.attempt(Token(token)).is_some_and(|attempt| attempt.stop.is_none()));
    assert_eq!(test.job_state(1), "running");
}

#[test]
fn a_new_month_begins_with_nothing_spent() {
    let mut test = cluster();
    let at_wall = |test: &mut TestState, month: Month, ms: u64, command: &Command| -> Applied {
        test.index += 1;
        test.tick += ms;
        let mut wall = month.start();
        wall.0 += i64::try_from(ms).expect("small");
        let stamp = Stamp { wall, tick: Tick(test.tick) };
        let applied = test.state.apply(Entry { index: test.index, stamp, command });
        assert_eq!(test.state.check(), Ok(()));
        applied
    };
    let scope = Scope::Queue("default".to_owned());
    let budget = Some(Budget { micro_usd: 1_000, on_exceed: OnExceed::Hold });
    let request = test.request();
    let november = Month(202_611);
    at_wall(&mut test, november, 0, &Command::SetBudget { request, scope: scope.clone(), budget });
    submit(&mut test, &gpu(), None);
    run(&mut test, 1, 0);
    at_wall(&mut test, november, 900, &Command::Settle);
    assert_eq!((row(&test, &scope).spent, row(&test, &scope).alerts.len()), (900, 2));
    // 300 ms later, 200 of them in December.
    test.tick += 100;
    let december = Month(202_612);
    at_wall(&mut test, december, 200, &Command::Settle);
    let row = row(&test, &scope);
    assert_eq!((row.month, row.spent, row.alerts.len(), row.acted), (Some(december), 200, 0, false));
}
