//! The provider: groups of machines that come and go, by our orders, by themselves, and by the hand of somebody who looks at no log. A machine
//! that is up becomes a worker of the simulator, and its end is that worker's.
//!
//! `looks.rs` is what leaders hear of it, `orders.rs` what they ask of it, `weather.rs` what goes wrong and what people configure.
//!
//! Left out: the two calls of a driver that looks before it shrinks a group. They are one here, so a machine comes up before or after both.

mod looks;
mod orders;
mod weather;

pub use looks::Told;
pub use orders::Errand;

use crate::options::{MEMBERS, Options};
use crate::rng::Rng;
use crate::workers::Machine;
use crate::world::World;
use muster_core::autoscale::{GroupReport, InstancePhase, InstanceReport};
use muster_core::model::fleet::Fleet;
use muster_core::model::worker::{Device, INSTANCE_LABEL, WorkerSpec};
use std::collections::{BTreeMap, VecDeque};

/// The provider moves this often, ms.
const MOVES_EVERY_MS: u64 = 500;
/// A provider waits for us for so long from each time that it is told to, ms.
const HOOK_MS: u64 = 30_000;
/// What it answers may be as old as this, ms.
const STALE_MS: u64 = 30_000;

/// All groups, and what each member is configured to want of them.
pub struct Cloud {
    pub rng: Rng,
    pub groups: BTreeMap<String, Group>,
    /// Configurations, as people wrote them one after the other.
    pub fleets: Vec<Fleet>,
    /// By member: which of them it runs with.
    pub configured: [usize; MEMBERS],
    made: u32,
}

/// One group of machines.
pub struct Group {
    pub desired: u32,
    pub min: u32,
    pub max: u32,
    /// By id.
    pub instances: BTreeMap<String, Instance>,
    template: WorkerSpec,
    manners: Manners,
    /// The newest that it was ordered by.
    generation: u64,
    /// Until then it answers nobody; whether callers notice.
    silent_until: (u64, bool),
    /// Until then its calls fail, done or not.
    fails_until: u64,
    /// Until then it has no machines to give.
    scarce_until: u64,
    /// What it was, a moment at a time, the oldest first.
    past: VecDeque<(u64, GroupReport)>,
}

/// What kind of provider this is.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// It remembers the generation of the last order, and refuses an older one. (AWS does not.)
    refuses_older: bool,
    /// It waits before it ends a machine.
    has_hook: bool,
    /// It has a protection from being chosen, and heeds it.
    protects: bool,
    /// It says that a machine is up only a while after its worker has come.
    says_late: bool,
    boot_ms: u64,
    /// Machines in 1,000 that never join.
    dud_permille: u64,
}

/// A machine of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub since: u64,
    pub phase: InstancePhase,
    pub protected: bool,
    /// Which machine of the world, once it was powered on.
    pub machine: Option<usize>,
    /// When it is powered on; none: never.
    up_at: Option<u64>,
    /// When its provider says so; none: never.
    said_at: Option<u64>,
    /// Until when the provider waits for us.
    waits_until: u64,
    ends_at: u64,
}

impl Instance {
    /// The group counts it.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self.phase, InstancePhase::Booting | InstancePhase::InService)
    }
}

impl Cloud {
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = Rng::new(options.seed, "cloud");
        let mut groups = BTreeMap::new();
        if options.cloud {
            groups.insert("metal".to_owned(), Group::new(&mut rng, "metal", 16_000, 2));
            if rng.chance(400) {
                groups.insert("spot".to_owned(), Group::new(&mut rng, "spot", 32_000, 0));
            }
        }
        let mut cloud = Self { rng, groups, fleets: Vec::new(), configured: [0; MEMBERS], made: 0 };
        if options.cloud {
            cloud.write_fleet(false);
        }
        cloud
    }

    /// Whether there is one in this run.
    pub(crate) fn is_there(&self) -> bool {
        !self.groups.is_empty()
    }
}

impl Group {
    fn new(rng: &mut Rng, pool: &str, cpu_milli: u64, gpus: usize) -> Self {
        let device = |n| Device {
            uuid: format!("{pool}-{n}"),
            model: "H100-80GB".to_owned(),
            memory: 80 << 30,
            compute_capability: 90,
            simulated: true,
            ..Device::default()
        };
        let template = WorkerSpec {
            name: pool.to_owned(),
            pool: pool.to_owned(),
            spot: pool == "spot",
            cpu_milli,
            memory: 64 << 30,
            disk: 1 << 40,
            devices: (0..gpus).map(device).collect(),
            isolation: "none".to_owned(),
            ..WorkerSpec::default()
        };
        let manners = Manners {
            refuses_older: rng.chance(500),
            has_hook: rng.chance(500),
            protects: rng.chance(700),
            says_late: rng.chance(150),
            boot_ms: rng.range(1_000, 12_000),
            dud_permille: rng.pick(&[0, 50, 200]),
        };
        Self {
            desired: 0,
            min: 0,
            max: rng.pick(&[12, 12, 12, 5]),
            instances: BTreeMap::new(),
            template,
            manners,
            generation: 0,
            silent_until: (0, false),
            fails_until: 0,
            scarce_until: 0,
            past: VecDeque::new(),
        }
    }

