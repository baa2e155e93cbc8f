//! Foreign processes on devices, from the measurement to the plan.

use super::{Input, Leader, Output, SessionId};
use crate::command::Command;
use crate::model::ids::WorkerId;
use crate::model::placement::Share;
use crate::model::worker::Incarnation;
use crate::state::test_state::{TestJob, TestState};

fn measured(leader: &mut Leader, computing: &[&str]) {
    let computing = computing.iter().map(|uuid| (*uuid).to_owned()).collect();
    leader.step(20, Input::Measured { worker: WorkerId(1), computing, empty: Vec::new() });
}

/// A leader that hears the one worker, of three GPUs.
fn leading(test: &TestState) -> Leader {
    let (session, worker) = (SessionId(1), WorkerId(1));
    let mut leader = Leader::new();
    leader.step(0, Input::Elected { term: 1, state: Box::new(test.state.full_delta()) });
    let incarnation = Incarnation("a".to_owned());
    leader.step(0, Input::SessionOpened { session, worker, incarnation, held: Vec::new() });
    leader.step(1, Input::Heartbeat { session, seq: 1, held: Vec::new() });
    leader.step(1, Input::Tick);
    leader.step(1, Input::Confirmed { batch: 1, ok: true });
    leader
}

/// A job of one task that asks for so many GPUs comes; the devices that it is to get.
fn planned(test: &mut TestState, leader: &mut Leader, gpus: u32) -> Vec<u16> {
    let request = test.request();
    let spec = TestJob::new().task(&[]).gpus(gpus).bytes();
    let applied = test.apply(Command::Submit { request, spec, parts: 0, forecast_micro_usd: None });
    leader.step(30, Input::Delta(Box::new(test.state.delta(&applied.changes))));
    let mut proposed = leader.step(30, Input::Tick).into_iter().filter_map(|output| match output {
        Output::Propose { id, commands } => Some((id, commands)),
        _ => None,
    });
    let (id, commands) = proposed.next_back().expect("a plan");
    let Some(Command::ApplyPlan { placements }) = commands.first() else { panic!("{commands:?}") };
    let devices: Vec<Share> = placements.last().expect("a placement").seats[0].devices.clone();
    let applied = test.apply(commands[0].clone());
    leader.step(30, Input::Delta(Box::new(test.state.delta(&applied.changes))));
    leader.step(30, Input::Proposed { id, replies: Some(vec![applied.reply]) });
    devices.iter().map(|share| share.device).collect()
}

#[test]
fn a_device_on_which_somebody_else_computes_is_given_last() {
    let mut test = TestState::with_worker(3);
    let mut leader = leading(&test);
    // Seen once it may be the end of a task of ours.
    measured(&mut leader, &["w1-0"]);
    measured(&mut leader, &[]);
    measured(&mut leader, &["w1-0", "w1-1"]);
    measured(&mut leader, &["w1-0"]);
    assert_eq!(planned(&mut test, &mut leader, 1), [1]);
    assert_eq!(planned(&mut test, &mut leader, 1), [2]);
    // Our own tasks compute there: no foreign use. The last one is given all the same, for nothing is refused that fits.
    measured(&mut leader, &["w1-0", "w1-1", "w1-2"]);
    measured(&mut leader, &["w1-0", "w1-1", "w1-2"]);
    assert_eq!(planned(&mut test, &mut leader, 1), [0]);
}
