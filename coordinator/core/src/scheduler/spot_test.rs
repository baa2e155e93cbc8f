//! Tasks with a deadline, through views that are fed by a state's own deltas.

use super::{Policy, View, explain, plan};
use crate::command::Command;
use crate::model::checkpoint::Checkpoint;
use crate::model::ids::{JobId, TaskNo, Token, WorkerId};
use crate::model::time::{Stamp, Tick};
use crate::model::worker::{Incarnation, WorkerSpec};
use crate::spot::LOOK_MS;
use crate::state::test_state::{TestJob, TestState, at, worker_spec};

const HOUR: u64 = 3_600_000;

/// Worker 1 is on-demand, worker 2 spot.
fn two_kinds() -> TestState {
    let mut test = TestState::with_worker(0);
    let spec = WorkerSpec { spot: true, pool: "spot".to_owned(), ..worker_spec("w2", 8, 0) };
    test.apply(Command::Register {
        spec: Box::new(spec),
        incarnation: Incarnation("a".to_owned()),
        held: Vec::new(),
    });
    test
}

fn submit(test: &mut TestState, within: u64, work: u64) -> u64 {
    test.submit(&TestJob::new().task(&[]).cpus(8_000).deadline(within, work))
}

/// A view that hears these workers, has looked at them so often, and stands at this time.
fn view(test: &TestState, connected: &[u64], looks: u32, now: u64) -> View {
    let mut view = View::default();
    view.learn(test.state.full_delta());
    for worker in test.state.workers() {
        view.set_connected(worker.id, connected.contains(&worker.id.0));
    }
    (0..looks).for_each(|_| view.look_at_spot());
    view.tick = Tick(now);
    view
}

/// The workers that get something.
fn placed(view: &mut View) -> Vec<u64> {
    let now = view.tick;
    plan(view, now, &Policy::default()).placements.iter().map(|p| p.seats[0].worker.0).collect()
}

#[test]
fn spot_while_there_is_time_and_on_demand_when_there_is_none() {
    let mut test = two_kinds();
    submit(&mut test, 70 * HOUR, 48 * HOUR);
    assert_eq!(placed(&mut view(&test, &[1, 2], 1, test.tick)), [2]);
    assert_eq!(
        placed(&mut view(&test, &[1, 2], 1, 22 * HOUR)),
        [1],
        "a loss of the spot worker would be too late"
    );
    assert_eq!(placed(&mut view(&test, &[1, 2], 1, 100 * HOUR)), [1], "it is late already");
    assert_eq!(placed(&mut view(&test, &[2], 1, 22 * HOUR)), [2], "better than nothing");
}

#[test]
fn a_gap_is_waited_for_until_the_slack_is_needed() {
    let mut test = two_kinds();
    submit(&mut test, 70 * HOUR, 48 * HOUR);
    assert_eq!(placed(&mut view(&test, &[1], 1, test.tick)), [] as [u64; 0]);
    assert_eq!(placed(&mut view(&test, &[1], 60, 10 * HOUR)), [] as [u64; 0]);
    assert_eq!(placed(&mut view(&test, &[1], 120, 20 * HOUR)), [1]);
    let mut lonely = TestState::with_worker(0);
    submit(&mut lonely, 70 * HOUR, 48 * HOUR);
    assert_eq!(placed(&mut view(&lonely, &[1], 1, lonely.tick)), [1], "there is nothing to wait for");
}

#[test]
fn spot_that_is_not_cheaper_is_nothing_to_wait_for() {
    for (spot, on_demand, expected) in
        [("3.2", "9.8", vec![]), ("9.8", "9.8", vec![1]), ("dear", "9.8", vec![])]
    {
        let mut test = TestState::new();
        for (name, price, is_spot) in [("w1", on_demand, false), ("w2", spot, true)] {
            let labels = [("usd_per_hour".to_owned(), price.to_owned())].into();
            let pool = if is_spot { "spot" } else { "default" }.to_owned();
            let spec = WorkerSpec { spot: is_spot, pool, labels, ..worker_spec(name, 8, 0) };
            test.apply(Command::Register {
                spec: Box::new(spec),
                incarnation: Incarnation("a".to_owned()),
                held: Vec::new(),
            });
        }
        submit(&mut test, 70 * HOUR, 48 * HOUR);
        assert_eq!(placed(&mut view(&test, &[1], 1, test.tick)), expected, "{spot} and {on_demand}");
    }
}

#[test]
fn what_waits_by_choice_stands_in_nobodys_way() {
    let mut test = two_kinds();
    submit(&mut test, 70 * HOUR, 48 * HOUR);
    test.submit(&TestJob::new().task(&[]).cpus(8_000));
    assert_eq!(placed(&mut view(&test, &[1], 1, test.tick)), [1]);
}

#[test]
fn work_that_is_committed_counts_as_done_also_for_a_new_leader() {
    let mut test = two_kinds();
    let job = submit(&mut test, 70 * HOUR, 48 * HOUR);
    let late = 30 * HOUR;
    assert_eq!(placed(&mut view(&test, &[1], 1, late)), [1], "40 h for 48 h");
    test.keep(at(job, 0, 0), 28 * HOUR);
    assert_eq!(placed(&mut view(&test, &[1], 1, late)), [] as [u64; 0], "40 h for 20 h");
}

#[test]
fn explain_says_what_it_waits_for() {
    let mut test = two_kinds();
    test.apply(Command::LoseWorker { worker: WorkerId(2), incarnation: Incarnation("a".to_owned()) });
    let job = submit(&mut test, 70 * HOUR, 48 * HOUR);
    let waits = |now| {
        let job = test.state.job(JobId(job)).expect("there");
        let found = explain(&test.state, job, TaskNo(0), None, Tick(now));
        found.blockers.iter().any(|b| b.reason.starts_with("no spot worker has room"))
    };
    assert_eq!((waits(0), waits(21 * HOUR)), (true, false));
}

#[test]
fn run_time_is_added_up_over_checkpoints_and_attempts() {
    let checkpoint = |token: u64, tick: u64, worked_ms: u64| Checkpoint {
        step: 1,
        token: Token(token),
        attempt: 1,
        parts: Vec::new(),
        committed: Stamp { tick: Tick(tick), ..Stamp::default() },
        took_ms: 0,
        worked_ms,
    };
    let mut test = two_kinds();
    let job = submit(&mut test, 70 * HOUR, 48 * HOUR);
    test.place_on(2, at(job, 0, 0), &[]).expect("placed");
    let mut attempt = test.state.live().next().expect("an attempt").clone();
    let token = attempt.token.0;
    assert_eq!(Checkpoint::worked(None, &attempt, Tick(9_000)), 0, "it does not run yet");
    attempt.started = Some(Stamp { tick: Tick(1_000), ..Stamp::default() });
    assert_eq!(Checkpoint::worked(None, &attempt, Tick(9_000)), 8_000);
    assert_eq!(Checkpoint::worked(Some(&checkpoint(token, 9_000, 8_000)), &attempt, Tick(9_500)), 8_500);
    assert_eq!(Checkpoint::worked(Some(&checkpoint(token - 1, 500, 7_000)), &attempt, Tick(2_000)), 8_000);
    assert_eq!(LOOK_MS, 600_000, "the constants of the policy are of looks of ten minutes");
}
