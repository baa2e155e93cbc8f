//! I21: every thousandth of every device that is there is in one class at any moment. What was there, and what of it was taken, is counted
//! here apart: from registrations, losses, grants and ends alone.

use crate::options::MEMBERS;
use crate::world::World;
use muster_core::command::Command;
use muster_core::ledger::{Amount, Class, price};
use muster_core::model::fleet::Fleet;
use muster_core::model::ids::WorkerId;
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::model::worker::{WorkerSpec, WorkerState};
use std::collections::BTreeMap;

/// Parts of a device.
const WHOLE: u64 = 1_000;

/// What a worker has and costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct There {
    gpu_milli: u64,
    /// AttoUSD a millisecond.
    rate: u128,
}

/// What there was until a tick.
#[derive(Debug, Default)]
pub struct Capacity {
    at: u64,
    there: BTreeMap<WorkerId, There>,
    /// Thousandths of devices that live attempts have now.
    taken_now: u64,
    had: Amount,
    taken: u128,
}

fn there(spec: &WorkerSpec, fleet: &Fleet) -> There {
    let devices = spec.devices.len() as u64;
    let parts = if devices > 0 { devices * WHOLE } else { spec.cpu_milli };
    let price = price::micro_usd_per_hour(spec, fleet);
    There { gpu_milli: devices * WHOLE, rate: price::rate(price, parts) * u128::from(parts) }
}

/// A command was applied, for the first time; `m` applied it.
pub(crate) fn on_applied(world: &mut World, m: usize, command: &Command) {
    let state = &world.members[m].state;
    let books = &mut world.oracle.capacity;
    // 1. Until now it was as it was.
    let tick = state.tick().0;
    let ms = u128::from(tick - books.at);
    for worker in books.there.values() {
        books.had += Amount { time: ms * u128::from(worker.gpu_milli), money: ms * worker.rate };
    }
    books.taken += ms * u128::from(books.taken_now);
    books.at = tick;
    // 2. What it is from now on.
    let concerned = match command {
        Command::Register { spec, .. } => state.worker_named(&spec.name).map(|worker| worker.id),
        Command::LoseWorker { worker, .. } | Command::Forget { worker, .. } => Some(*worker),
        _ => None,
    };
    // Another price of a pool concerns whoever is there.
    let priced: Vec<WorkerId> = match command {
        Command::SetFleet { .. } => books.there.keys().copied().collect(),
        _ => Vec::new(),
    };
    for id in concerned.into_iter().chain(priced) {
        match state.worker(id).filter(|worker| worker.state != WorkerState::Lost) {
            Some(worker) => books.there.insert(id, there(&worker.spec, state.fleet())),
            None => books.there.remove(&id),
        };
    }
    let seats = world.oracle.live.values().flat_map(|(_, seats)| seats);
    let seats = seats.filter(|seat| books.there.contains_key(&seat.worker));
    books.taken_now = seats.flat_map(|seat| &seat.devices).map(|share| u64::from(share.milli)).sum();
}

/// Holds the books of a member against these.
pub(crate) fn compare(world: &mut World, m: usize) {
    let (state, books) = (&world.members[m].state, &world.oracle.capacity);
    let tick = state.tick();
    if tick != Tick(books.at) {
        return;
    }
    let classes = state.classes_at(Stamp { wall: Wall(0), tick });
    let unused = classes.of(Class::Idle).time + classes.of(Class::Unhealthy).time;
    let said = (classes.total(), classes.total().time - unused);
    let is = (books.had, books.taken);
    if said != is {
        world.violate(format!(
            "I21: the ledger of member {m} says {said:?}; there was, and was taken: {is:?}"
        ));
    }
}

/// Nothing was lost on the way: at the end too.
pub(crate) fn check(world: &mut World) {
    (0..MEMBERS).for_each(|m| compare(world, m));
}
