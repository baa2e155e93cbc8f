//! Where time and money go, as the state books it. After every command `State::check` holds the classes against what there was.

use super::test_state::{TestJob, TestState, at, stored, worker_spec};
use crate::command::{Command, Placement, Report, ReportKind};
use crate::ledger::{Class, Month};
use crate::model::attempt::Outcome;
use crate::model::fleet::{Fleet, PoolSpec};
use crate::model::ids::{JobId, Token, WorkerId};
use crate::model::placement::{Seat, Share};
use crate::model::resources::GpuAmount;
use crate::model::time::{Stamp, Tick, Wall};
use crate::model::worker::{Incarnation, WorkerSpec};
use crate::reply::Reply;
use std::collections::BTreeMap;

/// Milliseconds of whole devices, and millionths of a USD, by class; what is nothing is left out.
type Counted = BTreeMap<&'static str, (u64, u64)>;

fn counted(test: &TestState) -> Counted {
    let amounts = test.state.classes_at(Stamp { wall: Wall(0), tick: Tick(test.tick) });
    let of = |class: Class| {
        let amount = amounts.of(class);
        (class.as_str(), (u64::try_from(amount.time / 1_000).expect("small"), amount.micro_usd()))
    };
    Class::ALL.into_iter().filter(|class| !amounts.of(*class).is_none()).map(of).collect()
}

/// The same without money.
fn times(test: &TestState) -> BTreeMap<&'static str, u64> {
    counted(test).into_iter().map(|(class, (ms, _))| (class, ms)).collect()
}

/// A worker that costs a millionth of a USD for a millisecond of each of its devices.
fn priced(name: &str, gpus: usize) -> WorkerSpec {
    let mut spec = worker_spec(name, 8, gpus);
    let usd = format!("{:.1}", 3.6 * gpus.max(1) as f64);
    spec.labels.insert("usd_per_hour".to_owned(), usd);
    spec
}

fn comes(test: &mut TestState, spec: WorkerSpec, incarnation: &str) {
    let incarnation = Incarnation(incarnation.to_owned());
    test.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
}

fn runs(test: &mut TestState, worker: u64, token: u64, rank: u32, index: crate::model::ids::IndexRef) {
    test.report(worker, Report { token: Token(token), rank, at: index, kind: ReportKind::Running });
}

/// One worker of two priced devices, and a job that has had the first since 100 and runs since 300.
fn running() -> (TestState, u64) {
    let mut test = TestState::new();
    comes(&mut test, priced("w1", 2), "a");
    test.submit(&TestJob::new().task(&[]).gpus(1));
    test.tick = 100;
    let token = test.place(at(1, 0, 0), &[0]).expect("placed");
    test.tick = 300;
    runs(&mut test, 1, token, 0, at(1, 0, 0));
    (test, token)
}

#[test]
fn a_success_is_useful_and_the_rest_is_idle() {
    let (mut test, token) = running();
    test.tick = 1_300;
    test.end(token, at(1, 0, 0), Outcome::Exit(0));
    test.tick = 2_000;
    let idle = 2 * 100 + 1_200 + 2 * 700;
    // A millionth of a USD for each.
    let expected = [("idle", (idle, idle)), ("starting", (200, 200)), ("useful", (1_000, 1_000))];
    assert_eq!(counted(&test), Counted::from(expected));
    let spent = test.state.ledger().job(JobId(1));
    assert_eq!(spent.of(Class::Useful).micro_usd(), 1_000);
    assert_eq!(spent.total().micro_usd(), 1_200);
}

#[test]
fn what_was_not_saved_is_lost_and_the_next_attempt_restarts() {
    let (mut test, token) = running();
    test.tick = 800;
    assert!(test.save(1, token, 0, at(1, 0, 0), stored(5, 1)));
    test.tick = 1_300;
    assert_eq!(times(&test)["useful"], 1_000, "until it ends, nobody knows better");
    test.end(token, at(1, 0, 0), Outcome::Signal(9));
    assert_eq!((times(&test)["useful"], times(&test)["lost"]), (500, 500));
    test.tick = 1_400;
    test.apply(Command::Rerun {
        request: crate::command::Request { id: "x".to_owned(), user: "ann".to_owned() },
        target: super::test_state::whole(1),
    });
    let token = test.place(at(1, 0, 0), &[0]).expect("placed");
    test.tick = 1_650;
    runs(&mut test, 1, token, 0, at(1, 0, 0));
    assert_eq!(times(&test)["restarting"], 250);
}

