//! I5: no task starts before its parents allow it. Told from the job as its client wrote it and the history of accepted results
//! (`reference.rs`), never from the state's own books.

use crate::reference::Place;
use crate::world::World;
use muster_core::model::ids::{IndexRef, TaskNo, Token, WorkerId};

/// A grant: the needs hold now.
pub(crate) fn on_placed(world: &mut World, at: IndexRef) {
    if !world.oracle.reference.allows(at) {
        world.violate(format!("I5: {at:?} was granted before its parents allowed it"));
    }
}

/// A start in truth: under a grant to this machine, and its needs have held at some time. (A rerun of the parents may have come between
/// the grant and the start.)
pub(crate) fn on_start(world: &mut World, w: usize, token: Token, at: IndexRef) {
    // Members may all have started again and know less than was committed.
    let here = world.oracle.workers.get(&world.machines[w].spec.name).copied();
    let is_granted = |(to, workers): &(IndexRef, Vec<WorkerId>)| {
        *to == at && here.is_some_and(|here| workers.contains(&here))
    };
    if !world.oracle.granted.get(&token).is_some_and(is_granted) {
        world.violate(format!(
            "I5: {at:?} starts on w{w} under token {token}, which was not granted for that"
        ));
    }
    if !world.oracle.reference.allowed(at) {
        world.violate(format!("I5: {at:?} starts and its parents have never allowed it"));
    }
}

/// At the end: every index is where the book says.
pub(crate) fn check(world: &mut World) {
    let state = &world.members[world.most_applied()].state;
    let mut wrong = Vec::new();
    for job in state.jobs() {
        for (no, task) in job.tasks.iter().enumerate() {
            for index in 0..task.indices.len() {
                let at = IndexRef::new(job.id, TaskNo(no as u32), index);
                let (is, told) = (task.indices.state(index).map(Place::of), world.oracle.reference.place(at));
                if is != told {
                    wrong.push(format!("I5: {at:?} ended {is:?}, by the book {told:?}"));
                }
            }
        }
    }
    wrong.into_iter().for_each(|w| world.violate(w));
}
