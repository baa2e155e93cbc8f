//! Which index goes where: the view is fed by the state's own deltas.

use super::{Policy, View, plan};
use crate::command::{Command, Placement, Target};
use crate::model::attempt::Outcome;
use crate::model::ids::{TaskNo, WorkerId};
use crate::model::placement::{Seat, Share};
use crate::model::resources::{GpuAmount, GpuLink};
use crate::model::time::Tick;
use crate::model::worker::{Incarnation, Link, LinkClass, WorkerSpec};
use crate::state::test_state::{TestJob, TestState, at, whole, worker_spec};
use std::collections::BTreeSet;

/// (job, index, worker, devices) of what would be placed.
fn planned(test: &TestState) -> Vec<(u64, u32, u64, Vec<u16>)> {
    let mut view = View::default();
    view.learn(test.state.full_delta());
    test.state.workers().for_each(|w| view.set_connected(w.id, true));
    let flat = |p: Placement| {
        let Seat { worker, devices } = p.seats[0].clone();
        (p.at.job.0, p.at.index, worker.0, devices.into_iter().map(|share| share.device).collect())
    };
    plan(&mut view, Tick(test.tick), &Policy::default()).placements.into_iter().map(flat).collect()
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

/// (index, worker, port > 0) of the seats that would be placed, rank by rank.
fn seats(view: &mut View) -> Vec<(u32, Vec<u64>, bool)> {
    let flat = |p: Placement| (p.at.index, p.seats.iter().map(|s| s.worker.0).collect(), p.port > 0);
    plan(view, view.tick, &Policy::default()).placements.into_iter().map(flat).collect()
}

fn view_of(test: &TestState) -> View {
    let mut view = View::default();
    view.learn(test.state.full_delta());
    test.state.workers().for_each(|w| view.set_connected(w.id, true));
    view
}

#[test]
fn a_part_goes_to_the_fullest_device_that_has_room_and_mig_only_to_those_who_ask() {
    let mut test = TestState::new();
    let mut spec = worker_spec("w1", 8, 4);
    spec.devices[0].mig = Some("1g.10gb".to_owned());
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
    let job = test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Fraction(600)).array(2, None));
    let share = Share { device: 2, milli: 600, memory: 0 };
    let seat = Seat { worker: WorkerId(1), devices: vec![share] };
    test.grant(Placement::single(at(job, 0, 1), seat)).expect("placed");
    test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Fraction(400)).array(2, None));
    test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Mig("1g.10gb".to_owned(), 1)));
    test.submit(&TestJob::new().task(&[]).amount(GpuAmount::Mig("7g.80gb".to_owned(), 1)));
    // 600 beside 600 does not go; 400 fills what 600 left; the next 400 begins with the first that is not taken.
    assert_eq!(
        planned(&test),
        [(1, 0, 1, vec![1]), (2, 0, 1, vec![1]), (2, 1, 1, vec![2]), (3, 0, 1, vec![0])]
    );
}

#[test]
fn a_gang_gets_all_its_workers_at_once_and_gangs_do_not_share_them_beyond_their_room() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    test.register("w3", 0, "a", &[]);
    test.submit(&TestJob::new().task(&[]).workers(2, 2).cpus(8_000).array(2, None));
    let mut view = view_of(&test);
    assert_eq!(seats(&mut view), [(0, vec![1, 2], true)], "for the second there is one worker left");

    test.submit(&TestJob::new().task(&[]).workers(1, 3).cpus(3_000).priority(90));
    let planned = seats(&mut view_of(&test));
    assert_eq!(planned, [(0, vec![1, 2, 3], true)], "as many as fit, and then no room for two whole ones");
}

#[test]
fn gangs_of_one_worker_meet_on_different_ports_and_the_same_view_gives_the_same_plan() {
    let mut test = TestState::with_worker(0);
    test.register("w2", 0, "a", &[]);
    test.submit(&TestJob::new().task(&[]).workers(2, 2).cpus(100).array(40, None));
    let mut view = view_of(&test);
    let first = plan(&mut view, Tick(5), &Policy::default()).placements;
    let ports: BTreeSet<u16> = first.iter().map(|p| p.port).collect();
    assert_eq!((first.len(), ports.len()), (40, 40));
    assert_eq!(plan(&mut view, Tick(5), &Policy::default()).placements, first);
    assert_ne!(plan(&mut view, Tick(6), &Policy::default()).placements[0].port, first[0].port);
    assert!(first.into_iter().all(|placement| test.grant(placement).is_some()), "apply takes all of it");
}

#[test]
fn the_driver_and_its_cuda_are_known_to_constraints() {
    let mut test = TestState::with_worker(0);
    let incarnation = Incarnation("a".to_owned());
    let spec = WorkerSpec { cuda: (12, 4), driver: "550.54".to_owned(), ..worker_spec("w2", 8, 0) };
    test.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
    let task = TestJob::new().task(&[]).constraint("worker.cuda >= '12.3'");
    test.submit(&task.constraint("worker.driver >= '550.9'"));
    assert_eq!(planned(&test), [(1, 0, 2, vec![])]);
}

