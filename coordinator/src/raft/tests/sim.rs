//! 200 seeds of members under crashes, isolation, lost messages, transfers, snapshots, and (every other seed) members that come, go and
//! lose their disks: what was acknowledged survives, all members apply the same, and a seed is a run. Then the same with planted bugs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use super::ledger::{Write, Writes};
use super::sim_members::{Members, operate, shape, tidy};
use super::sim_plants::Plant;
use super::sim_world::{C, Left, World, draw, seed_dice};
use crate::raft::machine::encode;
use crate::raft::types::Blob;

const FAULTS: u64 = 8;
const CLIENTS: u64 = 4;

/// What a run left.
struct Outcome {
    acknowledged: usize,
    applied: usize,
    snapshots: usize,
    changes: BTreeMap<&'static str, usize>,
    trace: Vec<String>,
}

type Acknowledged = Arc<Mutex<BTreeSet<Write>>>;

/// Writes one after another, each until it is acknowledged: an unknown outcome is tried again under the same number.
async fn client(world: Arc<World>, id: u64, acknowledged: Acknowledged, stop: Arc<AtomicBool>) {
    for number in 0.. {
        let bytes = Blob(encode(&Writes(vec![(id, number)])).expect("encodes"));
        let mut at = world.any().unwrap_or(1);
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(life) = world.member(at) {
                let write = C::timeout(Duration::from_secs(2), life.raft.client_write(bytes.clone())).await;
                // A dead process tells nobody anything.
                if matches!(&write, Ok(Ok(_))) && life.alive.load(Ordering::Relaxed) {
                    acknowledged.lock().insert((id, number));
                    break;
                }
                let leader = life.raft.metrics().borrow_watched().current_leader;
                at = leader.filter(|leader| *leader != at).or_else(|| world.any()).unwrap_or(1);
            } else {
                at = world.any().unwrap_or(1);
            }
            C::sleep(Duration::from_millis(1 + draw(40))).await;
        }
        C::sleep(Duration::from_millis(draw(20))).await;
    }
}

/// Starts one that crashed, unless it was taken out meanwhile.
async fn restart(world: &Arc<World>, known: &Members, member: u64, left: Left) {
    if known.may_start(member)
        && let Err(refused) = world.restart(member, left).await
    {
        panic!("I16: no disk lost anything, and {}", refused.0);
    }
}

async fn faults(world: &Arc<World>, known: &Members) {
    let mut down = VecDeque::new();
    for _ in 0..FAULTS {
        let Some(member) = world.any() else { continue };
        match draw(6) {
            0 | 1 => {
                if let Some(left) = world.crash(member).await {
                    down.push_back((member, left));
                }
            }
            2 => {
                world.isolated.lock().insert(member);
            }
            3 => {
                if let Some(life) = world.member(member) {
                    let to = world.any().unwrap_or(member);
                    let _ = life.raft.trigger().transfer_leader(to).await;
                }
            }
            4 => {
                if let Some(life) = world.member(member) {
                    let _ = life.raft.trigger().snapshot().await;
                }
            }
            // All at once: power is lost.
            _ => {
                for member in world.running() {
                    if let Some(left) = world.crash(member).await {
                        down.push_back((member, left));
                    }
                }
            }
        }
        C::sleep(Duration::from_millis(100 + draw(2_500))).await;
        if draw(3) == 0 {
            world.isolated.lock().clear();
        }
        while down.len() > 1 || (!down.is_empty() && draw(2) == 0) {
            if let Some((member, left)) = down.pop_front() {
                restart(world, known, member, left).await;
            }
        }
    }
    world.isolated.lock().clear();
    for (member, left) in down {
        restart(world, known, member, left).await;
    }
}

