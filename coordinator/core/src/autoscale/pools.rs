//! The pools as a decision finds them: how many are there, how many are coming, how many more there may be, and why not now.

use super::situation::{GroupSeen, InstanceSeen, Machine, MachineState, Situation};
use super::{BOOT_UNKNOWN_MS, GROUP_STALE_MS};
use crate::model::fleet::{Limits, PoolScale, PoolSpec};
use crate::model::ids::JobId;
use crate::model::time::Tick;
use crate::model::worker::{INSTANCE_LABEL, WorkerSpec};
use std::collections::{BTreeMap, BTreeSet};

/// One pool.
pub(super) struct Pool<'a> {
    pub name: &'a str,
    pub spec: &'a PoolSpec,
    pub scale: PoolScale,
    /// What a worker of it has; none: nobody knows.
    pub like: Option<&'a WorkerSpec>,
    pub current: u32,
    /// On their way out, and still there: they count for the provider and for what is paid.
    pub leaving: u32,
    /// Asked for and not joined.
    pub booting: u32,
    /// That are needed, of these.
    pub booting_needed: u32,
    /// Machines that may be asked for now.
    pub room: u32,
    /// Why no more, where that is not the pool's own `max`.
    pub hold: Option<String>,
    /// Neither more nor fewer: what is there is not known.
    pub blind: bool,
    /// Asked for now to have the `min`.
    pub topped: u32,
    pub bought: u32,
    /// For gangs, of these.
    pub gang_bought: u32,
    pub jobs: BTreeSet<JobId>,
    /// The longest of what was bought for; none yet, or unknown (`unknown_ms`).
    pub for_ms: u64,
    pub unknown_ms: bool,
    pub waiting: u64,
    pub oldest: Option<Tick>,
    pub asked_milli: u64,
    pub stuck: Vec<String>,
    /// A machine never came: the provider has none, or it does not join.
    pub failed: bool,
}

impl Pool<'_> {
    /// From the order to the first heartbeat, ms.
    pub fn boot_ms(&self) -> u64 {
        self.scale.boot_ms.unwrap_or(BOOT_UNKNOWN_MS)
    }

    /// Within this time work is better waited for than bought for, ms.
    pub fn horizon_ms(&self) -> u64 {
        self.boot_ms().max(self.spec.timing.patience_ms)
    }

    pub fn price(&self) -> u64 {
        self.spec.micro_usd_per_hour.unwrap_or(0)
    }

    /// GPUs of one worker, or 1.
    pub fn units(&self) -> u32 {
        self.like.map_or(1, |like| u32::try_from(like.devices.len()).unwrap_or(u32::MAX)).max(1)
    }
}

/// What is left of the limits that pools share.
pub(super) struct Left<'a> {
    micro_usd_per_hour: Option<u64>,
    quotas: BTreeMap<&'a str, u64>,
}

impl<'a> Left<'a> {
    pub fn new(limits: &'a Limits, pools: &[Pool<'a>]) -> Self {
        let mut left = Self {
            micro_usd_per_hour: limits.micro_usd_per_hour,
            quotas: limits.quotas.iter().map(|(name, n)| (name.as_str(), u64::from(*n))).collect(),
        };
        pools
            .iter()
            .for_each(|pool| left.take(pool, pool.current + pool.booting + pool.topped + pool.leaving));
        left
    }

    /// Machines of the pool that the shared limits still allow, and which of them binds.
    pub fn room(&self, pool: &Pool<'_>) -> (u32, Option<String>) {
        let mut room = (u64::from(u32::MAX), None);
        if let Some(usd) = self.micro_usd_per_hour
            && pool.price() > 0
        {
            room = (usd / pool.price(), Some("autoscale.max_usd_per_hour is reached".to_owned()));
        }
        if let Some(quota) = pool.spec.quota.as_deref()
            && let Some(left) = self.quotas.get(quota)
        {
            let by_quota = left / u64::from(pool.units());
            if by_quota < room.0 {
                room = (by_quota, Some(format!("the quota {quota:?} is used up")));
            }
        }
        (u32::try_from(room.0).unwrap_or(u32::MAX), room.1)
    }

    pub fn take(&mut self, pool: &Pool<'a>, machines: u32) {
        if let Some(usd) = &mut self.micro_usd_per_hour {
            *usd = usd.saturating_sub(pool.price().saturating_mul(u64::from(machines)));
        }
        if let Some(left) = pool.spec.quota.as_deref().and_then(|quota| self.quotas.get_mut(quota)) {
            *left = left.saturating_sub(u64::from(pool.units()) * u64::from(machines));
        }
    }
}

/// The pools by name.
pub(super) fn pools<'a>(situation: &'a Situation<'a>) -> Vec<Pool<'a>> {
    let mut by_pool: BTreeMap<&str, Vec<&Machine<'a>>> = BTreeMap::new();
    for machine in &situation.machines {
        by_pool.entry(machine.spec.pool.as_str()).or_default().push(machine);
    }
    let pool = |(name, spec): (&'a String, &'a PoolSpec)| {
        let machines = by_pool.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        one(situation, name, spec, machines)
    };
    situation.fleet.pools.iter().map(pool).collect()
}

