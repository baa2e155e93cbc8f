//! I10: what has ended stays ended, and a cancel that was applied before the result wins, until somebody asks for a rerun.

use crate::world::World;
use muster_core::model::attempt::Cause;
use muster_core::model::ids::IndexRef;

pub(crate) fn on_placed(world: &mut World, at: IndexRef) {
    if world.oracle.finals.contains(&at) {
        world.violate(format!("I10: {at:?} had ended and was granted again"));
    }
    if world.oracle.cancelled.contains(&at) {
        world.violate(format!("I10: {at:?} was cancelled and was granted again"));
    }
}

pub(crate) fn on_ended(world: &mut World, at: IndexRef, cause: &Cause) {
    if world.oracle.cancelled.contains(&at) && *cause == Cause::Exit(0) {
        world.violate(format!("I10: {at:?} was cancelled first, and its success was accepted"));
    }
}
