//! A task that waits for a spot worker is looked at again in time, though nothing else happens.

use super::Input;
use super::leader_test::Rig;
use crate::command::Command;
use crate::model::worker::{Incarnation, WorkerSpec};
use crate::state::test_state::{TestJob, at, worker_spec};

const MINUTE: u64 = 60_000;

#[test]
fn a_gap_is_waited_for_and_on_demand_taken_while_there_is_still_time() {
    let mut rig = Rig::new();
    let spec = WorkerSpec { spot: true, pool: "spot".to_owned(), ..worker_spec("w2", 8, 0) };
    rig.apply(Command::Register {
        spec: Box::new(spec),
        incarnation: Incarnation("a".to_owned()),
        held: Vec::new(),
    });
    let job = rig.test.submit(&TestJob::new().task(&[]).deadline(180 * MINUTE, 60 * MINUTE));
    rig.leader.step(0, Input::Elected { term: 1, state: Box::new(rig.test.state.full_delta()) });
    rig.open_of(1, 1, "a");
    while rig.test.state.attempt_of(at(job, 0, 0)).is_none() {
        assert!(rig.now < 180 * MINUTE, "it never began");
        rig.beat(1, &[]);
        rig.now += 5_000;
        rig.test.tick = rig.now;
    }
    let began = rig.now / MINUTE;
    assert!((60..=100).contains(&began), "after {began} min");
}
