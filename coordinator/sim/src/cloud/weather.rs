//! What goes wrong with a provider and what people do to it: chosen by the seed, and over at the heal. What people configure, and the jobs
//! that need machines of a pool.

use super::Cloud;
use crate::event::Event;
use crate::options::MEMBERS;
use crate::rng::Rng;
use crate::world::World;
use muster_core::autoscale::InstancePhase;
use muster_core::command::Command;
use muster_core::model::fleet::{Fleet, Limits, PoolSpec, PoolTiming};
use muster_core::model::gang::Gang;
use muster_core::model::ids::WorkerId;
use muster_core::model::job_spec::{
    ArraySpec, IndexRange, Indices, JobSpec, Run, TaskCommon, TaskExtra, TaskSpec,
};
use muster_core::model::resources::Resources;
use muster_core::spec::SpecBytes;
use std::collections::BTreeMap;

/// Ranks of a gang at most: after the heal every pool may have as many machines.
const RANKS_MAX: u32 = 3;
/// What a task of a pool asks for: more than a machine that is no pool's has, and one machine each.
const CPU_MILLI: u64 = 12_000;

impl Cloud {
    /// Somebody writes another configuration. `last`: everything that waits can run with it.
    pub(super) fn write_fleet(&mut self, last: bool) {
        let rng = &mut self.rng;
        let first = self.fleets.first().cloned();
        let mut pools = BTreeMap::new();
        for (name, group) in &self.groups {
            // Somebody takes a pool out, and in again.
            if !last && first.is_some() && rng.chance(100) {
                continue;
            }
            let max = if last { rng.range(3, 5) } else { rng.range(1, 5) } as u32;
            let timing = match first.as_ref().and_then(|fleet| fleet.pools.get(name)) {
                Some(spec) => spec.timing.clone(),
                None => PoolTiming {
                    scale_in_cooldown_ms: rng.range(4_000, 20_000),
                    scale_out_cooldown_ms: rng.pick(&[0, 0, 3_000]),
                    step_max: rng.pick(&[0, 0, 1, 2]),
                    drain_ms: rng.range(2_000, 15_000),
                    boot_limit_ms: rng.range(25_000, 45_000),
                    patience_ms: 0,
                },
            };
            let spec = PoolSpec {
                driver: String::new(),
                min: rng.pick(&[0, 0, 1]).min(max),
                max,
                spot: group.template.spot,
                micro_usd_per_hour: rng.chance(800).then(|| rng.range(1, 30) * 1_000_000),
                template: Some(Box::new(group.template.clone())),
                quota: None,
                driven: true,
                timing,
            };
            pools.insert(name.clone(), spec);
        }
        if rng.chance(300) {
            // Machines that somebody else brings: their pool is counted, and nobody is ordered anything.
            pools.insert("default".to_owned(), PoolSpec { max: 8, ..PoolSpec::default() });
        }
        let dearest = pools.values().filter_map(|spec| spec.micro_usd_per_hour).max();
        let machines = rng.range(u64::from(RANKS_MAX), 6);
        let limit = dearest.filter(|_| rng.chance(200)).map(|price| price * machines);
        let limits = Limits { micro_usd_per_hour: limit, ..Limits::default() };
        self.fleets.push(Fleet { pools, limits });
    }
}

impl World {
    /// What breaks at this moment.
    pub(super) fn weather(&mut self) {
        if self.healed {
            return;
        }
        let pools: Vec<String> = self.cloud.groups.keys().cloned().collect();
        if self.cloud.rng.chance(5) {
            self.cloud.write_fleet(false);
            self.spread_fleet(5_000);
        }
        for pool in pools {
            let now = self.now;
            let rng = &mut self.cloud.rng;
            let Some(group) = self.cloud.groups.get_mut(&pool) else { continue };
            if rng.chance(5) {
                // As long as it takes to be forgotten, and longer.
                group.silent_until = (now + rng.pick(&[10_000, 70_000, 110_000]), rng.chance(500));
            }
            if rng.chance(6) {
                group.fails_until = now + rng.range(1_000, 15_000);
            }
            if rng.chance(3) {
                group.scarce_until = now + rng.range(5_000, 40_000);
            }
            if rng.chance(5) {
                self.by_hand(&pool);
            }
            if self.cloud.rng.chance(8) {
                self.taken_back(&pool);
            }
        }
    }

    fn spread_fleet(&mut self, within_ms: u64) {
        let number = self.cloud.fleets.len() - 1;
        for member in 0..MEMBERS {
            let delay = self.cloud.rng.below(within_ms);
            self.at(delay, Event::Configured { member, number });
        }
    }

