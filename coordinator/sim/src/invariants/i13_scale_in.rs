//! I13: no machine is ended by our orders with a live lease or a process on it, neither when the order is given nor when it is carried out;
//! nothing is placed on a worker that leaves; what is not known is not acted on; no pool grows over its max; and at rest no machine idles
//! while a gang waits that could run. Which workers leave, and what a leader was told, is counted here.
//!
//! What a provider does by itself is its own. So is one more, which nobody can call back: a worker that came while the order to end its
//! machine, which had none, was under way.

use crate::cloud::Errand;
use crate::world::World;
use muster_core::autoscale::{GroupReport, InstancePhase, Order};
use muster_core::command::Command;
use muster_core::event::Event;
use muster_core::model::ids::{Token, WorkerId};
use muster_core::model::job::IndexState;
use muster_core::model::placement::Seat;
use muster_core::model::worker::WorkerState;
use muster_core::reply::Reply;
use muster_core::state::Applied;
use std::collections::{BTreeMap, BTreeSet};

/// What a provider said is known for so long, ms (`autoscale::GROUP_STALE_MS`), …
const KNOWN_MS: u64 = 60_000;
/// … and as long as an entry of the log may take, since a leader reckons in the log's ticks.
const SLACK_MS: u64 = 2_000;
/// After the heal, a cluster in which nothing lives for so long while something waits is at rest, ms: machines boot in less, and a pool
/// whose machines failed to come is tried again within less.
const REST_MS: u64 = 360_000;

/// The books.
#[derive(Debug, Default)]
pub struct Leaving {
    workers: BTreeSet<WorkerId>,
    /// When a leader was last told of a pool's group, by member and pool: its term, when, and what.
    told: BTreeMap<(usize, String), (u64, u64, GroupReport)>,
    /// When a worker came: first, or again after it was lost.
    came: BTreeMap<WorkerId, u64>,
    lost: BTreeSet<WorkerId>,
    /// Since when nothing lives.
    idle_since: Option<u64>,
}

/// A command was applied and answered.
pub(crate) fn on_applied(world: &mut World, command: &Command, applied: &Applied) {
    let now = world.now;
    let leaving = &mut world.oracle.leaving;
    match (command, &applied.reply) {
        (Command::ScaleIn { workers, .. }, Reply::Changed { .. }) => {
            let changed = |id: &WorkerId| applied.events.contains(&Event::WorkerChanged { worker: *id });
            let chosen: Vec<WorkerId> = workers.iter().map(|(id, _)| *id).filter(changed).collect();
            leaving.workers.extend(&chosen);
            chosen.into_iter().for_each(|worker| world.somebody_objects(worker));
        }
        (Command::Undrain { .. }, Reply::Rejected(_)) => {}
        (Command::Undrain { worker, .. } | Command::Forget { worker, .. }, _) => {
            leaving.workers.remove(worker);
        }
        (Command::Register { .. }, Reply::Registered { worker })
            if leaving.lost.remove(worker) || !leaving.came.contains_key(worker) =>
        {
            leaving.came.insert(*worker, now);
        }
        (Command::LoseWorker { worker, .. }, Reply::Done) => {
            leaving.lost.insert(*worker);
        }
        _ => {}
    }
}

pub(crate) fn on_granted(world: &mut World, token: Token, seats: &[Seat]) {
    let leaving = &world.oracle.leaving.workers;
    if let Some(worker) = seats.iter().map(|seat| seat.worker).find(|worker| leaving.contains(worker)) {
        world.violate(format!("I13: token {token} was granted on worker {worker}, which leaves"));
    }
}

/// A leader hears what a group is.
pub(crate) fn on_told(world: &mut World, m: usize, term: u64, pool: &str, report: &GroupReport) {
    let now = world.now;
    world.oracle.leaving.told.insert((m, pool.to_owned()), (term, now, report.clone()));
}

fn knows(world: &World, m: usize, term: u64, pool: &str) -> bool {
    let told = world.oracle.leaving.told.get(&(m, pool.to_owned()));
    told.is_some_and(|(of, at, _)| *of == term && world.now <= at + KNOWN_MS + SLACK_MS)
}

/// What lives on the machine, in the true log and in truth: of leases the tokens.
fn lives_on(world: &World, pool: &str, id: &str) -> Option<(Option<WorkerId>, String)> {
    let w = world.cloud.groups.get(pool)?.instances.get(id)?.machine?;
    let machine = &world.machines[w];
    let state = &world.members[world.most_applied()].state;
    let worker = state.worker_named(&machine.spec.name).map(|worker| worker.id);
    let lives = |token: &Token, id| state.attempt(*token).is_some_and(|attempt| attempt.lives_on(id));
    let leases: Vec<Token> = worker.map_or_else(Vec::new, |id| {
        state.tokens_of(id).into_iter().filter(|token| lives(token, id)).collect()
    });
    let processes: Vec<Token> = machine.processes.keys().copied().collect();
    let lives = !leases.is_empty() || !processes.is_empty();
    lives.then(|| (worker, format!("leases {leases:?}, processes {processes:?}")))
}

