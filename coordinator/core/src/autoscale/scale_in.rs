//! Which workers go: only those that nobody needs, unless there are more than the pool may have. Empty before busy, the least work to lose
//! first, then the oldest image, then the oldest machine.

use super::pools::Pool;
use super::situation::{Machine, MachineState, Situation};
use crate::model::ids::WorkerId;
use std::collections::BTreeMap;

/// The workers of the pool that are to go, the first one first. `idle_needed`: idle ones that something waits for, by kind.
pub(super) fn choose(
    situation: &Situation<'_>,
    pool: &Pool<'_>,
    idle_needed: &BTreeMap<u64, u32>,
) -> Vec<WorkerId> {
    let now = situation.now;
    let cooldown = pool.spec.timing.scale_in_cooldown_ms;
    let here = |machine: &&Machine<'_>| {
        machine.spec.pool == pool.name
            && !matches!(machine.state, MachineState::Leaving | MachineState::Unheard)
    };
    let mut machines: Vec<&Machine<'_>> = situation.machines.iter().filter(here).collect();
    // An image is as old as the first machine that came with it.
    let mut images: BTreeMap<&str, u64> = BTreeMap::new();
    for machine in &machines {
        let first = images.entry(machine.image.unwrap_or_default()).or_insert(u64::MAX);
        *first = (*first).min(machine.joined.0);
    }
    let age = |machine: &Machine<'_>| images.get(machine.image.unwrap_or_default()).copied();
    machines.sort_by_key(|m| (m.idle_since.is_none(), m.at_risk_ms, age(m), m.joined, m.id));
    // More than there may be: whoever loses least goes, busy or not.
    let excess = pool.current.saturating_sub(pool.spec.max) as usize;
    let mut chosen: Vec<WorkerId> = machines.iter().take(excess).map(|m| m.id).collect();
    // It grew a moment ago: what is idle now may be what was bought.
    if pool.bought > 0 || pool.scale.grown.is_some_and(|grown| now.since(grown) < cooldown) {
        return chosen;
    }
    let may_go = pool.current.saturating_sub(pool.spec.min) as usize;
    let mut needed = idle_needed.clone();
    // Of those that are needed the last ones stay.
    let mut idle: Vec<&Machine<'_>> = Vec::new();
    for machine in machines.iter().rev().filter(|m| m.idle_since.is_some() && !chosen.contains(&m.id)) {
        match needed.get_mut(&machine.kind).filter(|n| **n > 0 && machine.state == MachineState::Ready) {
            Some(n) => *n -= 1,
            None => idle.push(machine),
        }
    }
    let rested = idle.into_iter().rev().filter(|m| m.idle_since.is_some_and(|s| now.since(s) >= cooldown));
    chosen.extend(rested.take(may_go.saturating_sub(excess)).map(|m| m.id));
    if pool.spec.timing.step_max > 0 {
        chosen.truncate(pool.spec.timing.step_max as usize);
    }
    chosen
}