    /// Somebody sets the group's number; the provider chooses whom it costs, as far as it may.
    fn by_hand(&mut self, pool: &str) {
        let now = self.now;
        let Cloud { groups, rng, .. } = &mut self.cloud;
        let Some(group) = groups.get_mut(pool) else { return };
        group.desired = rng.below(6) as u32;
        let mut too_many = group.counted().saturating_sub(group.desired);
        let protects = group.manners.protects;
        let may_go = |i: &super::Instance| i.is_counted() && !(protects && i.protected);
        let victims: Vec<String> =
            group.instances.iter().filter(|(_, i)| may_go(i)).map(|(id, _)| id.clone()).collect();
        for id in victims {
            if too_many == 0 {
                break;
            }
            too_many -= 1;
            group.end(&id, now, rng);
        }
    }

    /// One is ended for the provider's own reasons, as announced or at once, and another is made in its place.
    fn taken_back(&mut self, pool: &str) {
        let now = self.now;
        let Cloud { groups, rng, .. } = &mut self.cloud;
        let Some(group) = groups.get_mut(pool) else { return };
        let up: Vec<String> = group
            .instances
            .iter()
            .filter(|(_, i)| i.phase == InstancePhase::InService)
            .map(|(id, _)| id.clone())
            .collect();
        if up.is_empty() {
            return;
        }
        let id = up[rng.index(up.len())].clone();
        if rng.chance(600) {
            group.end(&id, now, rng);
        } else {
            self.instance_ends(pool, &id);
        }
    }

    /// The provider is well again, and everybody is configured to let everything run.
    pub(crate) fn cloud_heals(&mut self) {
        if !self.cloud.is_there() {
            return;
        }
        for group in self.cloud.groups.values_mut() {
            (group.silent_until.0, group.fails_until, group.scarce_until) = (0, 0, 0);
        }
        self.cloud.write_fleet(true);
        self.spread_fleet(1_000);
    }

    /// Jobs that wait for machines of a pool, and operators who drain those and take it back.
    pub(crate) fn plan_pool_jobs(&mut self) {
        let mut rng = Rng::new(self.options.seed, "pools");
        let span = self.options.safety_ms;
        for number in 0..rng.range(2, 5) {
            let job = pool_job(&mut rng, number);
            let spec = SpecBytes::encode(&job);
            let request = self.clients.request();
            self.oracle.reference.written(&request.id, &job);
            let delay = rng.below(span * 3 / 4);
            self.plan_op(delay, Command::Submit { request, spec, parts: 0, forecast_micro_usd: None }, false);
        }
        for _ in 0..rng.below(5) {
            let worker = WorkerId(self.options.workers as u64 + rng.range(1, 6));
            let deadline_ms = rng.chance(500).then(|| rng.range(0, 10_000));
            let (delay, reason) = (rng.range(10_000, span), "kernel".to_owned());
            let request = self.clients.request();
            self.plan_op(delay, Command::Drain { request, worker, deadline_ms, reason }, false);
            let request = self.clients.request();
            self.plan_op(delay + rng.range(500, 20_000), Command::Undrain { request, worker }, false);
        }
    }

    /// Now and then somebody sees that a worker leaves, and takes it back.
    pub(crate) fn somebody_objects(&mut self, worker: WorkerId) {
        if !self.healed && self.cloud.rng.chance(250) {
            let delay = self.cloud.rng.range(50, 3_000);
            let request = self.clients.request();
            self.plan_op(delay, Command::Undrain { request, worker }, false);
        }
    }
}

/// Gangs, and some that run alone, each rank of which fills a machine.
fn pool_job(rng: &mut Rng, number: u64) -> JobSpec {
    let count = rng.range(1, 2) as u32;
    let mut commons = Vec::new();
    let mut tasks = Vec::new();
    for no in 0..count {
        let ranks = rng.range(2, u64::from(RANKS_MAX)) as u32;
        let is_gang = rng.chance(700);
        let gang = is_gang.then(|| {
            let max = ranks + rng.pick(&[0, 0, 1]);
            Box::new(Gang { min: ranks, max, require: None, prefer: Vec::new() })
        });
        let resources = Resources { cpu_milli: CPU_MILLI, memory: 1 << 30, disk: 0, gpus: None };
        commons.push(TaskCommon { resources, gang, ..TaskCommon::default() });
        let count = rng.range(1, if is_gang { 2 } else { 5 }) as u32;
        let range = IndexRange { first: 0, count, step: 1 };
        let array = (count > 1).then(|| ArraySpec {
            count,
            indices: Indices::Ranges(vec![range]),
            max_running: None,
        });
        let extra = array.map(|array| {
            Box::new(TaskExtra { array: Some(array), inputs: Vec::new(), outputs: Vec::new(), when: None })
        });
        tasks.push(TaskSpec {
            name: format!("t{no}").into(),
            run: Run::Exec(["/bin/true"].into_iter().collect()),
            needs: Box::default(),
            common: no,
            extra,
        });
    }
    JobSpec {
        budget: None,
        name: format!("pool-{number}"),
        queue: "default".to_owned(),
        priority: rng.range(0, 100) as u8,
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        workdir: None,
        params: BTreeMap::new(),
        compat_slurm: false,
        commons,
        tasks,
    }
}
