//! I15: members that applied the same entries are equal, and a state restored from its rows is the state. (Digests along the way are
//! compared as entries are applied, and that each entry names the rows it changed; a restart restores from rows that were written a while ago.)

use crate::options::MEMBERS;
use crate::world::World;
use muster_core::command::Batch;
use muster_core::state::State;
use std::sync::Arc;

/// Everybody applies the same entry at an index: what was applied anywhere is never exchanged.
pub(crate) fn on_entry(world: &mut World, m: usize, index: u64, batch: &Arc<Batch>) {
    match world.oracle.entries.get(index as usize - 1) {
        None => world.oracle.entries.push(batch.clone()),
        Some(first) if Arc::ptr_eq(first, batch) => {}
        Some(_) => {
            world.violate(format!(
                "I15: member {m} applies another entry at index {index} than was applied before"
            ));
        }
    }
}

/// At the end: all members caught up and equal, and each equal to its rows.
pub(crate) fn check(world: &mut World) {
    let mut wrong = Vec::new();
    let first = world.members[0].state.digest();
    for m in 0..MEMBERS {
        let member = &world.members[m];
        if member.applied != world.cluster.log.len() as u64 {
            wrong.push(format!(
                "I15: member {m} stopped at {} of {}",
                member.applied,
                world.cluster.log.len()
            ));
        } else if member.state.digest() != first {
            wrong.push(format!("I15: members 0 and {m} differ at the end"));
        }
        let rows = member.state.keys().into_iter().filter_map(|k| member.state.row(&k).map(|r| (k, r)));
        match State::restore(rows) {
            Ok(again) if again.digest() == member.state.digest() => {}
            Ok(_) => wrong.push(format!("I15: member {m} is not what its rows say")),
            Err(error) => wrong.push(format!("I15: member {m}: {error}")),
        }
        if let Err(what) = member.state.check() {
            wrong.push(format!("I15: member {m}: {what}"));
        }
    }
    wrong.into_iter().for_each(|w| world.violate(w));
}
