//! I3: at most one process of an index lives, in truth, whatever anyone believes.

use super::i9_gangs;
use crate::world::World;
use muster_core::model::ids::{IndexRef, Token};

pub(crate) fn on_start(world: &mut World, w: usize, token: Token, at: IndexRef) {
    let others = world.oracle.running.get(&at).into_iter().flatten();
    // The other ranks of a gang run under the same token, each on another machine.
    let is_gang = i9_gangs::gang(world, at).is_some();
    let others: Vec<(usize, Token)> =
        others.filter(|(m, t)| !is_gang || *m == w || *t != token).copied().collect();
    if !others.is_empty() {
        world.violate(format!(
            "I3: {at:?} starts on w{w} under token {token} while it runs as {others:?} (machine, token)"
        ));
    }
}

/// After the quiet nothing runs, and no worker holds anything.
pub(crate) fn at_the_end(world: &mut World) {
    let running = world.oracle.running.clone();
    if !running.is_empty() {
        world.violate(format!("I3: every job has ended and {running:?} still run"));
    }
    for w in 0..world.machines.len() {
        let held = world.machines[w].held();
        if !held.is_empty() {
            world.violate(format!("I3: every job has ended and w{w} still holds {held:?}"));
        }
    }
}