#[test]
fn each_rank_of_a_gang_waits_for_the_others() {
    let mut test = TestState::new();
    comes(&mut test, priced("w1", 1), "a");
    comes(&mut test, priced("w2", 1), "a");
    test.submit(&TestJob::new().task(&[]).gpus(1).workers(2, 2));
    let index = at(1, 0, 0);
    let seats = vec![Seat::whole(WorkerId(1), &[0]), Seat::whole(WorkerId(2), &[0])];
    let token = test.grant(Placement { at: index, seats, port: 20_000 }).expect("placed");
    test.tick = 10;
    runs(&mut test, 1, token, 0, index);
    test.tick = 40;
    runs(&mut test, 2, token, 1, index);
    test.tick = 140;
    test.end_rank(1, token, 0, index, Outcome::Exit(0));
    test.tick = 200;
    // Rank 0: 10 starting, 30 waiting, 100 useful, 60 waiting. Rank 1: 40 starting, 160 useful.
    let expected = [("starting", 50), ("waiting_for_peers", 90), ("useful", 260)];
    assert_eq!(times(&test), BTreeMap::from(expected));
    // One rank fails: the work of both is lost.
    test.end_rank(2, token, 1, index, Outcome::Exit(1));
    let expected = [("starting", 50), ("waiting_for_peers", 90), ("lost", 260)];
    assert_eq!(times(&test), BTreeMap::from(expected));
}

#[test]
fn a_gang_loses_a_worker_and_only_what_is_there_counts() {
    let mut test = TestState::new();
    comes(&mut test, priced("w1", 1), "a");
    comes(&mut test, priced("w2", 1), "a");
    test.submit(&TestJob::new().task(&[]).gpus(1).workers(2, 2));
    let index = at(1, 0, 0);
    let seats = vec![Seat::whole(WorkerId(1), &[0]), Seat::whole(WorkerId(2), &[0])];
    let token = test.grant(Placement { at: index, seats, port: 20_000 }).expect("placed");
    runs(&mut test, 1, token, 0, index);
    runs(&mut test, 2, token, 1, index);
    test.tick = 100;
    test.lose("a");
    test.tick = 150;
    test.end_rank(2, token, 1, index, Outcome::Signal(9));
    assert_eq!(
        times(&test),
        BTreeMap::from([("lost", 250)]),
        "the second ran 150, the first until it was lost"
    );
    test.tick = 400;
    comes(&mut test, priced("w1", 1), "b");
    test.tick = 500;
    assert_eq!(times(&test), BTreeMap::from([("lost", 250), ("idle", 350 + 100)]));
}

#[test]
fn parts_of_a_device_are_counted_apart() {
    let mut test = TestState::new();
    comes(&mut test, priced("w1", 1), "a");
    test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Fraction(300)));
    let share = Share { device: 0, milli: 300, memory: 0 };
    let seat = Seat { worker: WorkerId(1), devices: vec![share] };
    let token = test.grant(Placement::single(at(1, 0, 0), seat)).expect("placed");
    runs(&mut test, 1, token, 0, at(1, 0, 0));
    test.tick = 1_000;
    assert_eq!(times(&test), BTreeMap::from([("useful", 300), ("idle", 700)]));
}

#[test]
fn a_device_out_of_service_is_unhealthy_once_nobody_has_it() {
    let (mut test, token) = running();
    let quarantine = |test: &mut TestState, uuid: &str| {
        let request = test.request();
        let reason = "tested".to_owned();
        test.apply(Command::QuarantineDevice { request, uuid: uuid.to_owned(), reason });
    };
    quarantine(&mut test, "w1-0");
    quarantine(&mut test, "w1-1");
    test.tick = 400;
    test.end(token, at(1, 0, 0), Outcome::Signal(9));
    test.tick = 500;
    // The second since 300, the first since 400.
    assert_eq!(
        times(&test),
        BTreeMap::from([("idle", 200 + 200), ("starting", 200), ("lost", 100), ("unhealthy", 300)])
    );
    let request = test.request();
    test.apply(Command::ReturnDevice { request, uuid: "w1-0".to_owned(), reason: String::new() });
    test.tick = 600;
    assert_eq!((times(&test)["unhealthy"], times(&test)["idle"]), (400, 500));
}

#[test]
fn a_lost_worker_has_no_capacity() {
    let (mut test, _) = running();
    test.tick = 500;
    test.lose("a");
    let then = counted(&test);
    assert_eq!(then["lost"], (200, 200));
    test.tick = 9_000;
    assert_eq!(counted(&test), then);
    assert_eq!(test.state.ledger().totals().capacity_at(Tick(9_000)).time, 2 * 500 * 1_000);
}

