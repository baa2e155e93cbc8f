//! I2: tokens only grow, an attempt ends once and from its own token, and an index succeeds once.

use crate::world::World;
use muster_core::model::attempt::Cause;
use muster_core::model::ids::{IndexRef, Token};

pub(crate) fn on_placed(world: &mut World, at: IndexRef, token: Token, index: u64) {
    if token <= world.oracle.last_token || token.0 < index {
        world.violate(format!(
            "I2: token {token} was granted at index {index} after {}",
            world.oracle.last_token
        ));
    }
    if let Some((other, _)) = world.oracle.live.iter().find(|(_, live)| live.0 == at) {
        world.violate(format!("I2: {at:?} was granted token {token} while {other} lives"));
    }
}

pub(crate) fn on_ended(world: &mut World, at: IndexRef, token: Token, cause: &Cause) {
    if world.oracle.live.get(&token).is_none_or(|live| live.0 != at) {
        world.violate(format!("I2: token {token} of {at:?} ended {cause} and did not live"));
    }
    if *cause == Cause::Exit(0)
        && let Some(first) = world.oracle.succeeded.insert(at, token)
    {
        world.violate(format!("I2: {at:?} succeeded under token {first} and again under {token}"));
    }
}
