//! I7: an attempt begins from the newest checkpoint that was committed, and steps never go back: not from one commit to the next, and not
//! over attempts. What is kept is the newest of what was committed, and all of it is in the store. Only one that its store has lost makes
//! way for an older one. Counted here from the events alone.

use crate::store::There;
use crate::world::World;
use muster_agent::StartOrder;
use muster_core::model::attempt::{Cause, Outcome};
use muster_core::model::checkpoint::Checkpoint;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::job_spec::CheckpointSpec;
use std::collections::BTreeMap;

/// The books.
#[derive(Debug, Default)]
pub struct Saves {
    /// What was committed of each index and can be used, the oldest first.
    pub all: BTreeMap<IndexRef, Vec<(u64, Token)>>,
    /// The newest step of each attempt that committed any.
    pub by_token: BTreeMap<Token, u64>,
    /// Where each attempt has to begin.
    from: BTreeMap<Token, Option<(u64, Token)>>,
}

fn names(kept: &[Checkpoint]) -> Vec<(u64, Token)> {
    kept.iter().map(|c| (c.step, c.token)).collect()
}

pub(crate) fn on_placed(world: &mut World, m: usize, at: IndexRef, token: Token) {
    let newest = world.oracle.saves.all.get(&at).and_then(|all| all.last()).copied();
    world.oracle.saves.from.insert(token, newest);
    let resumed = world.members[m].state.attempt(token).and_then(|attempt| attempt.progress.resumed);
    if resumed != newest.map(|(step, _)| step) {
        let what =
            format!("I7: token {token} of {at:?} begins from {resumed:?}, and the newest is {newest:?}");
        world.violate(what);
    }
}

pub(crate) fn on_committed(world: &mut World, m: usize, at: IndexRef, token: Token, step: u64) {
    // Another rank of its gang may have said, and ended with it, that it cannot use what this one began from.
    forget_unusable(world, m, at, token);
    let all = world.oracle.saves.all.entry(at).or_default();
    let newest = all.last().copied();
    all.push((step, token));
    let all = all.clone();
    world.oracle.saves.by_token.insert(token, step);
    if newest.is_some_and(|(before, _)| before >= step) {
        world.violate(format!("I7: step {step} of {at:?} is committed by token {token} after {newest:?}"));
    }
    let Some(spec) = world.oracle.reference.spec(at.job) else { return };
    let spec = spec.common(&spec.tasks[at.task.0 as usize]).checkpoint.as_deref();
    let keep = spec.map_or(CheckpointSpec::default().keep, |spec| spec.keep) as usize;
    let kept = names(world.members[m].state.checkpoints(at));
    // A later commit of the same entry is looked at with that one.
    if kept.last().is_none_or(|last| last.0 <= step) && kept != all[all.len().saturating_sub(keep)..] {
        let what = format!("I7: of {at:?} {kept:?} are kept, and the newest {keep} are the last of {all:?}");
        world.violate(what);
    }
}

/// An attempt ended.
pub(crate) fn on_ended(world: &mut World, m: usize, at: IndexRef, token: Token) {
    forget_unusable(world, m, at, token);
}

/// Had the attempt found what it was to begin from gone, in truth, that is not kept any more.
fn forget_unusable(world: &mut World, m: usize, at: IndexRef, token: Token) {
    let Some(Some(from)) = world.oracle.saves.from.get(&token).copied() else { return };
    let ends = world.oracle.outcomes.get(&token).into_iter().flat_map(BTreeMap::values);
    let bad = |end: &Outcome| matches!(end, Outcome::BadCheckpoint { step, .. } if *step == from.0);
    let found = ends.into_iter().any(bad);
    let kept = names(world.members[m].state.checkpoints(at));
    if let Some(all) = world.oracle.saves.all.get_mut(&at)
        && found
        && all.last() == Some(&from)
        && !kept.contains(&from)
    {
        all.pop();
        // What is older than all that was kept is gone for good.
        all.retain(|saved| kept.contains(saved));
    }
}

/// Exit 85 is no failure if the attempt has committed something, and one if not.
pub(crate) fn on_exit(world: &mut World, at: IndexRef, token: Token, cause: &Cause) {
    let saved = world.oracle.saves.by_token.contains_key(&token);
    if (*cause == Cause::Saved && !saved) || (*cause == Cause::Exit(85) && saved) {
        let charged = cause.is_charged();
        world.violate(format!(
            "I11: token {token} of {at:?} exits with 85, has saved: {saved}, is charged: {charged}"
        ));
    }
}

/// A worker is about to start what it was ordered.
pub(crate) fn on_order(world: &mut World, w: usize, order: &StartOrder) {
    let (at, token) = (order.at, order.token);
    let resume = order.launch.resume.as_ref();
    let ordered = resume.map(|r| (r.step, r.token));
    let Some(from) = world.oracle.saves.from.get(&token).copied() else { return };
    if ordered != from {
        world.violate(format!(
            "I7: w{w} is to begin token {token} of {at:?} from {ordered:?}, and the newest was {from:?}"
        ));
    }
    if let Some(resume) = resume {
        world.oracle.seen.insert("Resumed".to_owned());
        let place = (resume.token, resume.step, resume.rank);
        let there = world.store.shelves.get(&at).map_or(There::Torn, |shelf| shelf.there(place));
        // One that is over begins in vain: others have gone on, and what it was to begin from may be collected.
        if there == There::Torn && world.oracle.live.contains_key(&token) {
            world.violate(format!("I7: token {token} of {at:?} begins from {place:?}, which is not whole"));
        }
    }
}

/// After the quiet: all that is kept can be used, but for what decayed.
pub(crate) fn at_the_end(world: &mut World) {
    let state = &world.members[world.most_applied()].state;
    let mut wrong = Vec::new();
    for job in state.jobs().map(|job| job.id) {
        let of_job = world.oracle.saves.all.iter().filter(|(at, _)| at.job == job);
        for (at, all) in of_job.filter(|(_, all)| !all.is_empty()) {
            let kept = state.checkpoints(*at);
            if kept.last().map(|c| (c.step, c.token)) != all.last().copied() {
                wrong.push(format!("I7: of {at:?} {:?} are kept at the end of {all:?}", names(kept)));
            }
            let shelf = world.store.shelves.get(at);
            for checkpoint in kept {
                let ranks = 0..checkpoint.parts.len() as u32;
                let mut places = ranks.map(|rank| (checkpoint.token, checkpoint.step, rank));
                let torn = places.find(|p| shelf.is_none_or(|shelf| shelf.there(*p) == There::Torn));
                wrong.extend(torn.map(|place| format!("I7: {place:?} of {at:?} is kept and not whole")));
            }
        }
    }
    wrong.into_iter().for_each(|what| world.violate(what));
}
