//! The decision: what is wanted of each pool, and why.

use super::pools::{Left, Pool, pools};
use super::situation::{Decision, PoolDecision, Situation};
use super::{RETRY_FIRST_MS, RETRY_LAST_MS, demand, scale_in};
use crate::model::ids::WorkerId;
use std::collections::BTreeMap;

/// What is to be done, pool by pool in the order of their names.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    // 1. What is there, what is coming, and how much more there may be.
    let mut pools = pools(situation);
    let mut left = Left::new(&situation.fleet.limits, &pools);
    // 2. What waits is packed onto it; what is left is bought for.
    let packed = demand::pack(situation, &mut pools, &mut left);
    pools.iter_mut().for_each(|pool| steps(pool));
    // 3. What nobody needs goes.
    let one = |(n, pool): (usize, &Pool<'_>)| {
        let needed: BTreeMap<u64, u32> = packed
            .idle_needed
            .iter()
            .filter(|((of, _), _)| *of == n)
            .map(|((_, kind), count)| (*kind, *count))
            .collect();
        let chosen = if pool.blind { Vec::new() } else { scale_in::choose(situation, pool, &needed) };
        of_pool(situation, pool, chosen)
    };
    Decision { pools: pools.iter().enumerate().map(one).collect(), unmet: packed.unmet }
}

/// No more at once than the pool's step, but for gangs: what they sit on is never cut.
fn steps(pool: &mut Pool<'_>) {
    let step = pool.spec.timing.step_max;
    let most = step.max(pool.gang_bought);
    if step > 0 && pool.bought > most {
        pool.bought = most;
        pool.hold = Some(format!("at most {step} machines are asked for at once"));
    }
}

fn of_pool(situation: &Situation<'_>, pool: &Pool<'_>, chosen: Vec<WorkerId>) -> PoolDecision {
    let (now, spec) = (situation.now, pool.spec);
    let removed = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
    // What was ordered and nobody needs any more: let come, unless the pool has rested; a cancelled order is soon missed.
    let rested = pool.scale.grown.is_none_or(|grown| now.since(grown) >= spec.timing.scale_in_cooldown_ms);
    let booting =
        if rested && pool.bought == 0 { pool.booting_needed.min(pool.booting) } else { pool.booting };
    let booting = if pool.blind { pool.booting } else { booting };
    let there = pool.current.saturating_sub(removed);
    let desired = there + booting + pool.topped + pool.bought;
    let desired = if pool.blind && pool.scale.generation > 0 { pool.scale.desired } else { desired };
    let mut scale = pool.scale.clone();
    scale.desired = desired;
    // A machine that never came is seen until it is gone: that is one failure, not one a second.
    if pool.failed && now >= scale.retry_at {
        scale.failures = scale.failures.saturating_add(1);
        let wait = (RETRY_FIRST_MS << scale.failures.saturating_sub(1).min(16)).min(RETRY_LAST_MS);
        scale.retry_at = now.plus(wait);
    }
    let known = situation.scales.get(pool.name);
    if desired > known.map_or(pool.current, |known| known.desired.max(pool.current)) {
        scale.grown = Some(now);
    }
    if desired < known.map_or(pool.current, |known| known.desired) {
        scale.shrunk = Some(now);
    }
    // Whoever carries it out has to know by which entry of the log, also of a pool that was taken out and comes again.
    let is_first = known.is_none() && desired == pool.current && (!spec.driven || pool.blind);
    let scale = (!is_first && known != Some(&scale)).then_some(scale);
    let leaving = situation.machines.iter().filter(|m| m.spec.pool == pool.name && m.leaves);
    let remove = leaving.map(|m| m.id).chain(chosen.iter().copied()).collect();
    let worth = worth(pool);
    PoolDecision {
        pool: pool.name.to_owned(),
        current: pool.current,
        booting: pool.booting,
        desired,
        jobs: pool.jobs.iter().copied().collect(),
        for_ms: (pool.bought > 0 && !pool.unknown_ms).then_some(pool.for_ms),
        worth_micro_usd: worth,
        reason: reason(pool, removed, worth),
        hold: pool.hold.clone(),
        waiting: pool.waiting,
        oldest: pool.oldest,
        asked_milli: pool.asked_milli,
        remove,
        chosen,
        stuck: pool.stuck.clone(),
        scale,
    }
}

/// What is bought costs that much until its work is done, boot included; none: a price or a run time is unknown.
fn worth(pool: &Pool<'_>) -> Option<u64> {
    let price = pool.spec.micro_usd_per_hour.filter(|_| pool.bought > 0 && !pool.unknown_ms)?;
    let ms = u128::from(pool.for_ms + pool.boot_ms());
    u64::try_from(u128::from(price) * u128::from(pool.bought) * ms / 3_600_000).ok()
}

fn reason(pool: &Pool<'_>, removed: u32, worth: Option<u64>) -> String {
    if pool.bought > 0 {
        let what = pool.like.map_or_else(String::new, |like| match like.devices.first() {
            Some(device) => format!("{}x{}", like.devices.len(), device.model),
            None => format!("{} cpus", like.cpu_milli / 1_000),
        });
        let spot = if pool.spec.spot { " spot" } else { "" };
        let time = if pool.unknown_ms {
            String::new()
        } else {
            format!(" for about {} min", (pool.for_ms + pool.boot_ms()).div_ceil(60_000))
        };
        let jobs =
            if pool.jobs.len() == 1 { "1 job".to_owned() } else { format!("{} jobs", pool.jobs.len()) };
        let usd = worth.map_or_else(String::new, |micro| format!(", {:.2} USD", micro as f64 / 1e6));
        return format!("{} x {what}{spot}{time}: {jobs}{usd}", pool.bought);
    }
    if removed > 0 {
        return if pool.current > pool.spec.max {
            format!("{removed} more than the max of {}", pool.spec.max)
        } else {
            format!("{removed} idle for {} s and longer", pool.spec.timing.scale_in_cooldown_ms / 1_000)
        };
    }
    if pool.topped > 0 {
        return format!("the min of {}", pool.spec.min);
    }
    if pool.booting > 0 {
        return format!("{} on their way", pool.booting);
    }
    if !pool.jobs.is_empty() {
        return "no more can be had for what waits".to_owned();
    }
    "what is there is enough".to_owned()
}
