//! Devices out of service and back, and the breakers, at the level of the state.

use super::test_state::{TestJob, TestState, at, worker_spec};
use super::{Applied, State};
use crate::command::Command;
use crate::health::XidPolicy;
use crate::model::attempt::{Cause, Outcome, StopReason};
use crate::model::breaker::{BreakerKey, Gate, OPEN_FIRST_MS};
use crate::model::device_event::{DeviceEvent, DeviceEventKind, Fault};
use crate::model::device_record::RETURN_AFTER_MS;
use crate::model::ids::{Token, WorkerId};
use crate::model::job::IndexState;
use crate::model::time::Tick;
use crate::model::worker::Incarnation;
use crate::reply::{Rejection, Reply};

/// Worker 1 says of its device `number` that this happened, and the shipped policy judges.
fn report(
    test: &mut TestState,
    incarnation: &str,
    seq: u64,
    number: usize,
    kind: DeviceEventKind,
) -> Applied {
    let uuid = format!("w1-{number}");
    let event = DeviceEvent { seq, uuid, kind, at: 0, detail: String::new() };
    test.apply(Command::DeviceEvents {
        worker: WorkerId(1),
        incarnation: Incarnation(incarnation.to_owned()),
        events: vec![XidPolicy::shipped().judge(event)],
    })
}

fn returned(test: &mut TestState, number: usize) -> Reply {
    let (request, uuid) = (test.request(), format!("w1-{number}"));
    test.apply(Command::ReturnDevice { request, uuid, reason: "a new one".to_owned() }).reply
}

fn stop_of(state: &State, token: u64) -> Option<StopReason> {
    state.attempt(Token(token)).and_then(|a| a.stop)
}

#[test]
fn a_hardware_fault_takes_that_device_alone_and_its_task_is_not_charged() {
    let mut test = TestState::with_worker(4);
    let job = test.submit(&TestJob::new().task(&[]).gpus(2).task(&[]).gpus(1));
    let hit = test.place(at(job, 0, 0), &[0, 1]).expect("placed");
    let other = test.place(at(job, 1, 0), &[2]).expect("placed");

    report(&mut test, "a", 7, 1, DeviceEventKind::Xid(79));

    assert_eq!(stop_of(&test.state, hit), Some(StopReason::Device(Fault::Xid(79))));
    assert_eq!(stop_of(&test.state, other), None);
    let cause = test.end(hit, at(job, 0, 0), Outcome::Signal(15)).expect("ended");
    assert_eq!((cause.to_string().as_str(), cause.is_charged()), ("device(79)", false));
    assert_eq!(test.index_state(at(job, 0, 0)), IndexState::Pending);
    // The broken one is refused, the others are not.
    assert_eq!(test.place(at(job, 0, 0), &[0, 1]), None);
    let again = test.place(at(job, 0, 0), &[0, 3]).expect("placed");
    assert_eq!(test.end(again, at(job, 0, 0), Outcome::Exit(0)), Some(Cause::Exit(0)));

    let record = &test.state.devices()["w1-1"];
    assert_eq!((record.faults, record.notes.len(), record.notes[0].what.as_str()), (1, 1, "xid 79"));
    assert_eq!(record.notes[0].held, [(at(job, 0, 0), 1)]);
    let of_first = &test.state.devices()["w1-0"];
    assert_eq!((of_first.faults, of_first.ends["succeeded"], of_first.ends["device"]), (0, 1, 1));
}

#[test]
fn a_success_that_comes_after_the_fault_stays_one() {
    let mut test = TestState::with_worker(1);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    let token = test.place(at(job, 0, 0), &[0]).expect("placed");
    report(&mut test, "a", 1, 0, DeviceEventKind::EccUncorrected);
    assert_eq!(test.end(token, at(job, 0, 0), Outcome::Exit(0)), Some(Cause::Exit(0)));
}

#[test]
fn an_application_fault_is_only_remembered() {
    let mut test = TestState::with_worker(1);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    let token = test.place(at(job, 0, 0), &[0]).expect("placed");
    report(&mut test, "a", 1, 0, DeviceEventKind::Xid(13));
    assert_eq!(stop_of(&test.state, token), None);
    assert!(!test.state.is_quarantined("w1-0"));
    assert_eq!(test.end(token, at(job, 0, 0), Outcome::Exit(1)), Some(Cause::Exit(1)));
    assert_eq!(test.state.devices()["w1-0"].notes[0].what, "xid 13");
}

#[test]
fn what_was_left_on_a_device_does_not_change_how_its_task_ended() {
    let mut test = TestState::with_worker(1);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    let token = test.place(at(job, 0, 0), &[0]).expect("placed");
    report(&mut test, "a", 1, 0, DeviceEventKind::NotClean("pid 7 lives".to_owned()));
    assert!(test.state.is_quarantined("w1-0"));
    assert_eq!(test.end(token, at(job, 0, 0), Outcome::Exit(3)), Some(Cause::Exit(3)));
}

