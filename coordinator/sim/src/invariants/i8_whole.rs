//! I8: what is committed is whole in the store, of every rank, by the token that lives; and nobody is told that something is committed which
//! is not in the log.

use crate::saver::is_single;
use crate::store::{There, digest};
use crate::world::World;
use muster_core::model::checkpoint::Verdict;
use muster_core::model::ids::{IndexRef, Token};

pub(crate) fn on_committed(world: &mut World, m: usize, at: IndexRef, token: Token, step: u64) {
    let Some(seats) = world.oracle.live.get(&token).filter(|live| live.0 == at).map(|live| live.1.len())
    else {
        world
            .violate(format!("I8: step {step} of {at:?} is committed by token {token}, which does not live"));
        return;
    };
    let ranks = if is_single(&world.options, at) { 1 } else { seats };
    let kept = world.members[m].state.checkpoints(at);
    // Of several in one entry, only the last are kept.
    let Some(checkpoint) = kept.iter().find(|c| (c.step, c.token) == (step, token)).cloned() else { return };
    if checkpoint.parts.len() != ranks {
        let parts = checkpoint.parts.len();
        world.violate(format!(
            "I8: step {step} of {at:?} is committed with {parts} parts, and {ranks} ranks save (token {token})"
        ));
    }
    for (rank, part) in (0..).zip(&checkpoint.parts) {
        let place = (token, step, rank);
        let there = world.store.shelves.get(&at).map_or(There::Torn, |shelf| shelf.there(place));
        if there == There::Torn || part.manifest != digest(at, place) {
            world.violate(format!("I8: {place:?} of {at:?} is committed and in the store it is {there:?}"));
        }
    }
}

/// A worker is told what became of a step.
pub(crate) fn on_verdict(world: &mut World, w: usize, token: Token, step: u64, verdict: &Verdict) {
    let in_log = world.oracle.saves.by_token.get(&token).is_some_and(|newest| step <= *newest);
    if matches!(verdict, Verdict::Committed { .. }) && !in_log {
        world.violate(format!("I8: w{w} is told that step {step} of token {token} is committed"));
    }
    // What is newer than all is refused to nobody who lives.
    let live = world.oracle.live.get(&token).filter(|(_, seats)| seats.len() == 1);
    if let (Verdict::Refused(why), Some((at, _))) = (verdict, live) {
        let newest = world.oracle.saves.all.get(at).and_then(|all| all.last()).map(|(newest, _)| *newest);
        let runs = world.machines[w].processes.contains_key(&token);
        if runs && newest.is_none_or(|newest| newest < step) {
            world.violate(format!("I7: step {step} of token {token} is refused ({why}) after {newest:?}"));
        }
    }
}
