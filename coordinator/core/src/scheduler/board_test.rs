//! The board against the slow way of choosing, and what its choices are for.

use super::board::Board;
use super::mix::{SHARES, Shape};
use super::ranking::Ask;
use super::score::{Free, Lens};
use crate::model::ids::WorkerId;
use crate::model::placement::WHOLE;
use crate::model::resources::{GpuAmount, GpuRequest, Resources};
use crate::model::worker::{Device, WorkerSpec};
use crate::state::Used;
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;

fn worker(name: &str, cpus: u64, model: &str, gpus: usize) -> WorkerSpec {
    let device = Device { model: model.to_owned(), memory: 16 * GIB, ..Device::default() };
    WorkerSpec {
        name: name.to_owned(),
        pool: name.split('-').next().unwrap_or_default().to_owned(),
        cpu_milli: cpus * 1_000,
        memory: 64 * GIB,
        devices: vec![device; gpus],
        ..WorkerSpec::default()
    }
}

fn ask(cpus: u64, amount: Option<GpuAmount>, models: &[&str]) -> Ask {
    let model = models.iter().map(|m| (*m).to_owned()).collect();
    let gpus = amount.map(|amount| GpuRequest { amount, model, ..GpuRequest::default() });
    let resources = Resources { cpu_milli: cpus * 1_000, memory: GIB, disk: 0, gpus };
    Ask { resources, constraints: Vec::new() }
}

/// A board with these workers, 1 … n, and what is taken of them.
struct Cluster {
    board: Board,
    specs: BTreeMap<WorkerId, WorkerSpec>,
    used: BTreeMap<WorkerId, Used>,
}

impl Cluster {
    fn new(specs: Vec<WorkerSpec>) -> Self {
        let specs: BTreeMap<WorkerId, WorkerSpec> = (1..).map(WorkerId).zip(specs).collect();
        let mut board = Board::default();
        specs.iter().for_each(|(id, spec)| board.set(*id, spec, &Used::default()));
        let used = specs.keys().map(|id| (*id, Used::default())).collect();
        Self { board, specs, used }
    }

    fn expect(&mut self, ask: &Ask, count: u64) {
        self.board.mix().observe(Shape::of(&ask.resources).expect("a shape"), count);
    }

    /// Places one, and says where: worker and first device.
    fn place(&mut self, ask: &Ask) -> Option<(u64, Option<u16>)> {
        let (worker, shares) = self.board.choose(ask, |_| true)?;
        let used = self.used.get_mut(&worker).expect("a worker of the board");
        used.take(&ask.resources, &shares);
        self.board.update(worker, used);
        Some((worker.0, shares.first().map(|share| share.device)))
    }
}

/// Numbers of a seed, the same for ever.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn the_kept_order_chooses_what_a_look_at_every_worker_would() {
    let kinds = [("a", 8, "T4", 2), ("b", 16, "G2", 4), ("c", 8, "", 0), ("d", 4, "T4", 1)];
    let asks = [
        ask(1, None, &[]),
        ask(3, None, &[]),
        ask(1, Some(GpuAmount::Whole(1)), &[]),
        ask(2, Some(GpuAmount::Whole(2)), &["G2", "T4"]),
        ask(1, Some(GpuAmount::Fraction(300)), &["T4"]),
        ask(2, Some(GpuAmount::Fraction(550)), &[]),
    ];
    for seed in 0..40 {
        let mut chance = Chance(seed);
        let specs = (0..12).map(|n| {
            let (pool, cpus, model, gpus) = kinds[chance.below(4) as usize];
            worker(&format!("{pool}-{n}"), cpus, model, gpus)
        });
        let mut cluster = Cluster::new(specs.collect());
        let mut running: Vec<(WorkerId, Resources, Vec<_>)> = Vec::new();
        for step in 0..120 {
            let ask = &asks[chance.below(6) as usize];
            cluster.expect(ask, 1 + chance.below(90));
            match chance.below(8) {
                0 if !running.is_empty() => {
                    let (id, resources, shares) =
                        running.swap_remove(chance.below(running.len() as u64) as usize);
                    let used = cluster.used.get_mut(&id).expect("a worker");
                    used.give_back(&resources, &shares);
                    cluster.board.update(id, used);
                }
                // It goes and comes back.
                1 => {
                    let id = WorkerId(1 + chance.below(12));
                    cluster.board.remove(id);
                    if chance.below(2) == 0 {
                        cluster.board.set(id, &cluster.specs[&id], &cluster.used[&id]);
                    }
                }
                _ => {
                    let pool = ["a", "b", "c", "d"][chance.below(4) as usize];
                    let ask = Ask { constraints: vec![pool.to_owned()], ..ask.clone() };
                    let specs = &cluster.specs;
                    let slow = cluster.board.choose_among(&ask, |id| specs[&id].pool != pool);
                    let fast = cluster.board.choose(&ask, |spec| spec.pool != pool);
                    assert_eq!(fast, slow, "seed {seed}, step {step}, {ask:?}");
                    let Some((id, shares)) = fast else { continue };
                    let used = cluster.used.get_mut(&id).expect("a worker");
                    used.take(&ask.resources, &shares);
                    cluster.board.update(id, used);
                    running.push((id, ask.resources, shares));
                }
            }
        }
        assert!(running.len() > 5, "seed {seed} placed little: {}", running.len());
    }
}

