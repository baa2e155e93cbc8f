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
        Cause::Saved => Some(Outcome::Exit(85)),
        Cause::BadCheckpoint { step, reason } => {
            Some(Outcome::BadCheckpoint { step: *step, reason: reason.clone() })
        }
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
    let state = &world.members[world.most_applied()].state;
    let worker = world.oracle.workers.get(&world.machines[w].spec.name).copied();
    // A rank of a gang may have ended while others go on; members may all have started again since and know less than was committed.
    let rank_ended = |token: &Token| {
        let answered = worker.is_some_and(|worker| world.oracle.answered.contains(&(worker, *token)));
        let attempt = state.attempt(*token);
        answered || attempt.zip(worker).is_some_and(|(attempt, worker)| !attempt.lives_on(worker))
    };
    let early: Vec<Token> =
        tokens.iter().filter(|t| !world.oracle.ended.contains(t) && !rank_ended(t)).copied().collect();
    for token in early {
        world.violate(format!("I2: w{w} may forget the end of token {token}, which is not in the log"));
    }
}