/// One run: faults, then peace, in which everything must become whole.
fn run(seed: u64, plant: Option<Plant>, record: bool) -> Outcome {
    super::trace();
    seed_dice(seed);
    let mut runtime = SimRuntime::with_seed(seed);
    runtime.record_trace(record);
    let world = World::planted(plant);
    let changes: Arc<Members> = Arc::default();
    let operators = changes.clone();
    let acknowledged: Acknowledged = Arc::default();
    let inner = world.clone();
    let known = acknowledged.clone();
    let (applied, snapshots) = runtime.block_on(async move {
        let world = inner;
        world.three().await;
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|id| C::spawn(client(world.clone(), id, known.clone(), stop.clone())))
            .collect();
        // A cluster begins with its first acknowledged write: a bootstrap that lost power before that is repeated.
        while known.lock().is_empty() {
            C::sleep(Duration::from_millis(10)).await;
        }
        if seed % 2 == 1 {
            let (outside, inside) = (world.clone(), operators.clone());
            let operator = C::spawn(async move { operate(&outside, &inside).await });
            faults(&world, &operators).await;
            operator.await.expect("no operator panics");
            world.isolated.lock().clear();
        } else {
            faults(&world, &operators).await;
        }
        // Peace: every client gets one more write through, so the cluster is alive.
        let before = known.lock().len();
        let deadline = C::now() + Duration::from_secs(60);
        while known.lock().len() < before + 20 {
            let late = C::now() >= deadline;
            assert!(!late, "seed {seed}: no progress in 60 s of peace: {:?}", shape(&world));
            C::sleep(Duration::from_millis(20)).await;
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("no client panics");
        }
        tidy(&world, &operators).await;
        // All members reach the end of the log of the one that has most.
        let lives: Vec<_> = world.running().into_iter().filter_map(|id| world.member(id)).collect();
        assert!(lives.len() >= 3, "seed {seed}: {} members run", lives.len());
        loop {
            let metrics: Vec<_> =
                lives.iter().map(|life| life.raft.metrics().borrow_watched().clone()).collect();
            let end = metrics.iter().map(|metrics| metrics.last_log_index).max().flatten();
            if metrics.iter().all(|metrics| metrics.last_applied.map(|id| id.index) == end) {
                break;
            }
            assert!(
                C::now() < deadline + Duration::from_secs(60),
                "seed {seed}: the members do not converge: {metrics:?}"
            );
            C::sleep(Duration::from_millis(50)).await;
        }
        let acknowledged = known.lock().clone();
        let digest = lives[0].machine.read().digest;
        let mut snapshots = 0;
        for life in &lives {
            let machine = life.machine.read();
            assert_eq!(machine.digest, digest, "seed {seed}: the members differ");
            for write in &acknowledged {
                assert!(
                    machine.writes.contains_key(write),
                    "seed {seed}: acknowledged write {write:?} is lost"
                );
            }
            snapshots += usize::from(life.raft.metrics().borrow_watched().snapshot.is_some());
        }
        let applied = lives[0].machine.read().writes.len();
        for life in &lives {
            let _ = life.raft.shutdown().await;
        }
        (applied, snapshots)
    });
    world.members.lock().clear();
    let acknowledged = acknowledged.lock().len();
    let changes = changes.done.lock().clone();
    Outcome { acknowledged, applied, snapshots, changes, trace: runtime.take_trace() }
}

/// The seeds of a run, `MUSTER_RAFT_SEEDS=first..end` to choose others.
fn seeds() -> std::ops::Range<u64> {
    let chosen = std::env::var("MUSTER_RAFT_SEEDS").ok();
    let parse = |text: &str| -> Option<std::ops::Range<u64>> {
        let (first, end) = text.split_once("..")?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    chosen.map_or(0..200, |text| parse(&text).expect("MUSTER_RAFT_SEEDS is first..end"))
}

/// What a run says when it fails.
fn failure(seed: u64, plant: Option<Plant>) -> Result<Outcome, String> {
    std::panic::catch_unwind(|| run(seed, plant, false)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

#[test]
fn no_seed_loses_an_acknowledged_write() {
    let (mut acknowledged, mut snapshots) = (0, 0);
    let mut changes: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds() {
        let outcome = failure(seed, None).unwrap_or_else(|text| {
            let command = "MUSTER_RAFT_SEEDS={}..{} cargo test --release -p muster-coordinator no_seed_loses";
            let command =
                command.replacen("{}", &seed.to_string(), 1).replacen("{}", &(seed + 1).to_string(), 1);
            tracing::error!(seed, command, "reproduce");
            panic!("seed {seed} failed ({text}); reproduce with: {command}");
        });
        assert!(outcome.applied >= outcome.acknowledged);
        acknowledged += outcome.acknowledged;
        snapshots += outcome.snapshots;
        for (what, count) in outcome.changes {
            *changes.entry(what).or_default() += count;
        }
    }
    assert!(
        acknowledged > 0 && snapshots > 0,
        "the runs wrote {acknowledged} and made {snapshots} snapshots"
    );
    if seeds().count() >= 100 {
        for what in ["added", "removed", "replaced", "refused", "disks dead"] {
            assert!(changes.contains_key(what), "no member was ever {what}: {changes:?}");
        }
    }
}

#[test]
fn every_planted_bug_of_the_store_is_caught() {
    for (plant, about) in Plant::ALL {
        let caught = (0..500).find_map(|seed| failure(seed, Some(plant)).err().map(|text| (seed, text)));
        let Some((seed, text)) = caught else { panic!("{plant:?} ({about}) passes 500 seeds") };
        let mut out = std::io::stderr();
        writeln!(out, "{plant:?}: seed {seed}: {text}").expect("print");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..6 {
        let first = run(seed, None, true).trace;
        let again = run(seed, None, true).trace;
        assert!(first.len() > 1_000);
        let differs = first.iter().zip(&again).position(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed} differs");
        assert_eq!(first.len(), again.len());
    }
}