#[test]
fn the_worth_is_the_plain_sum() {
    let shape =
        |devices, milli, cpu_milli, memory| Shape { devices, milli, cpu_milli, memory, models: Vec::new() };
    let typical = [
        (shape(1, 300, 1_000, GIB), SHARES / 2),
        (shape(1, WHOLE, 3_000, 0), SHARES / 4),
        (shape(4, WHOLE, 8_000, 9 * GIB), SHARES / 8),
        (shape(0, 0, 1_000, GIB), SHARES / 8),
    ];
    let lens = Lens::new(&typical, |_| true);
    let copies = |shape: &Shape, free: &Free| -> f64 {
        let whole = free.devices.iter().filter(|milli| **milli == WHOLE).count() as f64;
        let slots = match (shape.devices, shape.milli) {
            (1, WHOLE) => whole,
            (1, part) => free.devices.iter().map(|milli| f64::from(milli / part)).sum(),
            (n, _) if whole >= f64::from(n) => whole / f64::from(n),
            _ => 0.0,
        };
        let part = |of: u64, each: u64| if each == 0 { 4_096.0 } else { of as f64 / each as f64 };
        let rest = part(free.cpu_milli, shape.cpu_milli).min(part(free.memory, shape.memory));
        if rest < 1.0 || slots < 1.0 { 0.0 } else { slots.min(rest.floor() + 0.9 * rest.fract()) }
    };
    let mut chance = Chance(7);
    for _ in 0..500 {
        let devices =
            (0..chance.below(9)).map(|_| [0, 190, 350, 700, WHOLE, WHOLE][chance.below(6) as usize]);
        let devices = devices.collect();
        let free = Free { cpu_milli: 100 * chance.below(300), memory: GIB * chance.below(40) / 2, devices };
        let plain = |(shape, share): &(Shape, u64)| (*share * shape.value()) as f64 * copies(shape, &free);
        let plain: f64 = typical.iter().filter(|(s, _)| s.devices > 0).map(plain).sum();
        let off = (lens.worth(&free) as f64 - plain).abs();
        // Copies are counted in 1 / 1024, of four shapes of at most 9,600 each.
        assert!(off <= 4.0 * 9_600.0 * SHARES as f64 / 512.0, "{free:?}: off by {off} of {plain}");
        assert!(off <= plain / 50.0 + 1.0, "{free:?}: off by {off} of {plain}");
    }
}

#[test]
fn equal_places_go_by_id() {
    let mut cluster = Cluster::new((0..4).map(|n| worker(&format!("a-{n}"), 8, "T4", 1)).collect());
    let one = ask(1, Some(GpuAmount::Whole(1)), &[]);
    cluster.expect(&one, 100);
    let places: Vec<_> = (0..5).map(|_| cluster.place(&one).map(|(worker, _)| worker)).collect();
    assert_eq!(places, [Some(1), Some(2), Some(3), Some(4), None]);
}

#[test]
fn a_scarce_model_is_kept_for_those_who_insist_on_it() {
    let specs = || vec![worker("a-1", 8, "T4", 2), worker("b-1", 8, "G2", 2)];
    let (any, insists) = (ask(1, Some(GpuAmount::Whole(1)), &[]), ask(1, Some(GpuAmount::Whole(1)), &["T4"]));
    // Nobody insists: the first by id. Three quarters insist on the half that is T4: the other.
    let mut cluster = Cluster::new(specs());
    cluster.expect(&any, 100);
    assert_eq!(cluster.place(&any), Some((1, Some(0))));
    let mut cluster = Cluster::new(specs());
    cluster.expect(&any, 100);
    cluster.expect(&insists, 300);
    assert_eq!(cluster.place(&any), Some((2, Some(0))));
    assert_eq!(cluster.place(&any), Some((2, Some(1))));
    // It is no refusal: when only scarce ones are left, they are given.
    assert_eq!(cluster.place(&any), Some((1, Some(0))));
}

#[test]
fn a_part_goes_where_the_rest_is_of_use() {
    // 300 beside 700 leaves nothing; 300 beside 500 leaves 200 that nobody wants, 300 of a whole one spoils it.
    let mut cluster = Cluster::new(vec![worker("a-1", 16, "T4", 3)]);
    let part = |milli| ask(1, Some(GpuAmount::Fraction(milli)), &[]);
    cluster.expect(&part(500), 100);
    cluster.expect(&part(300), 100);
    cluster.expect(&part(700), 100);
    assert_eq!(cluster.place(&part(700)), Some((1, Some(0))));
    assert_eq!(cluster.place(&part(500)), Some((1, Some(1))));
    assert_eq!(cluster.place(&part(300)), Some((1, Some(0))));
    assert_eq!(cluster.place(&part(500)), Some((1, Some(1))));
}

#[test]
fn tasks_without_gpus_leave_gpu_workers_alone_while_they_can() {
    let mut cluster = Cluster::new(vec![worker("a-1", 8, "T4", 2), worker("c-1", 4, "", 0)]);
    cluster.expect(&ask(2, Some(GpuAmount::Whole(1)), &[]), 100);
    let plain = ask(2, None, &[]);
    let places: Vec<_> = (0..3).map(|_| cluster.place(&plain).map(|(worker, _)| worker)).collect();
    assert_eq!(places, [Some(2), Some(2), Some(1)]);
}
