//! I9: all ranks of a gang are placed or none; it ends only when nothing of it lives any more, in truth and on any machine, so that no two
//! generations of it ever run beside each other; and it succeeds only when every rank has. What it asked for is read in the job as its
//! client wrote it.

use crate::world::World;
use muster_core::model::attempt::{Cause, Outcome};
use muster_core::model::gang::Gang;
use muster_core::model::ids::{IndexRef, Token, WorkerId};
use muster_core::model::placement::Seat;
use std::collections::BTreeSet;

/// The gang that this index is, if it is one.
pub(crate) fn gang(world: &World, at: IndexRef) -> Option<Gang> {
    let spec = world.oracle.reference.spec(at.job)?;
    spec.common(&spec.tasks[at.task.0 as usize]).gang.as_deref().cloned()
}

pub(crate) fn on_granted(world: &mut World, at: IndexRef, token: Token, seats: &[Seat]) {
    let workers: BTreeSet<WorkerId> = seats.iter().map(|s| s.worker).collect();
    let asked = gang(world, at);
    let fits = asked.as_ref().map_or(seats.len() == 1, |gang| gang.takes(seats.len()));
    if !fits || workers.len() != seats.len() {
        let what =
            format!("I9: token {token} of {at:?} was granted {seats:?}, and the job asks for {asked:?}");
        world.violate(what);
    }
}

/// A rank starts: nothing of an older generation lives.
pub(crate) fn on_start(world: &mut World, w: usize, token: Token, at: IndexRef) {
    if gang(world, at).is_none() {
        return;
    }
    let running = world.oracle.running.get(&at).into_iter().flatten();
    let older: Vec<(usize, Token)> = running.filter(|(_, other)| *other != token).copied().collect();
    if !older.is_empty() {
        world.violate(format!(
            "I9: {at:?} starts on w{w} under token {token} while of another generation {older:?} live (machine, token)"
        ));
    }
}

pub(crate) fn on_ended(world: &mut World, at: IndexRef, token: Token, cause: &Cause) {
    if gang(world, at).is_none() {
        return;
    }
    let running = world.oracle.running.get(&at).into_iter().flatten();
    let alive: Vec<usize> = running.filter(|(_, other)| *other == token).map(|(w, _)| *w).collect();
    if !alive.is_empty() {
        world.violate(format!("I9: token {token} of {at:?} ended {cause} while ranks live on {alive:?}"));
    }
    let ranks = world.oracle.granted.get(&token).map_or(0, |(_, workers)| workers.len());
    let succeeded = world.oracle.outcomes.get(&token).into_iter().flat_map(|all| all.values());
    let succeeded = succeeded.filter(|o| **o == Outcome::Exit(0)).count();
    if *cause == Cause::Exit(0) && succeeded != ranks {
        world.violate(format!(
            "I9: token {token} of {at:?} succeeded although {succeeded} of its {ranks} ranks did"
        ));
    }
}