/// A leader decides.
pub(crate) fn on_proposed(world: &mut World, m: usize, term: u64, commands: &[Command]) {
    for command in commands {
        let state = &world.members[m].state;
        let pool = match command {
            Command::ScaleIn { workers, .. } => {
                let pools = workers.iter().filter_map(|(id, _)| Some(state.worker(*id)?.spec.pool.clone()));
                pools.into_iter().find(|pool| !knows(world, m, term, pool))
            }
            Command::Scale { pool, scale, .. } => {
                let is_driven = state.fleet().pools.get(pool).is_some_and(|spec| spec.driven);
                let is_less = state.scales().get(pool).is_some_and(|known| scale.desired < known.desired);
                (is_driven && is_less && !knows(world, m, term, pool)).then(|| pool.clone())
            }
            _ => None,
        };
        if let Some(pool) = pool {
            world.violate(format!("I13: m{m} knows nothing of pool {pool} and decides {command:?}"));
        }
    }
}

/// A leader, or one that believes to be one, gives an order.
pub(crate) fn on_given(world: &mut World, m: usize, term: u64, pool: &str, order: &Order) {
    if !knows(world, m, term, pool) {
        world.violate(format!("I13: m{m} knows nothing of pool {pool} and orders {order:?}"));
    }
    match order {
        Order::Terminate(id) | Order::Release(id) => {
            if let Some((_, what)) = lives_on(world, pool, id) {
                world.violate(format!("I13: m{m} orders {order:?} in pool {pool} while it has {what}"));
            }
        }
        // What one that was replaced has heard, and since when not, is its own.
        Order::SetDesired(_) if (world.cluster.leader, world.cluster.term) != (Some(m), term) => {}
        Order::SetDesired(desired) => grows(world, m, pool, *desired),
        Order::Hold(_) | Order::Protect(_) => {}
    }
}

/// Not over the pool's max, as the member that orders it knows that; what is on its way out, as far as that was told, is beside it.
fn grows(world: &mut World, m: usize, pool: &str, desired: u32) {
    let state = &world.members[m].state;
    let (Some(group), Some(spec)) = (world.cloud.groups.get(pool), state.fleet().pools.get(pool)) else {
        return;
    };
    let Some((_, _, told)) = world.oracle.leaving.told.get(&(m, pool.to_owned())) else { return };
    let counted = told.instances.iter();
    let counted = counted.filter(|i| matches!(i.phase, InstancePhase::Booting | InstancePhase::InService));
    let goes_out = counted.filter(|instance| {
        let truth = group.instances.get(&instance.id);
        match state.worker_named(&format!("{pool}-{}", instance.id)) {
            Some(worker) => worker.state != WorkerState::Ready,
            None => truth.is_none_or(|truth| world.now > truth.since + spec.timing.boot_limit_ms),
        }
    });
    let limit = spec.max + goes_out.count() as u32;
    let there = group.counted().max(told.desired);
    if desired > limit && desired > there {
        world.violate(format!(
            "I13: m{m} orders {desired} machines in pool {pool}, which may have {limit} and has {there}"
        ));
    }
}

/// The provider carries out an order that ends this machine.
pub(crate) fn on_executed(world: &mut World, errand: &Errand, id: &str) {
    let Some((worker, what)) = lives_on(world, &errand.pool, id) else { return };
    let came = worker.and_then(|worker| world.oracle.leaving.came.get(&worker)).copied();
    if came.is_some_and(|came| came > errand.given) {
        return;
    }
    world.violate(format!("I13: {:?} of pool {} ends {id} while it has {what}", errand.order, errand.pool));
}

/// Now and then: whether the cluster has come to rest with a gang that waits for machines that idle.
pub(crate) fn at_a_moment(world: &mut World) {
    let state = &world.members[world.most_applied()].state;
    let lives = !world.oracle.live.is_empty();
    let waits = state.jobs().filter(|job| !job.state().is_terminal()).find_map(|job| {
        let mut gangs = job.tasks.iter().zip(0..).filter(|(task, no)| {
            let spec = world.oracle.reference.spec(job.id);
            let is_gang = spec.is_some_and(|spec| spec.common(&spec.tasks[*no as usize]).gang.is_some());
            let indices = &task.indices;
            is_gang && (0..indices.len()).any(|i| indices.state(i) == Some(IndexState::Pending))
        });
        gangs.next().map(|(_, no): (_, u32)| (job.id, no))
    });
    let idles = state
        .workers()
        .find(|w| w.state == WorkerState::Ready && world.cloud.groups.contains_key(&w.spec.pool));
    let idles = idles.map(|worker| worker.spec.pool.clone());
    let (now, is_healed) = (world.now, world.healed);
    let since = &mut world.oracle.leaving.idle_since;
    let (Some((job, task)), Some(pool)) = (waits.filter(|_| is_healed && !lives), idles) else {
        *since = None;
        return;
    };
    if now > *since.get_or_insert(now) + REST_MS {
        world.violate(format!("I13: gang {job}.{task} waits for ever while machines of pool {pool} idle"));
    }
}

/// Everything has ended, and there was time: what idles has gone.
pub(crate) fn check(world: &mut World) {
    if !world.violations.is_empty() || !world.cloud.is_there() || world.is_at_min() {
        return;
    }
    let state = &world.members[world.most_applied()].state;
    let workers: Vec<String> = state
        .workers()
        .filter(|w| world.cloud.groups.contains_key(&w.spec.pool))
        .map(|w| format!("{} {:?} {:?}", w.spec.name, w.state, w.drain))
        .collect();
    let groups = world
        .cloud
        .groups
        .iter()
        .map(|(name, group)| format!("{name}: desired {} of {:?}", group.desired, group.instances));
    let groups: Vec<String> = groups.collect();
    let scales = state.scales();
    let what = format!("I13: idle machines stay: {groups:?}; workers {workers:?}; scales {scales:?}");
    world.violate(what);
}
