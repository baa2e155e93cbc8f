//! Decisions on small fleets, each with its whole answer.

use super::*;
use crate::model::fleet::{Fleet, PoolScale, PoolSpec, PoolTiming};
use crate::model::gang::Gang;
use crate::model::ids::{JobId, TaskNo, WorkerId};
use crate::model::resources::{GpuAmount, GpuRequest, Resources};
use crate::model::time::Tick;
use crate::model::worker::{Device, WorkerSpec};
use crate::state::Used;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

const MIN: u64 = 60_000;
const NOW: Tick = Tick(1_000 * MIN);

fn machine(pool: &str, gpus: usize) -> WorkerSpec {
    let device = |n| Device {
        uuid: format!("{pool}-{n}"),
        model: "H100".into(),
        memory: 80 << 30,
        ..Device::default()
    };
    WorkerSpec {
        pool: pool.into(),
        cpu_milli: 96_000,
        memory: 1 << 40,
        disk: 1 << 40,
        devices: (0..gpus).map(device).collect(),
        ..WorkerSpec::default()
    }
}

fn gpus(count: u32) -> Resources {
    let gpus = GpuRequest { amount: GpuAmount::Whole(count), ..GpuRequest::default() };
    Resources { gpus: Some(gpus), ..Resources::default() }
}

/// A fleet, what is there of it, and what waits.
#[derive(Default)]
struct Scene {
    fleet: Fleet,
    scales: BTreeMap<String, PoolScale>,
    groups: BTreeMap<String, GroupSeen>,
    workers: Vec<(WorkerSpec, MachineState, Option<Tick>)>,
    /// Of a worker: when it is free, what is at risk, its image.
    busy: BTreeMap<u64, (Option<Tick>, u64)>,
    images: BTreeMap<u64, String>,
    waiting: Vec<(Resources, u64, Option<u64>)>,
    gangs: Vec<(Resources, Gang, u64)>,
    now: Option<Tick>,
}

impl Scene {
    fn pool(mut self, name: &str, gpus: usize, (min, max): (u32, u32), usd: u64) -> Self {
        let spec = PoolSpec {
            min,
            max,
            micro_usd_per_hour: Some(usd * 1_000_000),
            template: Some(Box::new(machine(name, gpus))),
            ..PoolSpec::default()
        };
        self.fleet.pools.insert(name.into(), spec);
        self
    }

    fn driven(mut self, name: &str, group: GroupSeen) -> Self {
        self.fleet.pools.get_mut(name).expect("a pool").driven = true;
        self.groups.insert(name.into(), group);
        self
    }

    /// Idle since then, or busy.
    fn worker(mut self, pool: &str, gpus: usize, idle_since: Option<Tick>) -> Self {
        self.workers.push((machine(pool, gpus), MachineState::Ready, idle_since));
        self
    }

    fn waits(mut self, resources: Resources, count: u64, run_ms: Option<u64>) -> Self {
        self.waiting.push((resources, count, run_ms));
        self
    }

    fn decide(&self) -> Decision {
        let used = Used::default();
        let machines = (1..).zip(&self.workers).map(|(id, (spec, state, idle_since))| Machine {
            id: WorkerId(id),
            kind: kind(spec),
            spec,
            used: &used,
            state: *state,
            leaves: false,
            idle_since: *idle_since,
            at_risk_ms: self.busy.get(&id).map_or(0, |busy| busy.1),
            free_at: self.busy.get(&id).and_then(|busy| busy.0),
            joined: Tick(id),
            image: self.images.get(&id).map(String::as_str),
        });
        let mut all: Vec<Waiting<'_>> = Vec::new();
        for (n, (resources, count, run_ms)) in (1..).zip(&self.waiting) {
            all.push(waiting(n, resources, None, *count, *run_ms));
        }
        for (n, (resources, gang, count)) in (101..).zip(&self.gangs) {
            all.push(waiting(n, resources, Some(gang), *count, None));
        }
        decide(&Situation {
            now: self.now.unwrap_or(NOW),
            fleet: &self.fleet,
            scales: &self.scales,
            machines: machines.collect(),
            waiting: all,
            groups: self.groups.clone(),
            boots: BTreeMap::new(),
            troubles: BTreeMap::new(),
        })
    }

