//! I2: tokens only grow, an attempt ends once and from its own token, with what its own process did; an index succeeds once; and no worker
//! is told that an end is durable before it is.

use crate::world::World;
use muster_core::model::attempt::{Cause, Outcome};
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
    // Of a gang, one of its ranks ended like this; that all of them succeeded is I9's.
    let truth = world.oracle.outcomes.get(&token);
    let told = match cause {
        Cause::Exit(code) => Some(Outcome::Exit(*code)),
        Cause::Signal(n) => Some(Outcome::Signal(*n)),
        Cause::Oom => Some(Outcome::Oom),
        Cause::Contract(name) => Some(Outcome::ContractOutput(name.clone())),
        _ => None,
    };
    if told.is_some_and(|told| !truth.is_some_and(|all| all.values().any(|o| *o == told))) {
        let truth = format!("{truth:?}");
        world
            .violate(format!("I2: {cause} was accepted for token {token} of {at:?}, whose process: {truth}"));
    }
    if *cause == Cause::Exit(0)
        && let Some(first) = world.oracle.succeeded.insert(at, token)
    {
        world.violate(format!("I2: {at:?} succeeded under token {first} and again under {token}"));
    }
}

/// A worker hears that it may forget these.
pub(crate) fn on_settled(world: &mut World, w: usize, tokens: &[Token]) {
    for token in tokens.iter().filter(|t| !world.oracle.ended.contains(t)).copied().collect::<Vec<_>>() {
        world.violate(format!("I2: w{w} may forget the end of token {token}, which is not in the log"));
    }
}
