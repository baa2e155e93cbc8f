//! Which index goes where: the view is fed by the state's own deltas.

use super::{Policy, View, plan};
use crate::command::Placement;
use crate::model::ids::WorkerId;
use crate::model::time::Tick;
use crate::state::test_state::{TestJob, TestState, at};

/// (job, index, worker, devices) of what would be placed.
fn planned(test: &TestState) -> Vec<(u64, u32, u64, Vec<u16>)> {
    let mut view = View::default();
    view.learn(test.state.full_delta());
    test.state.workers().for_each(|w| view.set_connected(w.id, true));
    let flat = |p: Placement| (p.at.job.0, p.at.index, p.worker.0, p.devices);
    plan(&view, Tick(test.tick), &Policy::default()).placements.into_iter().map(flat).collect()
}

#[test]
fn priority_first_then_age() {
    let mut test = TestState::with_worker(0);
    for priority in [50, 90, 50] {
        test.submit(&TestJob::new().task(&[]).cpus(3_000).priority(priority));
    }
    assert_eq!(planned(&test), [(2, 0, 1, vec![]), (1, 0, 1, vec![])]);
}

#[test]
fn the_fullest_worker_that_fits_and_gpus_are_kept_for_those_who_ask() {
    let mut test = TestState::with_worker(2);
    test.register("w2", 0, "a", &[]);
    test.register("w3", 0, "a", &[]);
    let job = test.submit(&TestJob::new().task(&[]).cpus(1_000));
    test.place_on(3, at(job, 0, 0), &[]).expect("placed");
    test.submit(&TestJob::new().task(&[]).cpus(2_000));
    test.submit(&TestJob::new().task(&[]).gpus(2));
    assert_eq!(planned(&test), [(2, 0, 3, vec![]), (3, 0, 1, vec![0, 1])]);
}

#[test]
fn constraints_hold_and_what_is_not_heard_gets_nothing() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    test.submit(&TestJob::new().task(&[]).constraint("worker.name == 'w2'"));
    assert_eq!(planned(&test), [(1, 0, 2, vec![])]);

    let mut view = View::default();
    view.learn(test.state.full_delta());
    view.set_connected(WorkerId(1), true);
    assert_eq!(plan(&view, Tick(0), &Policy::default()).placements, []);
}

#[test]
fn an_array_is_planned_up_to_its_limit() {
    let mut test = TestState::with_worker(0);
    test.submit(&TestJob::new().task(&[]).array(1_000_000, Some(3)));
    assert_eq!(planned(&test).iter().map(|p| p.1).collect::<Vec<_>>(), [0, 1, 2]);
}