    fn wanted(&self) -> Vec<(String, u32)> {
        self.decide().pools.into_iter().map(|pool| (pool.pool, pool.desired)).collect()
    }

    /// What was decided is in the log now.
    fn apply(&mut self, decision: &Decision) {
        for pool in &decision.pools {
            if let Some(scale) = &pool.scale {
                let generation = self.scales.get(&pool.pool).map_or(1, |scale| scale.generation + 1);
                self.scales.insert(pool.pool.clone(), PoolScale { generation, ..scale.clone() });
            }
        }
    }
}

fn waiting<'a>(
    n: u64,
    resources: &'a Resources,
    gang: Option<&'a Gang>,
    count: u64,
    run_ms: Option<u64>,
) -> Waiting<'a> {
    let (job, task, constraints) = (JobId(n), TaskNo(0), Cow::Owned(Vec::new()));
    Waiting { job, task, resources, constraints, gang, count, run_ms, since: NOW }
}

fn gang(ranks: u32) -> Gang {
    Gang { min: ranks, max: ranks, require: None, prefer: Vec::new() }
}

fn instance(id: &str, worker: Option<u64>, since: Tick) -> InstanceSeen {
    let worker = worker.map(WorkerId);
    InstanceSeen {
        id: id.into(),
        worker,
        since,
        lost: None,
        booting: worker.is_none(),
        held: false,
        going: false,
        protected: false,
        image: None,
    }
}

fn pairs(wanted: &[(&str, u32)]) -> Vec<(String, u32)> {
    wanted.iter().map(|(pool, n)| ((*pool).to_owned(), *n)).collect()
}

#[test]
fn a_gang_is_bought_whole() {
    let mut scene = Scene::default().pool("h100", 8, (0, 64), 20);
    scene.gangs.push((gpus(8), gang(2), 1));
    let decision = scene.decide();
    assert_eq!((decision.pools[0].desired, decision.pools[0].reason.as_str()), (2, "2 x 8xH100: 1 job"));
    assert_eq!((decision.pools[0].jobs.clone(), decision.unmet), (vec![JobId(101)], vec![]));
}

