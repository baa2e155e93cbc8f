//! What stands in the way, in words and numbers.

use super::{explain, nearest};
use crate::command::Command;
use crate::health::XidPolicy;
use crate::model::device_event::{DeviceEvent, DeviceEventKind};
use crate::model::ids::{JobId, TaskNo, WorkerId};
use crate::model::resources::{GpuAmount, GpuRequest, Resources};
use crate::model::time::Tick;
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState, at, whole, worker_spec};

/// (reason, count, holders) of each blocker, and the change.
type Why = (Vec<(String, u64, Vec<u64>)>, Option<String>);

fn why(test: &TestState, job: u64) -> Why {
    let state = &test.state;
    let found = explain(state, state.job(JobId(job)).expect("there"), TaskNo(0), None, Tick(test.tick));
    let flat = found.blockers.into_iter();
    let flat = flat.map(|b| (b.reason, b.count, b.holders.into_iter().map(|j| j.0).collect()));
    (flat.collect(), found.smallest_change)
}

fn blocker(reason: &str, count: u64, holders: &[u64]) -> (String, u64, Vec<u64>) {
    (reason.to_owned(), count, holders.to_vec())
}

#[test]
fn each_worker_is_counted_under_the_first_thing_in_its_way() {
    let mut test = TestState::with_worker(4);
    test.register("w2", 0, "a", &[]);
    test.register("w3", 4, "a", &[]);
    let holder = test.submit(&TestJob::new().task(&[]).gpus(3));
    test.place(at(holder, 0, 0), &[0, 1, 2]).expect("placed");
    let request = test.request();
    test.apply(Command::Drain { request, worker: WorkerId(3), deadline_ms: None, reason: String::new() });
    let job = test.submit(&TestJob::new().task(&[]).gpus(2));
    let expected = vec![
        blocker("the worker is draining or drained", 1, &[]),
        blocker("it has no GPU", 1, &[]),
        blocker("other work has what it needs", 1, &[holder]),
    ];
    assert_eq!(why(&test, job), (expected, Some("muster worker undrain w3".to_owned())));
}

#[test]
fn what_would_fit_now_is_the_change() {
    let mut test = TestState::with_worker(4);
    let holder = test.submit(&TestJob::new().task(&[]).gpus(3));
    test.place(at(holder, 0, 0), &[0, 1, 2]).expect("placed");
    let job = test.submit(&TestJob::new().task(&[]).gpus(4));
    let busy = vec![blocker("other work has what it needs", 1, &[holder])];
    let change = "ask for 1 GPUs: worker w1 has room for that now";
    assert_eq!(why(&test, job), (busy, Some(change.to_owned())));

    let one = test.submit(&TestJob::new().task(&[]).gpus(1));
    assert_eq!(why(&test, one), (vec![], None));
    let cpus = test.submit(&TestJob::new().task(&[]).cpus(8_000));
    assert_eq!(why(&test, cpus).1.as_deref(), Some("ask for 4 CPUs: worker w1 has room for that now"));
}

#[test]
fn a_quarantined_device_and_a_broken_constraint_are_named() {
    let mut test = TestState::with_worker(1);
    let kind = DeviceEventKind::Xid(79);
    let event = DeviceEvent { seq: 1, uuid: "w1-0".to_owned(), kind, at: 0, detail: String::new() };
    test.apply(Command::DeviceEvents {
        worker: WorkerId(1),
        incarnation: Incarnation("a".to_owned()),
        events: vec![XidPolicy::shipped().judge(event)],
    });
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    let reason = "too few of its GPUs are in service: the others are quarantined";
    let change = "mend w1-0 on w1, then muster gpus return it";
    assert_eq!(why(&test, job), (vec![blocker(reason, 1, &[])], Some(change.to_owned())));

    let job = test.submit(&TestJob::new().task(&[]).constraint("worker.pool == 'x'"));
    let reason = "the constraint `worker.pool == 'x'` does not hold";
    let change = "leave out the constraint `worker.pool == 'x'`: worker w1 would take it";
    assert_eq!(why(&test, job), (vec![blocker(reason, 1, &[])], Some(change.to_owned())));
}

#[test]
fn what_the_job_itself_says_comes_first() {
    let mut test = TestState::new();
    let job = test.submit(&TestJob::new().task(&[]));
    let none = (vec![blocker("there is no worker", 1, &[])], Some("add a worker: there is none".to_owned()));
    assert_eq!(why(&test, job), none);
    let request = test.request();
    test.apply(Command::Hold { request, target: whole(job) });
    let held = (vec![blocker("the job is held", 1, &[])], Some(format!("muster release {job}")));
    assert_eq!(why(&test, job), held);

    let dag = test.submit(&TestJob::new().task(&[]).task(&[0]));
    let state = &test.state;
    let child = explain(state, state.job(JobId(dag)).expect("there"), TaskNo(1), None, Tick(0));
    let reasons: Vec<&str> = child.blockers.iter().map(|b| b.reason.as_str()).collect();
    assert_eq!((reasons, child.position), (vec!["it needs t0, which is ready"], None));
}

#[test]
fn the_place_in_the_queue_is_by_priority_then_age() {
    let mut test = TestState::with_worker(0);
    let first = test.submit(&TestJob::new().task(&[]).task(&[]));
    let second = test.submit(&TestJob::new().task(&[]));
    let urgent = test.submit(&TestJob::new().task(&[]).priority(90));
    let place = |job: u64, task: u32| {
        let job = test.state.job(JobId(job)).expect("there");
        explain(&test.state, job, TaskNo(task), None, Tick(0)).position
    };
    let places = (place(urgent, 0), place(first, 0), place(first, 1), place(second, 0));
    assert_eq!(places, (Some(1), Some(2), Some(3), Some(4)));
}

#[test]
fn an_impossible_request_names_the_nearest_possible_one() {
    let ask = |count: u32, model: &[&str]| Resources {
        gpus: Some(GpuRequest {
            amount: GpuAmount::Whole(count),
            model: model.iter().map(|m| (*m).to_owned()).collect(),
            ..GpuRequest::default()
        }),
        ..Resources::default()
    };
    let two = [worker_spec("w1", 8, 8), worker_spec("w2", 8, 8)];
    let near = |resources: &Resources, workers: usize| nearest(resources, two[..workers].iter());
    assert_eq!(near(&ask(8, &[]), 2), None);
    assert_eq!(
        near(&ask(16, &[]), 2).as_deref(),
        Some("set workers: 2 (with 8 GPUs each), or ask for at most 8")
    );
    assert_eq!(near(&ask(16, &[]), 1).as_deref(), Some("ask for at most 8 GPUs on one worker"));
    assert_eq!(near(&ask(1, &["A100"]), 2).as_deref(), Some("the GPUs here are H100-80GB"));
}