#[test]
fn events_are_heard_once_and_only_of_the_incarnation_that_is_registered() {
    let mut test = TestState::with_worker(2);
    report(&mut test, "a", 5, 0, DeviceEventKind::Xid(79));
    assert_eq!(returned(&mut test, 0), Reply::Changed { indices: 1 });
    report(&mut test, "a", 5, 0, DeviceEventKind::Xid(79));
    report(&mut test, "a", 4, 1, DeviceEventKind::Xid(79));
    assert!(!test.state.is_quarantined("w1-0") && !test.state.is_quarantined("w1-1"));

    let old = report(&mut test, "z", 9, 1, DeviceEventKind::Xid(79)).reply;
    assert_eq!(old, Reply::Rejected(Rejection::OldIncarnation { got: "z".to_owned() }));
    // Another incarnation counts anew.
    test.register("w1", 2, "b", &[]);
    report(&mut test, "b", 1, 1, DeviceEventKind::Xid(79));
    assert!(test.state.is_quarantined("w1-1"));
}

#[test]
fn a_probe_returns_only_what_it_may() {
    let mut test = TestState::with_worker(3);
    report(&mut test, "a", 1, 0, DeviceEventKind::Thermal);
    report(&mut test, "a", 2, 1, DeviceEventKind::Xid(95));
    // A milder event does not make a hard one easier.
    report(&mut test, "a", 3, 1, DeviceEventKind::Thermal);
    // Too soon: what comes and goes costs a task each time.
    report(&mut test, "a", 4, 0, DeviceEventKind::Recovered);
    assert!(test.state.is_quarantined("w1-0"));
    test.tick += RETURN_AFTER_MS;
    for (seq, number) in [(5, 0), (6, 1)] {
        report(&mut test, "a", seq, number, DeviceEventKind::Recovered);
    }
    assert!(!test.state.is_quarantined("w1-0"));
    assert!(test.state.is_quarantined("w1-1"));
    assert_eq!(returned(&mut test, 1), Reply::Changed { indices: 1 });
    assert_eq!(returned(&mut test, 1), Reply::Changed { indices: 0 });
    assert_eq!(returned(&mut test, 9), Reply::Rejected(Rejection::NoDevice("w1-9".to_owned())));
}

#[test]
fn an_operator_takes_a_device_out() {
    let mut test = TestState::with_worker(1);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    let token = test.place(at(job, 0, 0), &[0]).expect("placed");
    let request = test.request();
    let taken = Command::QuarantineDevice { request, uuid: "w1-0".to_owned(), reason: "slow".to_owned() };
    assert_eq!(test.apply(taken).reply, Reply::Changed { indices: 1 });
    let cause = test.end(token, at(job, 0, 0), Outcome::Signal(15)).map(|c| c.to_string());
    assert_eq!(cause.as_deref(), Some("device(operator)"));
}

#[test]
fn three_faults_of_devices_in_a_row_hold_the_index() {
    let mut test = TestState::with_worker(4);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    for n in 0..3 {
        let token = test.place(at(job, 0, 0), &[n]).expect("placed");
        report(&mut test, "a", u64::from(n) + 1, usize::from(n), DeviceEventKind::Xid(79));
        test.end(token, at(job, 0, 0), Outcome::Signal(15));
    }
    assert_eq!(test.index_state(at(job, 0, 0)), IndexState::Held);
}

/// Runs and ends `count` jobs of different names on a worker, a second apart.
fn fail_there(test: &mut TestState, worker: u64, names: &[&str]) {
    for name in names {
        test.tick += 1_000;
        let job = test.submit(&TestJob::new().named(name).task(&[]));
        let token = test.place_on(worker, at(job, 0, 0), &[]).expect("placed");
        test.end_rank(worker, token, 0, at(job, 0, 0), Outcome::Exit(1));
    }
}

fn gate(test: &TestState, worker: u64) -> Option<Gate> {
    let breaker = test.state.breakers().get(&BreakerKey::Worker(WorkerId(worker)));
    breaker.map(|b| b.gate(Tick(test.tick)))
}

#[test]
fn a_worker_where_everything_fails_fast_is_left_alone_and_a_probe_closes_it() {
    let mut test = TestState::with_worker(0);
    // The only worker is never left alone.
    fail_there(&mut test, 1, &["a", "b", "c", "d"]);
    assert_eq!(gate(&test, 1), Some(Gate::Closed));

    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    fail_there(&mut test, 1, &["a", "b", "b"]);
    assert_eq!(gate(&test, 1), Some(Gate::Closed));
    fail_there(&mut test, 1, &["c"]);
    assert_eq!(gate(&test, 1), Some(Gate::Open(Tick(4_000 + OPEN_FIRST_MS))));
    let job = test.submit(&TestJob::new().task(&[]).array(2, None));
    assert_eq!(test.place(at(job, 0, 0), &[]), None);

    test.tick += OPEN_FIRST_MS;
    let probe = test.place(at(job, 0, 0), &[]).expect("a probe");
    assert_eq!(test.place(at(job, 0, 1), &[]), None);
    test.end(probe, at(job, 0, 0), Outcome::Exit(0));
    assert_eq!(gate(&test, 1), None);
    assert!(test.place(at(job, 0, 1), &[]).is_some());
}