#[test]
fn linked_devices_are_found_or_waited_for() {
    let mut test = TestState::new();
    let mut spec = worker_spec("w1", 8, 4);
    for (n, device) in spec.devices.iter_mut().enumerate() {
        device.numa = Some(n as u16 / 2);
    }
    spec.devices[1].links = vec![Link { peer: 3, class: LinkClass::Nvlink, lanes: 4 }];
    let incarnation = Incarnation("a".to_owned());
    test.apply(Command::Register { spec: Box::new(spec), incarnation, held: Vec::new() });
    test.submit(&TestJob::new().task(&[]).gpus(2).link(GpuLink::Nvlink).priority(90));
    test.submit(&TestJob::new().task(&[]).gpus(2).link(GpuLink::SameNuma));
    assert_eq!(planned(&test), [(1, 0, 1, vec![1, 3])], "what is left is on two nodes");
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
    assert_eq!(plan(&mut view, Tick(0), &Policy::default()).placements, []);
}

#[test]
fn a_device_out_of_service_counts_as_taken_until_it_returns() {
    let mut test = TestState::with_worker(3);
    let job = test.submit(&TestJob::new().task(&[]).gpus(1));
    test.place(at(job, 0, 0), &[0]).expect("placed");
    test.submit(&TestJob::new().task(&[]).gpus(1));
    test.submit(&TestJob::new().task(&[]).gpus(1));
    let mut view = View::default();
    view.learn(test.state.full_delta());
    view.set_connected(WorkerId(1), true);
    let devices = |view: &mut View| -> Vec<u16> {
        let plan = plan(view, Tick(0), &Policy::default());
        plan.placements.iter().map(|p| p.seats[0].devices[0].device).collect()
    };
    assert_eq!(devices(&mut view), [1, 2]);

    // The one that is in use, and one that is free.
    for number in [0, 1] {
        let (request, uuid) = (test.request(), format!("w1-{number}"));
        let taken = test.apply(Command::QuarantineDevice { request, uuid, reason: String::new() });
        view.learn(test.state.delta(&taken.changes));
    }
    assert_eq!(devices(&mut view), [2]);
    // A view that begins now sees the same.
    assert_eq!(planned(&test).len(), 1);

    for number in [0, 1] {
        let (request, uuid) = (test.request(), format!("w1-{number}"));
        let back = test.apply(Command::ReturnDevice { request, uuid, reason: String::new() });
        view.learn(test.state.delta(&back.changes));
    }
    assert_eq!(devices(&mut view), [1, 2]);
}

/// (task, index) of what would be placed.
fn offered(view: &mut View) -> Vec<(u32, u32)> {
    let flat = |p: Placement| (p.at.task.0, p.at.index);
    plan(view, view.tick, &Policy::default()).placements.into_iter().map(flat).collect()
}

#[test]
fn what_was_proposed_is_not_offered_again_until_it_was_in_vain() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).task(&[]).array(2, None).task(&[]));
    let mut view = View::default();
    view.learn(test.state.full_delta());
    view.set_connected(WorkerId(1), true);
    assert_eq!(offered(&mut view), [(0, 0), (1, 0), (1, 1), (2, 0)]);

    let proposed = [at(job, 0, 0), at(job, 1, 1), at(job, 2, 0)];
    let proposed = proposed.map(|at| Placement::single(at, Seat::whole(WorkerId(1), &[])));
    view.take(&proposed);
    assert_eq!(offered(&mut view), [(1, 0)]);

    // One of them was placed all the same.
    test.place(at(job, 2, 0), &[]).expect("placed");
    view.learn(test.state.full_delta());
    view.take(&proposed);
    view.give_back(&proposed);
    assert_eq!(offered(&mut view), [(0, 0), (1, 0), (1, 1)]);
}

#[test]
fn what_waits_is_offered_when_it_is_due_unless_it_was_held() {
    let mut test = TestState::with_worker(0);
    let job = test.submit(&TestJob::new().task(&[]).array(3, None).retry(2, 1_000).task(&[]).retry(2, 500));
    test.run(at(job, 0, 1), Outcome::Exit(1));
    test.run(at(job, 1, 0), Outcome::Exit(1));
    let mut view = View::default();
    view.learn(test.state.full_delta());
    view.set_connected(WorkerId(1), true);
    assert_eq!(offered(&mut view), [(0, 0), (0, 2)]);
    assert_eq!(view.next_wake(), Some(Tick(500)));

    let request = test.request();
    let target = Target { task: Some(TaskNo(1)), ..whole(job) };
    let held = test.apply(Command::Hold { request, target });
    view.learn(test.state.delta(&held.changes));
    assert!(!view.wake(Tick(999)));
    assert!(view.wake(Tick(1_000)));
    assert_eq!(offered(&mut view), [(0, 0), (0, 1), (0, 2)]);
}

#[test]
fn an_array_is_planned_up_to_its_limit() {
    let mut test = TestState::with_worker(0);
    test.submit(&TestJob::new().task(&[]).array(1_000_000, Some(3)));
    assert_eq!(planned(&test).iter().map(|p| p.1).collect::<Vec<_>>(), [0, 1, 2]);
}
