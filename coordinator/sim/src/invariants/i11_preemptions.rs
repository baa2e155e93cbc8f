//! I11, of machines that go: nothing is placed on a worker after a notice of it is in the log, and what a notice evicts is never charged. Which
//! workers are under one is counted here from the commands alone.

use crate::world::World;
use muster_core::command::Command;
use muster_core::event::Event;
use muster_core::model::attempt::{Cause, StopReason};
use muster_core::model::ids::{IndexRef, Token, WorkerId};
use muster_core::model::notice::NoticeKind;
use muster_core::model::placement::Seat;
use muster_core::model::worker::Incarnation;
use muster_core::reply::Reply;
use muster_core::state::Applied;
use std::collections::{BTreeMap, BTreeSet};

/// Workers under a notice.
#[derive(Debug, Default)]
pub struct Going {
    workers: BTreeMap<WorkerId, Incarnation>,
    /// The last incarnation of each that registered.
    registered: BTreeMap<WorkerId, Incarnation>,
    /// Attempts that were on them, and that nothing else had stopped before. Not of gangs: a rank may have failed before.
    evicted: BTreeSet<Token>,
    timed_out: BTreeSet<Token>,
}

/// A command was applied and answered.
pub(crate) fn on_applied(world: &mut World, command: &Command, applied: &Applied) {
    let oracle = &mut world.oracle;
    let going = &mut oracle.going;
    match (command, &applied.reply) {
        (Command::Register { incarnation, .. }, Reply::Registered { worker }) => {
            let old = going.registered.insert(*worker, incarnation.clone());
            // Another incarnation is another machine.
            going.workers.retain(|id, _| id != worker || old.as_ref() == Some(incarnation));
        }
        (Command::Stop { tokens, reason: StopReason::Timeout }, _) => going.timed_out.extend(tokens),
        // What changes nothing, a call made twice among it, has no event.
        (Command::Notice { worker, notice, .. }, Reply::Changed { .. })
            if applied.events.contains(&Event::WorkerChanged { worker: *worker }) =>
        {
            if notice.kind == NoticeKind::Withdrawn {
                going.workers.remove(worker);
                return;
            }
            let incarnation = going.registered.get(worker).cloned().unwrap_or_default();
            going.workers.insert(*worker, incarnation);
            if notice.kind == NoticeKind::Preemption {
                let here = oracle.live.iter().filter(|(token, (_, seats))| {
                    seats.len() == 1 && seats[0].worker == *worker && !going.timed_out.contains(token)
                });
                going.evicted.extend(here.map(|(token, _)| *token));
            }
        }
        _ => {}
    }
}

pub(crate) fn on_granted(world: &mut World, token: Token, seats: &[Seat]) {
    let going = &world.oracle.going.workers;
    if let Some(worker) = seats.iter().map(|seat| seat.worker).find(|worker| going.contains_key(worker)) {
        world.violate(format!("I11: token {token} was granted on worker {worker}, whose machine goes"));
    }
}

pub(crate) fn on_ended(world: &mut World, at: IndexRef, token: Token, cause: &Cause) {
    if world.oracle.going.evicted.remove(&token) && cause.is_charged() {
        world
            .violate(format!("I11: token {token} of {at:?} was evicted by a notice and is charged: {cause}"));
    }
}
