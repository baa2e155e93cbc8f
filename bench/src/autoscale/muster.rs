//! Our own rule: the core's [`decide`], looked at every ten seconds with all that a leader would know, carried out as a leader would.
//!
//! What it is told of run times: nothing, as nobody else is told either; or, in a row of its own, how long each task will run, as a user who says
//! it well would. What nobody can know (how many spot machines there are, when one goes) it is not told.

use super::market::BOOT_S;
use super::world::{Rule, Wish, World};
use muster_core::autoscale::{
    Decision, GroupSeen, InstanceSeen, Machine, MachineState, Situation, Waiting, decide, kind,
};
use muster_core::model::fleet::{Fleet, PoolScale, PoolSpec, PoolTiming};
use muster_core::model::ids::{JobId, TaskNo, WorkerId};
use muster_core::model::time::Tick;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Between two looks, s.
const EVERY_S: u64 = 10;
/// A provider that has no machine says so within this time, s.
const REFUSED_S: u64 = 60;
/// A spot machine that has not come after so long is not waited for (`boot_timeout` of its pool), s: it boots for three minutes, or there is none.
const SPOT_LIMIT_S: u64 = 300;

/// See the head of the file.
#[derive(Debug)]
pub struct Muster {
    idle_s: u64,
    by_size: bool,
    knows: bool,
    fleet: Fleet,
    kinds: Vec<u64>,
    scales: BTreeMap<String, PoolScale>,
    generation: u64,
    /// Machines whose joining was seen.
    joined: BTreeSet<WorkerId>,
    leaving: BTreeSet<WorkerId>,
}

impl Muster {
    /// `idle_s`: a machine is idle for so long before it goes; `by_size`: divided by its GPUs. `knows`: how long tasks run.
    #[must_use]
    pub fn new(idle_s: u64, by_size: bool, knows: bool) -> Self {
        Self {
            idle_s,
            by_size,
            knows,
            fleet: Fleet::default(),
            kinds: Vec::new(),
            scales: BTreeMap::new(),
            generation: 0,
            joined: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }

    fn configure(&mut self, world: &World<'_>) {
        for pool in &world.market.pools {
            let usual = PoolTiming::default();
            let timing = PoolTiming {
                scale_in_cooldown_ms: self.idle_s * 1_000 / if self.by_size { pool.gpus() } else { 1 },
                boot_limit_ms: if pool.spot { SPOT_LIMIT_S * 1_000 } else { usual.boot_limit_ms },
                ..usual
            };
            let spec = PoolSpec {
                max: pool.max,
                spot: pool.spot,
                micro_usd_per_hour: Some(pool.micro_usd_per_hour),
                template: Some(Box::new(pool.spec.clone())),
                driven: true,
                timing,
                ..PoolSpec::default()
            };
            self.fleet.pools.insert(pool.name.to_owned(), spec);
            self.kinds.push(kind(&pool.spec));
        }
    }

    /// What came up since the last look, by pool.
    fn boots(&mut self, world: &World<'_>) -> BTreeMap<String, u64> {
        let mut boots = BTreeMap::new();
        for (id, machine) in world.machines.iter().filter(|(_, m)| m.joined_s.is_some()) {
            if self.joined.insert(*id) {
                boots.insert(world.market.pools[machine.pool].name.to_owned(), BOOT_S * 1_000);
            }
        }
        self.joined.retain(|id| world.machines.contains_key(id));
        self.leaving.retain(|id| world.machines.contains_key(id));
        boots
    }

    fn machine<'a>(&self, world: &'a World<'_>, id: WorkerId, m: &'a super::world::Machine) -> Machine<'a> {
        let now = Tick(world.now_s * 1_000);
        let free = self.knows.then(|| world.free_at_s(m)).flatten();
        Machine {
            id,
            spec: &world.market.pools[m.pool].spec,
            kind: self.kinds[m.pool],
            used: &m.used,
            state: if m.leaves_by_s.is_some() { MachineState::Leaving } else { MachineState::Ready },
            leaves: self.leaving.contains(&id),
            idle_since: m.jobs.is_empty().then_some(Tick(m.idle_since_s * 1_000)),
            at_risk_ms: world.at_risk_ms(m),
            free_at: free.map(|s| Tick(s * 1_000)),
            joined: m.joined_s.map_or(now, |s| Tick(s * 1_000)),
            image: None,
        }
    }

    fn decision(&self, world: &World<'_>, boots: BTreeMap<String, u64>) -> Decision {
        let now = Tick(world.now_s * 1_000);
        let joined = world.machines.iter().filter(|(_, m)| m.joined_s.is_some());
        let waiting = world.waiting.iter().map(|number| {
            let job = world.stream.jobs[*number];
            let ask = &world.stream.asks[job.ask];
            Waiting {
                job: JobId(*number as u64 + 1),
                task: TaskNo(0),
                resources: &ask.resources,
                constraints: Cow::Borrowed(&ask.constraints),
                gang: None,
                count: 1,
                run_ms: self.knows.then(|| world.left_s(*number) * 1_000),
                since: Tick(world.waits_since_s(*number) * 1_000),
            }
        });
        let pools = || world.market.pools.iter().enumerate();
        let lacks =
            |pool: usize| world.open[pool].front().is_some_and(|asked| world.now_s - asked >= REFUSED_S);
        let troubles = pools().filter(|(n, _)| lacks(*n));
        decide(&Situation {
            now,
            fleet: &self.fleet,
            scales: &self.scales,
            machines: joined.map(|(id, m)| self.machine(world, *id, m)).collect(),
            waiting: waiting.collect(),
            groups: pools().map(|(n, pool)| (pool.name.to_owned(), group(world, n, now))).collect(),
            boots,
            troubles: troubles.map(|(_, p)| (p.name.to_owned(), "has no machine".to_owned())).collect(),
        })
    }
}

/// What the provider says of a pool.
fn group(world: &World<'_>, pool: usize, now: Tick) -> GroupSeen {
    let machines = world.machines.iter().filter(|(_, m)| m.pool == pool);
    let instances = machines.map(|(id, m)| InstanceSeen {
        lost: None,
        id: format!("i-{}", id.0),
        worker: m.joined_s.map(|_| *id),
        since: Tick(m.launched_s * 1_000),
        booting: m.joined_s.is_none(),
        held: false,
        going: false,
        protected: false,
        image: None,
    });
    let max = world.market.pools[pool].max;
    GroupSeen { at: now, desired: world.wanted(pool), min: 0, max, instances: instances.collect() }
}

impl Rule for Muster {
    fn every_s(&self) -> u64 {
        EVERY_S
    }

    fn look(&mut self, world: &World<'_>) -> Wish {
        if self.kinds.is_empty() {
            self.configure(world);
        }
        let boots = self.boots(world);
        let decision = self.decision(world, boots);
        let mut wish = Wish { drain_s: PoolTiming::default().drain_ms / 1_000, ..Wish::default() };
        for pool in &world.market.pools {
            let Some(decided) = decision.pools.iter().find(|decided| decided.pool == pool.name) else {
                wish.desired.push(0);
                continue;
            };
            wish.desired.push(decided.desired);
            wish.remove.extend(&decided.chosen);
            if let Some(scale) = decided.scale.clone() {
                self.generation += 1;
                self.scales.insert(decided.pool.clone(), PoolScale { generation: self.generation, ..scale });
            }
        }
        self.leaving.extend(&wish.remove);
        wish
    }
}