    /// Machines that the group counts.
    pub(crate) fn counted(&self) -> u32 {
        self.instances.values().filter(|instance| instance.is_counted()).count() as u32
    }

    fn report(&self) -> GroupReport {
        let one = |(id, instance): (&String, &Instance)| InstanceReport {
            id: id.clone(),
            phase: instance.phase,
            protected: instance.protected || !self.manners.protects,
            image: None,
        };
        let instances = self.instances.iter().map(one).collect();
        GroupReport { desired: self.desired, min: self.min, max: self.max, instances }
    }

    /// It is to be ended: by way of the hook, if there is one.
    fn end(&mut self, id: &str, now: u64, rng: &mut Rng) {
        let has_hook = self.manners.has_hook;
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.is_counted()) else {
            return;
        };
        if has_hook && instance.phase == InstancePhase::InService {
            (instance.phase, instance.waits_until) = (InstancePhase::Held, now + HOOK_MS);
        } else {
            (instance.phase, instance.ends_at) = (InstancePhase::Going, now + rng.below(3_000));
        }
    }
}

impl World {
    /// The provider does what is due.
    pub(crate) fn cloud_moves(&mut self) {
        self.at(MOVES_EVERY_MS, crate::event::Event::CloudMoves);
        let pools: Vec<String> = self.cloud.groups.keys().cloned().collect();
        self.weather();
        for pool in pools {
            self.machines_move(&pool);
            self.group_moves(&pool);
        }
        crate::invariants::i13_scale_in::at_a_moment(self);
    }

    /// Machines come up and go down.
    fn machines_move(&mut self, pool: &str) {
        let now = self.now;
        let Some(group) = self.cloud.groups.get_mut(pool) else { return };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (id, instance) in &mut group.instances {
            let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now);
            match instance.phase {
                InstancePhase::Booting if is_due(instance.said_at) => {
                    instance.phase = InstancePhase::InService
                }
                InstancePhase::Held if instance.waits_until <= now => {
                    (instance.phase, instance.ends_at) = (InstancePhase::Going, now);
                }
                InstancePhase::Going if instance.ends_at <= now => down.push(id.clone()),
                _ => {}
            }
            if instance.machine.is_none() && is_due(instance.up_at) && instance.phase != InstancePhase::Going
            {
                up.push(id.clone());
            }
        }
        up.iter().for_each(|id| self.power_on(pool, id));
        down.iter().for_each(|id| self.instance_ends(pool, id));
    }

    /// The group makes what it wants and has not.
    fn group_moves(&mut self, pool: &str) {
        let now = self.now;
        let Cloud { groups, rng, made, .. } = &mut self.cloud;
        let Some(group) = groups.get_mut(pool) else { return };
        while group.counted() < group.desired && group.scarce_until <= now {
            *made += 1;
            let takes = group.manners.boot_ms + rng.below(group.manners.boot_ms);
            let slow = if rng.chance(50) { rng.range(5_000, 40_000) } else { 0 };
            let is_dud = !self.healed && rng.chance(group.manners.dud_permille);
            let up_at = now + takes + slow;
            let late = if group.manners.says_late { rng.range(500, 10_000) } else { 0 };
            let early = if group.manners.says_late { 0 } else { rng.below(takes) };
            let instance = Instance {
                since: now,
                phase: InstancePhase::Booting,
                protected: false,
                machine: None,
                up_at: (!is_dud).then_some(up_at),
                said_at: (!is_dud || rng.chance(500)).then_some(up_at + late - early),
                waits_until: 0,
                ends_at: 0,
            };
            group.instances.insert(format!("i-{made}"), instance);
        }
        let report = group.report();
        group.past.push_back((now, report));
        while group.past.front().is_some_and(|(at, _)| at + STALE_MS < now) {
            group.past.pop_front();
        }
    }

    fn power_on(&mut self, pool: &str, id: &str) {
        let w = self.machines.len();
        let Some(group) = self.cloud.groups.get_mut(pool) else { return };
        let mut spec = group.template.clone();
        spec.name = format!("{pool}-{id}");
        spec.labels.insert(INSTANCE_LABEL.to_owned(), id.to_owned());
        for (n, device) in spec.devices.iter_mut().enumerate() {
            device.uuid = format!("GPU-{w}-{n}");
        }
        if let Some(instance) = group.instances.get_mut(id) {
            instance.machine = Some(w);
        }
        self.machines.push(Machine::of_pool(self.options.seed, w, spec));
        let wait = self.cloud.rng.range(10, 500);
        self.at(wait, crate::event::Event::Connect { worker: w, agent: 0 });
    }

    /// The machine is gone for good.
    fn instance_ends(&mut self, pool: &str, id: &str) {
        let Some(group) = self.cloud.groups.get_mut(pool) else { return };
        if let Some(w) = group.instances.remove(id).and_then(|instance| instance.machine) {
            self.end_machine(w);
        }
    }

    /// Every group has as many machines as its pool wants at least, and says so.
    pub(crate) fn is_at_min(&self) -> bool {
        let last = self.cloud.fleets.last();
        self.cloud.groups.iter().all(|(pool, group)| {
            let min = last.and_then(|fleet| fleet.pools.get(pool)).map_or(0, |spec| spec.min);
            group.desired == min && group.instances.len() == min as usize
        })
    }
}