fn one<'a>(
    situation: &'a Situation<'a>,
    name: &'a str,
    spec: &'a PoolSpec,
    machines: &[&Machine<'a>],
) -> Pool<'a> {
    let now = situation.now;
    let mut scale = situation.scales.get(name).cloned().unwrap_or_default();
    let here = machines.iter().filter(|m| m.state != MachineState::Leaving);
    let current = u32::try_from(here.clone().count()).unwrap_or(u32::MAX);
    if let Some(sample) = situation.boots.get(name) {
        // The last ones count most: images and zones change.
        scale.boot_ms = Some(scale.boot_ms.map_or(*sample, |known| (3 * known + sample) / 4));
        (scale.failures, scale.retry_at) = (0, Tick(0));
    }
    // Of those that have a template the one in force is the next machine; else one that is there.
    let like = spec.template.as_deref().or_else(|| here.map(|m| m.spec).next());
    // Never over the max: it may be less than when they were asked for, and a machine that came unasked and is lost is not asked for.
    let ordered = if scale.generation == 0 { 0 } else { scale.desired.min(spec.max).saturating_sub(current) };
    let mut pool = Pool {
        name,
        spec,
        scale,
        like,
        current,
        leaving: u32::try_from(machines.len()).unwrap_or(u32::MAX).saturating_sub(current),
        booting: ordered,
        booting_needed: 0,
        room: 0,
        hold: None,
        blind: false,
        topped: 0,
        bought: 0,
        gang_bought: 0,
        jobs: BTreeSet::new(),
        for_ms: 0,
        unknown_ms: false,
        waiting: 0,
        oldest: None,
        asked_milli: 0,
        stuck: Vec::new(),
        failed: false,
    };
    if spec.driven {
        let fresh = situation.groups.get(name).filter(|group| now.since(group.at) <= GROUP_STALE_MS);
        match fresh {
            Some(group) => seen(&mut pool, situation, group, machines),
            None => {
                pool.blind = true;
                let why = situation.troubles.get(name).map_or("has not answered yet", String::as_str);
                pool.hold = Some(format!("held as it is: the provider {why}"));
            }
        }
    }
    room(&mut pool, situation);
    pool
}

/// What the provider says is there.
fn seen(pool: &mut Pool<'_>, situation: &Situation<'_>, group: &GroupSeen, machines: &[&Machine<'_>]) {
    let timing = &pool.spec.timing;
    let unjoined: Vec<_> =
        group.instances.iter().filter(|i| i.worker.is_none() && !i.going && !i.held).collect();
    // Workers that do not say on which instance they are: somebody's, so as many instances are not waited for.
    let nameless = machines.iter().filter(|m| !m.spec.labels.contains_key(INSTANCE_LABEL)).count();
    let unjoined = unjoined.get(nameless.min(unjoined.len())..).unwrap_or_default();
    let is_late = |since| situation.now.since(since) > timing.boot_limit_ms;
    // One whose worker is lost is not waited for, nor ended at once: whoever is cut off comes again, and all may be cut off together.
    let is_stuck = |i: &&&InstanceSeen| is_late(i.lost.unwrap_or(i.since));
    let stuck: Vec<String> = unjoined.iter().filter(is_stuck).map(|i| i.id.clone()).collect();
    let comes = unjoined.iter().filter(|i| i.lost.is_none() && !is_late(i.since)).count();
    let coming = u32::try_from(comes).unwrap_or(u32::MAX);
    // What was ordered and is not even seen, long after: the provider has none.
    let ordered_late = pool.scale.grown.is_none_or(is_late);
    if pool.booting > coming && ordered_late {
        // Only what becomes late now: a worker that goes later is no machine that never came.
        let limit = timing.boot_limit_ms + GROUP_STALE_MS;
        let was_asked = pool.scale.grown.is_some_and(|at| situation.now.since(at) <= limit);
        pool.failed = was_asked && pool.scale.desired > pool.current + coming;
        pool.booting = coming;
    }
    pool.booting = pool.booting.max(coming);
    pool.failed |= unjoined.iter().any(|i| i.lost.is_none() && is_late(i.since));
    // A machine that never came fails once, however long it takes until it is ended.
    pool.failed &= situation.now >= pool.scale.retry_at;
    // On which of them the nameless ones are nobody knows: any could have work on it.
    pool.stuck = if nameless == 0 { stuck } else { Vec::new() };
}

/// How many machines may be asked for now.
fn room(pool: &mut Pool<'_>, situation: &Situation<'_>) {
    let (spec, scale, now) = (pool.spec, &pool.scale, situation.now);
    let group_max = situation.groups.get(pool.name).filter(|_| spec.driven).map_or(u32::MAX, |g| g.max);
    pool.room = spec.max.saturating_sub(pool.current + pool.booting);
    if pool.blind {
        pool.room = 0;
        return;
    }
    let allowed = group_max.saturating_sub(pool.current + pool.booting + pool.leaving);
    if allowed < pool.room {
        pool.room = allowed;
        if allowed == 0 {
            let leave = if pool.leaving > 0 {
                format!(", of which {} still leave", pool.leaving)
            } else {
                String::new()
            };
            pool.hold = Some(format!("the provider's group allows {group_max} machines{leave}"));
        }
    }
    if pool.failed || now < scale.retry_at {
        pool.room = 0;
        let failures = scale.failures + u32::from(pool.failed);
        pool.hold = Some(match situation.troubles.get(pool.name) {
            Some(trouble) => format!("the provider {trouble}; {failures} times in a row nothing came"),
            None => format!(
                "machines were asked for and never joined, {failures} times in a row: it is tried again later"
            ),
        });
    } else if let Some(trouble) = situation.troubles.get(pool.name) {
        pool.hold = Some(format!("the provider {trouble}"));
    }
    // The least there is to be: whatever waits, and before it is packed.
    pool.topped = spec.min.saturating_sub(pool.current + pool.booting).min(pool.room);
    let cools_until = scale.grown.map(|grown| grown.plus(spec.timing.scale_out_cooldown_ms));
    if cools_until.is_some_and(|until| now < until) {
        pool.room = 0;
        pool.hold =
            Some(format!("cools down: {} s between two orders", spec.timing.scale_out_cooldown_ms / 1_000));
    }
    pool.room = pool.room.saturating_sub(pool.topped);
}