#[test]
fn a_gang_that_does_not_fit_whole_buys_nothing() {
    let mut scene = Scene::default().pool("a", 8, (0, 3), 1).pool("b", 8, (0, 3), 1);
    scene.gangs.push((gpus(8), gang(4), 1));
    let decision = scene.decide();
    assert_eq!(decision.pools.iter().map(|pool| pool.desired).sum::<u32>(), 0);
    let unmet = &decision.unmet[0];
    assert_eq!((unmet.job, unmet.count), (JobId(101), 1));
    assert!(unmet.reason.contains(r#"pool "a": room for 3 of 4 more (max 3, 0 there)"#), "{}", unmet.reason);
}

#[test]
fn idle_and_booting_machines_are_seats_of_a_gang() {
    let mut scene = Scene::default().pool("h100", 8, (0, 64), 20).worker("h100", 8, Some(NOW));
    scene.gangs.push((gpus(8), gang(4), 1));
    let decision = scene.decide();
    assert_eq!(decision.pools[0].desired, 4);
    scene.apply(&decision);
    let again = scene.decide();
    assert_eq!(
        (again.pools[0].desired, again.pools[0].booting, again.pools[0].scale.clone()),
        (4, 3, None),
        "not twice"
    );
}

#[test]
fn the_pool_where_a_task_costs_least_grows_and_the_rest_goes_where_a_machine_does() {
    // 20 tasks of one GPU: two machines of eight (20 USD) and one of four (8 USD each: 2 a GPU), or all on fours.
    let scene =
        Scene::default().pool("four", 4, (0, 2), 8).pool("eight", 8, (0, 9), 20).waits(gpus(1), 20, None);
    assert_eq!(scene.wanted(), pairs(&[("eight", 2), ("four", 2)]));
    let remainder =
        Scene::default().pool("one", 1, (0, 9), 4).pool("eight", 8, (0, 9), 20).waits(gpus(1), 10, None);
    assert_eq!(remainder.wanted(), pairs(&[("eight", 1), ("one", 2)]));
}

#[test]
fn what_no_pool_can_take_is_said() {
    let scene = Scene::default().pool("four", 4, (0, 2), 8).waits(gpus(8), 1, None);
    let decision = scene.decide();
    let reason = "no pool's workers could take it".to_owned();
    assert_eq!(
        decision.unmet,
        [Unmet { job: JobId(1), task: TaskNo(0), name: String::new(), count: 1, reason }]
    );
}

#[test]
fn shared_limits_bind() {
    let mut scene = Scene::default().pool("a", 8, (0, 9), 20).waits(gpus(8), 5, None);
    scene.fleet.limits.micro_usd_per_hour = Some(45_000_000);
    let decision = scene.decide();
    assert_eq!((decision.pools[0].desired, decision.unmet[0].count), (2, 3));
    assert!(decision.unmet[0].reason.contains("max_usd_per_hour"), "{:?}", decision.unmet);
    scene.fleet.limits.micro_usd_per_hour = None;
    scene.fleet.limits.quotas.insert("eu".into(), 24);
    scene.fleet.pools.get_mut("a").expect("a pool").quota = Some("eu".into());
    assert_eq!(scene.wanted(), pairs(&[("a", 3)]));
}

#[test]
fn work_that_is_served_sooner_than_a_machine_boots_is_waited_for() {
    let mut scene =
        Scene::default().pool("a", 8, (0, 9), 20).worker("a", 8, None).waits(gpus(8), 1, Some(30 * MIN));
    scene.busy.insert(1, (Some(NOW.plus(2 * MIN)), 0));
    assert_eq!(scene.wanted(), pairs(&[("a", 1)]));
    scene.busy.insert(1, (Some(NOW.plus(20 * MIN)), 0));
    assert_eq!(scene.wanted(), pairs(&[("a", 2)]));
    scene.fleet.pools.get_mut("a").expect("a pool").timing.patience_ms = 30 * MIN;
    assert_eq!(scene.wanted(), pairs(&[("a", 1)]), "worth a wait of half an hour");
    // Nobody knows when it is free.
    scene.busy.insert(1, (None, 0));
    assert_eq!(scene.wanted(), pairs(&[("a", 2)]));
}

#[test]
fn short_tasks_run_in_a_row() {
    // 3 min to boot: 18 tasks of 10 s in a row on each of 8 GPUs.
    let scene = Scene::default().pool("a", 8, (0, 99), 20);
    assert_eq!(scene.waits(gpus(1), 288, Some(10_000)).wanted(), pairs(&[("a", 2)]));
}

#[test]
fn min_is_kept_and_max_is_not_passed() {
    let scene = Scene::default().pool("a", 8, (2, 3), 20);
    assert_eq!(scene.wanted(), pairs(&[("a", 2)]));
    assert_eq!(scene.waits(gpus(8), 9, None).wanted(), pairs(&[("a", 3)]));
}

#[test]
fn only_what_has_been_idle_for_the_cool_down_goes_and_not_what_is_needed() {
    let long_ago = Some(Tick(NOW.0 - 6 * MIN));
    let mut scene = Scene::default().pool("a", 8, (0, 9), 20);
    scene = scene
        .worker("a", 8, long_ago)
        .worker("a", 8, Some(Tick(NOW.0 - MIN)))
        .worker("a", 8, None)
        .worker("a", 8, long_ago);
    let decision = scene.decide();
    assert_eq!(
        (decision.pools[0].chosen.clone(), decision.pools[0].desired),
        (vec![WorkerId(1), WorkerId(4)], 2)
    );
    // Two wait: two of the three idle ones stay, the younger ones.
    let needed = scene.waits(gpus(8), 2, None).decide();
    assert_eq!((needed.pools[0].chosen.clone(), needed.pools[0].desired), (vec![WorkerId(1)], 3));
}

#[test]
fn the_oldest_image_goes_first_and_of_the_busy_the_one_with_least_to_lose() {
    let mut scene = Scene::default().pool("a", 8, (1, 1), 20);
    let long_ago = Some(Tick(NOW.0 - 60 * MIN));
    scene = scene.worker("a", 8, long_ago).worker("a", 8, long_ago).worker("a", 8, None).worker("a", 8, None);
    for (id, image) in [(1, "new"), (2, "old"), (3, "new"), (4, "old")] {
        scene.images.insert(id, image.into());
    }
    // Workers are numbered as they joined; the first of the old image came before the first of the new one.
    scene.images.insert(1, "new".into());
    scene.busy.extend([(3, (None, 900)), (4, (None, 100))]);
    let decision = scene.decide();
    assert_eq!(
        decision.pools[0].chosen,
        [WorkerId(1), WorkerId(2), WorkerId(4)],
        "one stays: it has most to lose"
    );
}

#[test]
fn without_data_everything_is_held() {
    let old = GroupSeen { at: Tick(NOW.0 - GROUP_STALE_MS - 1), desired: 1, max: 9, ..GroupSeen::default() };
    let mut scene = Scene::default().pool("a", 8, (0, 9), 20).driven("a", old).worker("a", 8, Some(Tick(0)));
    scene.scales.insert("a".into(), PoolScale { desired: 1, generation: 7, ..PoolScale::default() });
    scene = scene.waits(gpus(8), 5, None);
    let decision = scene.decide();
    let pool = &decision.pools[0];
    assert_eq!((pool.desired, pool.chosen.len(), pool.scale.clone()), (1, 0, None));
    assert!(pool.hold.as_deref().is_some_and(|hold| hold.starts_with("held as it is")), "{:?}", pool.hold);
    scene.groups.clear();
    assert_eq!(scene.decide().pools[0].desired, 1);
}

#[test]
fn a_machine_that_never_joins_backs_its_pool_off_and_another_takes_over() {
    let group = GroupSeen {
        at: NOW,
        desired: 1,
        max: 9,
        instances: vec![instance("i-1", None, Tick(NOW.0 - 16 * MIN))],
        ..GroupSeen::default()
    };
    let mut scene =
        Scene::default().pool("cheap", 8, (0, 9), 10).pool("dear", 8, (0, 9), 20).driven("cheap", group);
    let grown = Some(Tick(NOW.0 - 16 * MIN));
    scene
        .scales
        .insert("cheap".into(), PoolScale { desired: 1, generation: 3, grown, ..PoolScale::default() });
    scene = scene.waits(gpus(8), 1, None);
    let decision = scene.decide();
    let (cheap, dear) = (&decision.pools[0], &decision.pools[1]);
    assert_eq!((cheap.stuck.clone(), cheap.desired, dear.desired), (vec!["i-1".to_owned()], 0, 1));
    let scale = cheap.scale.clone().expect("it changed");
    assert_eq!((scale.failures, scale.retry_at), (1, NOW.plus(RETRY_FIRST_MS)));

    // It is still there a second later, and that is the same failure.
    scene.apply(&decision);
    let again = scene.decide();
    assert_eq!((again.pools[0].stuck.clone(), again.pools[0].scale.clone()), (vec!["i-1".to_owned()], None));
}

#[test]
fn a_machine_that_never_joins_fails_once_however_long_it_stands_there() {
    let late = vec![instance("i-1", None, Tick(NOW.0 - 16 * MIN))];
    let group = GroupSeen { at: NOW, desired: 1, max: 9, instances: late, ..GroupSeen::default() };
    let mut scene = Scene::default().pool("a", 8, (0, 9), 10).driven("a", group);
    let grown = Some(Tick(NOW.0 - 16 * MIN));
    scene.scales.insert("a".into(), PoolScale { desired: 1, generation: 7, grown, ..PoolScale::default() });
    let first = scene.decide();
    assert_eq!(first.pools[0].scale.as_ref().map(|scale| scale.failures), Some(1));
    scene.apply(&first);
    scene.now = Some(NOW.plus(1_000));
    let again = scene.decide();
    assert_eq!((again.pools[0].scale.clone(), again.pools[0].stuck.clone()), (None, vec!["i-1".to_owned()]));
}

#[test]
fn a_machine_whose_worker_is_lost_is_neither_waited_for_nor_ended_at_once() {
    let old = Tick(NOW.0 - 60 * MIN);
    let cut_off = InstanceSeen { lost: Some(Tick(NOW.0 - MIN)), ..instance("i-1", None, old) };
    let group = GroupSeen { at: NOW, desired: 1, max: 9, instances: vec![cut_off], ..GroupSeen::default() };
    let mut scene = Scene::default().pool("a", 8, (0, 9), 10).driven("a", group).waits(gpus(8), 1, None);
    scene.scales.insert("a".into(), PoolScale { desired: 0, generation: 7, ..PoolScale::default() });
    let pool = scene.decide().pools.remove(0);
    assert_eq!((pool.desired, pool.booting, pool.stuck, pool.hold), (1, 0, vec![], None));
    scene.now = Some(NOW.plus(15 * MIN));
    scene.groups.get_mut("a").expect("a group").at = NOW.plus(15 * MIN);
    assert_eq!(scene.decide().pools[0].stuck, ["i-1"]);
}

#[test]
fn what_was_ordered_under_a_larger_max_is_not_waited_for() {
    let mut scene = Scene::default().pool("a", 8, (0, 2), 10).worker("a", 8, None);
    let grown = Some(NOW);
    scene.scales.insert("a".into(), PoolScale { desired: 5, generation: 7, grown, ..PoolScale::default() });
    let pool = scene.decide().pools.remove(0);
    assert_eq!((pool.booting, pool.desired), (1, 2));
}

#[test]
fn what_nobody_ends_is_written_down_once() {
    let mut scene = Scene::default().pool("a", 8, (0, 9), 10).worker("a", 8, Some(Tick(0)));
    let first = scene.decide();
    assert_eq!(first.pools[0].chosen, [WorkerId(1)]);
    scene.apply(&first);
    scene.now = Some(NOW.plus(1_000));
    let again = scene.decide();
    assert_eq!((again.pools[0].chosen.clone(), again.pools[0].scale.clone()), (vec![WorkerId(1)], None));
}

#[test]
fn a_worker_that_goes_long_after_is_no_machine_that_never_came() {
    let instances = (1..5).map(|n| instance(&format!("i-{n}"), Some(n), Tick(0))).collect();
    let group = GroupSeen { at: NOW, desired: 4, max: 9, instances, ..GroupSeen::default() };
    let mut scene = Scene::default().pool("a", 8, (0, 9), 10).driven("a", group);
    for _ in 0..4 {
        scene = scene.worker("a", 8, None);
        let spec = &mut scene.workers.last_mut().expect("one").0;
        spec.labels.insert("instance_id".into(), format!("i-{}", spec.labels.len()));
    }
    let grown = Some(Tick(NOW.0 - 60 * MIN));
    scene.scales.insert("a".into(), PoolScale { desired: 5, generation: 7, grown, ..PoolScale::default() });
    let pool = scene.waits(gpus(8), 1, None).decide().pools.remove(0);
    assert_eq!((pool.hold, pool.desired), (None, 5));
    assert_eq!(pool.scale.map_or(0, |scale| scale.failures), 0);
}

#[test]
fn a_provider_that_gives_nothing_is_left_for_another() {
    let group = GroupSeen { at: NOW, desired: 2, max: 9, ..GroupSeen::default() };
    let mut scene =
        Scene::default().pool("spot", 8, (0, 9), 10).pool("up", 8, (0, 9), 20).driven("spot", group);
    let grown = Some(Tick(NOW.0 - 16 * MIN));
    scene.scales.insert(
        "spot".into(),
        PoolScale { desired: 2, generation: 3, grown, failures: 2, ..PoolScale::default() },
    );
    let decision = scene.waits(gpus(8), 2, None).decide();
    assert_eq!((decision.pools[0].desired, decision.pools[1].desired), (0, 2));
    assert_eq!(
        decision.pools[0].scale.as_ref().map(|scale| scale.retry_at),
        Some(NOW.plus(4 * RETRY_FIRST_MS))
    );
}

#[test]
fn workers_that_do_not_say_their_instance_are_not_waited_for_again() {
    let group = GroupSeen {
        at: NOW,
        desired: 1,
        max: 9,
        instances: vec![instance("i-1", None, NOW)],
        ..GroupSeen::default()
    };
    let scene = Scene::default().pool("a", 8, (0, 9), 10).driven("a", group).worker("a", 8, None);
    let decision = scene.waits(gpus(8), 1, None).decide();
    assert_eq!((decision.pools[0].current, decision.pools[0].booting, decision.pools[0].desired), (1, 0, 2));
}

#[test]
fn no_machine_is_ended_that_a_worker_without_a_name_may_be_on() {
    let old = Tick(NOW.0 - 16 * MIN);
    let instances = vec![instance("i-1", None, old), instance("i-2", None, old)];
    let group = GroupSeen { at: NOW, desired: 2, max: 9, instances, ..GroupSeen::default() };
    let none_there = Scene::default().pool("a", 8, (0, 9), 10).driven("a", group);
    assert_eq!(none_there.decide().pools[0].stuck, ["i-1", "i-2"]);
    let decision = none_there.worker("a", 8, None).decide();
    assert_eq!((decision.pools[0].stuck.len(), decision.pools[0].booting), (0, 0));
}

#[test]
fn what_was_ordered_and_is_not_needed_any_more_is_dropped_after_the_cool_down() {
    let mut scene = Scene::default().pool("a", 8, (0, 9), 10);
    let scale =
        |ago| PoolScale { desired: 3, generation: 3, grown: Some(Tick(NOW.0 - ago)), ..PoolScale::default() };
    scene.scales.insert("a".into(), scale(MIN));
    assert_eq!(scene.wanted(), pairs(&[("a", 3)]));
    scene.scales.insert("a".into(), scale(6 * MIN));
    assert_eq!(scene.wanted(), pairs(&[("a", 0)]));
}

#[test]
fn a_step_and_a_cool_down_slow_it_down_but_cut_no_gang() {
    let mut scene = Scene::default().pool("a", 8, (0, 99), 10).waits(gpus(8), 50, None);
    let timing = PoolTiming { step_max: 10, scale_out_cooldown_ms: MIN, ..PoolTiming::default() };
    scene.fleet.pools.get_mut("a").expect("a pool").timing = timing;
    let decision = scene.decide();
    assert_eq!(decision.pools[0].desired, 10);
    scene.apply(&decision);
    scene.now = Some(NOW.plus(MIN / 2));
    assert_eq!(scene.wanted(), pairs(&[("a", 10)]));
    scene.now = Some(NOW.plus(MIN));
    assert_eq!(scene.wanted(), pairs(&[("a", 20)]));
    scene.waiting.clear();
    scene.scales.clear();
    scene.gangs.push((gpus(8), gang(16), 1));
    assert_eq!(scene.wanted(), pairs(&[("a", 16)]));
}

#[test]
fn a_gang_that_shares_a_label_is_bought_where_the_template_says_it() {
    let mut scene = Scene::default().pool("a", 8, (0, 9), 10).worker("a", 8, Some(NOW));
    let together = Gang { require: Some("rack".into()), ..gang(2) };
    scene.gangs.push((gpus(8), together, 1));
    assert_eq!(scene.decide().unmet.len(), 1, "nobody knows where its machines would be");
    let template =
        scene.fleet.pools.get_mut("a").and_then(|pool| pool.template.as_mut()).expect("a template");
    template.labels.insert("rack".into(), "r1".into());
    assert_eq!(scene.wanted(), pairs(&[("a", 3)]), "the one that is there is elsewhere");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bounds hold, nothing that is busy is chosen within them, gangs get all their seats or nothing, and a decision that was taken is
    /// not taken again.
    #[test]
    fn whatever_is_asked(
        pools in prop::collection::vec((1_usize..9, 0_u32..3, 0_u32..12, 1_u64..40), 1..5),
        workers in prop::collection::vec((0_usize..5, prop::bool::ANY, 0_u64..20), 0..12),
        tasks in prop::collection::vec((1_u32..9, 1_u64..20, prop::option::of(1_u64..90)), 0..6),
        gangs in prop::collection::vec((1_u32..9, 2_u32..6, 1_u64..3), 0..3),
    ) {
        let mut scene = Scene::default();
        let names: Vec<String> = (0..pools.len()).map(|n| format!("p{n}")).collect();
        for (name, (gpus, min, more, usd)) in names.iter().zip(&pools) {
            scene = scene.pool(name, *gpus, (*min, min + more), *usd);
        }
        for (pool, is_idle, minutes) in &workers {
            let n = pool % pools.len();
            scene = scene.worker(&names[n], pools[n].0, is_idle.then_some(Tick(NOW.0 - minutes * MIN)));
        }
        for (count, n, run) in &tasks {
            scene = scene.waits(gpus(*count), *n, run.map(|minutes| minutes * MIN));
        }
        scene.gangs = gangs.iter().map(|(count, ranks, n)| (gpus(*count), gang(*ranks), *n)).collect();
        let first = scene.decide();
        for pool in &first.pools {
            let spec = &scene.fleet.pools[&pool.pool];
            prop_assert!(pool.desired <= spec.max.max(pool.current), "{pool:?}");
            prop_assert!(pool.desired >= spec.min, "{pool:?}");
            let busy = pool.chosen.iter().filter(|id| scene.workers[id.0 as usize - 1].2.is_none()).count();
            let excess = pool.current.saturating_sub(spec.max) as usize;
            prop_assert!(busy <= excess, "{pool:?}");
        }
        // What was decided is not decided again. Machines that are on their way for one are taken by another that was before it in the
        // queue, as they will be when they come; so it may take some decisions until all have theirs, but it comes to rest.
        let mut last = first;
        for round in 0.. {
            prop_assert!(round < 40, "it does not come to rest: {last:?}");
            scene.apply(&last);
            for id in last.pools.iter().flat_map(|pool| &pool.chosen) {
                scene.workers[id.0 as usize - 1].1 = MachineState::Leaving;
            }
            last = scene.decide();
            if last.pools.iter().all(|pool| pool.scale.is_none() && pool.chosen.is_empty()) {
                break;
            }
        }
    }

    /// A single gang on an empty pool: all of its machines, or none.
    #[test]
    fn a_gang_is_never_bought_in_part(ranks in 2_u32..20, max in 0_u32..20) {
        let mut scene = Scene::default().pool("a", 8, (0, max), 10);
        scene.gangs.push((gpus(8), gang(ranks), 1));
        let wanted = scene.decide().pools[0].desired;
        prop_assert_eq!(wanted, if ranks <= max { ranks } else { 0 });
    }
}