#[test]
fn a_new_price_counts_from_when_it_is_known() {
    let mut test = TestState::with_worker(1);
    test.submit(&TestJob::new().task(&[]).gpus(1));
    let token = test.place(at(1, 0, 0), &[0]).expect("placed");
    runs(&mut test, 1, token, 0, at(1, 0, 0));
    for micro_usd_per_hour in [Some(3_600_000), Some(7_200_000), None] {
        test.tick += 100;
        let pool = PoolSpec { micro_usd_per_hour, ..PoolSpec::default() };
        let pools = BTreeMap::from([("default".to_owned(), pool)]);
        test.apply(Command::SetFleet { fleet: Box::new(Fleet { pools, ..Fleet::default() }) });
    }
    test.tick += 100;
    // 100 ms at nothing, at 1, at 2, at nothing.
    assert_eq!(counted(&test), Counted::from([("useful", (400, 300))]));
}

#[test]
fn a_machine_without_devices_costs_money_and_no_gpu_time() {
    let mut test = TestState::new();
    comes(&mut test, worker_spec("w1", 8, 0), "a");
    comes(&mut test, priced("w2", 0), "a");
    test.submit(&TestJob::new().task(&[]).cpus(2_000).task(&[]).cpus(2_000));
    let free = test.place_on(1, at(1, 0, 0), &[]).expect("placed");
    let paid = test.place_on(2, at(1, 1, 0), &[]).expect("placed");
    runs(&mut test, 1, free, 0, at(1, 0, 0));
    runs(&mut test, 2, paid, 0, at(1, 1, 0));
    test.tick = 1_000;
    // A quarter of its CPUs.
    assert_eq!(counted(&test), Counted::from([("useful", (0, 250)), ("idle", (0, 750))]));
    // Another incarnation: what the first one's attempts have is not the new one's.
    comes(&mut test, priced("w2", 0), "b");
    test.tick = 2_000;
    assert_eq!(counted(&test), Counted::from([("useful", (0, 250)), ("idle", (0, 1_750))]));
    assert_eq!(test.state.ledger().totals().capacity_at(Tick(2_000)).time, 0);
}

#[test]
fn tasks_without_devices_cost_nothing_on_a_machine_with_devices() {
    let mut test = TestState::new();
    comes(&mut test, priced("w1", 1), "a");
    test.submit(&TestJob::new().task(&[]).cpus(8_000));
    test.place(at(1, 0, 0), &[]).expect("placed");
    test.tick = 50;
    assert_eq!(counted(&test), Counted::from([("idle", (50, 50))]));
}

#[test]
fn accounts_say_whose_time_it_was_and_in_which_month() {
    let (mut test, token) = running();
    test.tick = 1_300;
    // The entry that ends it is 400 ms into a month.
    let month = Month(202_611);
    let stamp = Stamp { wall: Wall(month.start().0 + 400), tick: Tick(test.tick) };
    test.index += 1;
    let kind = ReportKind::Ended { outcome: Outcome::Exit(0), artifacts: Vec::new(), ran_ms: 1_000 };
    let report = Report { token: Token(token), rank: 0, at: at(1, 0, 0), kind };
    let command = Command::Reports {
        worker: WorkerId(1),
        incarnation: Incarnation("a".to_owned()),
        reports: vec![report],
    };
    test.state.apply(super::Entry { index: test.index, stamp, command: &command });
    assert_eq!(test.state.check(), Ok(()));
    let of = |queue: &str, month: Month| {
        let accounts = test.state.ledger().accounts();
        let found = accounts.filter(|a| (a.key.queue.as_str(), a.key.month) == (queue, month));
        found.map(|a| a.amounts.of(Class::Useful).time / 1_000).sum::<u128>()
    };
    assert_eq!((of("default", month), of("default", month.before()), of("", month)), (400, 600, 0));
    let owner = test.state.ledger().accounts().find(|a| !a.key.user.is_empty()).map(|a| a.key.clone());
    assert_eq!(owner.map(|key| (key.user, key.pool)), Some(("ann".to_owned(), "default".to_owned())));
}

#[test]
fn a_retired_job_leaves_the_books_of_jobs_and_stays_in_the_sum() {
    let (mut test, token) = running();
    test.tick = 1_300;
    test.end(token, at(1, 0, 0), Outcome::Exit(0));
    let before = counted(&test);
    assert!(matches!(
        test.apply(Command::Retire { before: Tick(2_000) }).reply,
        Reply::Changed { indices: 1 }
    ));
    assert_eq!(test.state.ledger().job(JobId(1)), Default::default());
    assert_eq!(counted(&test), before);
}
