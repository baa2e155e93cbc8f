//! I20: nothing that waits for a time comes before it. The log's ticks are the leader's clock, and no leader's clock runs ahead.

use crate::world::World;
use muster_core::model::attempt::Cause;
use muster_core::model::ids::{IndexRef, Token};

/// An attempt that ended by its timeout has truly run for that long.
pub(crate) fn on_ended(world: &mut World, at: IndexRef, token: Token, cause: &Cause) {
    if *cause != Cause::Timeout {
        return;
    }
    let Some(spec) = world.oracle.reference.spec(at.job) else { return };
    let timeout = spec.common(&spec.tasks[at.task.0 as usize]).timeout_ms;
    let ran = world.oracle.started.get(&token).map(|started| world.now - started);
    if ran.is_none() || ran < timeout {
        world.violate(format!("I20: token {token} of {at:?} timed out after {ran:?} ms of {timeout:?}"));
    }
}

/// The tick of an entry is never ahead of true time.
pub(crate) fn on_entry(world: &mut World, tick: u64) {
    if tick > world.now {
        world.violate(format!("I20: the log's tick is {tick} at {} ms", world.now));
    }
}