#[test]
fn a_probe_that_fails_waits_twice_as_long_and_one_that_says_nothing_is_asked_again() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    fail_there(&mut test, 1, &["a", "b", "c"]);
    test.tick += OPEN_FIRST_MS;
    fail_there(&mut test, 1, &["d"]);
    assert_eq!(gate(&test, 1), Some(Gate::Open(Tick(test.tick + 2 * OPEN_FIRST_MS))));

    test.tick += 2 * OPEN_FIRST_MS;
    let job = test.submit(&TestJob::new().task(&[]));
    test.place(at(job, 0, 0), &[]).expect("a probe");
    test.lose("a");
    assert_eq!(gate(&test, 1), Some(Gate::HalfOpen));
}

#[test]
fn a_gang_that_fails_as_a_probe_says_nothing_of_its_workers() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    fail_there(&mut test, 1, &["a", "b", "c"]);
    test.tick += OPEN_FIRST_MS;
    let job = test.submit(&TestJob::new().task(&[]).workers(2, 2));
    let token = test.gang(at(job, 0, 0), &[1, 2]).expect("a probe");
    assert_eq!(gate(&test, 1), Some(Gate::Probing(Token(token))));
    test.end_rank(1, token, 0, at(job, 0, 0), Outcome::Exit(1));
    test.end_rank(2, token, 1, at(job, 0, 0), Outcome::Signal(15));
    assert_eq!(gate(&test, 1), Some(Gate::HalfOpen));
}

#[test]
fn a_command_that_fails_fast_everywhere_is_left_alone_and_others_go_on() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    test.register("w3", 0, "a", &[]);
    for worker in [1, 2, 3] {
        fail_there(&mut test, worker, &["bad", "bad"]);
    }
    let bad = test.submit(&TestJob::new().named("bad").task(&[]));
    let good = test.submit(&TestJob::new().named("good").task(&[]));
    assert_eq!(test.place(at(bad, 0, 0), &[]), None);
    assert!(test.place(at(good, 0, 0), &[]).is_some());
    test.tick += OPEN_FIRST_MS;
    assert!(test.place(at(bad, 0, 0), &[]).is_some());
}

#[test]
fn a_device_that_died_under_a_restarted_agent_shifts_no_number() {
    let mut test = TestState::with_worker(3);
    let job =
        test.submit(&TestJob::new().task(&[]).gpus(1).task(&[]).gpus(1).task(&[]).gpus(1).task(&[]).gpus(1));
    let first = test.place(at(job, 0, 0), &[0]).expect("placed");
    let second = test.place(at(job, 1, 0), &[1]).expect("placed");
    // The agent is started again, and the driver does not find the first device: it numbers the others from 0.
    let mut spec = worker_spec("w1", 8, 3);
    spec.devices.remove(0);
    let again = Command::Register {
        spec: Box::new(spec),
        incarnation: Incarnation("a".to_owned()),
        held: Vec::new(),
    };
    test.apply(again.clone());
    let named = |test: &TestState| {
        let worker = test.state.worker(WorkerId(1)).expect("worker");
        worker.spec.devices.iter().map(|d| (d.uuid.clone(), d.absent)).collect::<Vec<_>>()
    };
    let all = |absent: bool| {
        vec![("w1-0".to_owned(), absent), ("w1-1".to_owned(), false), ("w1-2".to_owned(), false)]
    };
    assert_eq!(named(&test), all(true));
    // What ran on it is evicted for it; what runs on the next one keeps that, and nobody else gets it.
    assert_eq!(stop_of(&test.state, first), Some(StopReason::Device(Fault::LostFromBus)));
    assert_eq!(stop_of(&test.state, second), None);
    assert_eq!(test.place(at(job, 2, 0), &[0]), None);
    assert_eq!(test.place(at(job, 2, 0), &[1]), None);
    let third = test.place(at(job, 2, 0), &[2]).expect("placed");
    assert!(test.state.check().is_ok(), "{:?}", test.state.check());
    // Once nothing runs there, the worker is what it says; the device is remembered as out of service.
    test.end(first, at(job, 0, 0), Outcome::Signal(9));
    test.end(second, at(job, 1, 0), Outcome::Exit(0));
    test.end(third, at(job, 2, 0), Outcome::Exit(0));
    test.apply(again);
    assert_eq!(named(&test), all(true)[1..]);
    assert!(test.state.is_quarantined("w1-0"));
}
