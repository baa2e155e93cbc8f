//! Nobody takes the room that something evicted is about to need.

use super::{Policy, View, plan};
use crate::command::Command;
use crate::model::ids::WorkerId;
use crate::model::notice::{Notice, NoticeKind, NoticeSource};
use crate::state::test_state::{TestJob, TestState, at};

/// (job, workers) of what would be placed.
fn planned(test: &TestState) -> Vec<(u64, Vec<u64>)> {
    let mut view = View::default();
    view.learn(test.state.full_delta());
    test.state.workers().for_each(|w| view.set_connected(w.id, true));
    let plan = plan(&mut view, test.state.tick(), &Policy::default());
    plan.placements.iter().map(|p| (p.at.job.0, p.seats.iter().map(|s| s.worker.0).collect())).collect()
}

fn notice(test: &mut TestState, worker: u64) {
    let notice = Notice {
        source: NoticeSource::Operator,
        kind: NoticeKind::Preemption,
        in_ms: Some(30_000),
        detail: String::new(),
        drill: false,
    };
    let request = Some(test.request());
    test.apply(Command::Notice { request, worker: WorkerId(worker), incarnation: None, notice });
}

/// Two workers with a GPU each; job 1, of this priority, runs on the first.
fn running(priority: u8) -> TestState {
    let mut test = TestState::with_worker(1);
    test.register("w2", 1, "a", &[]);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1).priority(priority));
    test.place_on(1, at(job, 0, 0), &[0]).expect("placed");
    test
}

#[test]
fn what_comes_later_in_the_queue_does_not_take_the_last_gpu() {
    for (priority, waits) in [(40, false), (50, false), (60, true)] {
        let mut test = running(50);
        let other = test.submit(&TestJob::new().task(&[]).gpus(1).priority(priority));
        assert_eq!(planned(&test), [(other, vec![2])], "nothing goes yet");
        notice(&mut test, 1);
        let expected: Vec<(u64, Vec<u64>)> = if waits { vec![(other, vec![2])] } else { vec![] };
        assert_eq!(planned(&test), expected, "priority {priority}");
    }
}

#[test]
fn what_needs_something_else_is_not_kept_waiting() {
    let mut test = running(50);
    let other = test.submit(&TestJob::new().task(&[]).cpus(2_000).priority(10));
    notice(&mut test, 1);
    assert_eq!(planned(&test), [(other, vec![2])]);
}

#[test]
fn a_cancelled_one_needs_no_room() {
    let mut test = running(50);
    let other = test.submit(&TestJob::new().task(&[]).gpus(1).priority(10));
    notice(&mut test, 1);
    let request = test.request();
    test.apply(Command::Cancel { request, target: crate::state::test_state::whole(1) });
    assert_eq!(planned(&test), [(other, vec![2])]);
}

#[test]
fn a_gang_keeps_what_it_has_on_the_machines_that_stay_and_gets_one_more() {
    let mut test = TestState::with_worker(0);
    ["w2", "w3", "w4"].into_iter().for_each(|name| {
        test.register(name, 0, "a", &[]);
    });
    let gang = test.submit(&TestJob::new().task(&[]).cpus(8_000).workers(2, 2).priority(50));
    test.gang(at(gang, 0, 0), &[1, 2]).expect("placed");
    let other = test.submit(&TestJob::new().task(&[]).cpus(8_000).array(3, None).priority(10));
    assert_eq!(planned(&test), [(other, vec![3]), (other, vec![4])]);
    notice(&mut test, 1);
    // w2 is the gang's already: one of the other two is kept for it.
    assert_eq!(planned(&test).len(), 1, "{:?}", planned(&test));
}
