//! Slow disks on the deterministic runtime: a vote is answered once it is on disk, and that takes its time.

use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft_rt_sim::SimRuntime;

use super::sim_world::{C, World, draw, seed_dice};

/// A vote is two syncs, of the log and of the mark, of 100 to 300 ms each.
const SYNC_US: (u64, u64) = (200_000, 600_000);
const SEEDS: u64 = 30;

/// For how long three members whose leader died have none, ms of virtual time; none when they elect nobody in two minutes.
fn failover(seed: u64, sync_us: Option<(u64, u64)>) -> Option<u64> {
    super::trace();
    seed_dice(seed);
    let mut runtime = SimRuntime::with_seed(seed);
    let world = World::with_syncs(sync_us);
    runtime.block_on(async move {
        world.three().await;
        let first = leader(&world, 0).await?;
        // Its followers know it for a while before it dies.
        C::sleep(Duration::from_millis(2_000 + draw(1_000))).await;
        let died = C::now();
        world.crash(first).await;
        leader(&world, first).await?;
        let took = u64::try_from((C::now() - died).as_millis()).ok();
        for id in world.running() {
            if let Some(life) = world.member(id) {
                let _ = life.raft.shutdown().await;
            }
        }
        took
    })
}

/// A member other than `not` that leads.
async fn leader(world: &World, not: u64) -> Option<u64> {
    let deadline = C::now() + Duration::from_secs(120);
    while C::now() < deadline {
        let leads = |id: &u64| {
            world.member(*id).is_some_and(|life| life.raft.metrics().borrow_watched().state.is_leader())
        };
        if let Some(id) = world.running().into_iter().find(|id| *id != not && leads(id)) {
            return Some(id);
        }
        C::sleep(Duration::from_millis(5)).await;
    }
    None
}

fn sorted(sync_us: Option<(u64, u64)>) -> Vec<u64> {
    let took = |seed| failover(seed, sync_us).unwrap_or_else(|| panic!("seed {seed}: nobody is elected"));
    let mut all: Vec<u64> = (0..SEEDS).map(took).collect();
    all.sort_unstable();
    all
}

#[test]
fn disks_that_sync_in_300_ms_elect_a_leader() {
    let took = sorted(Some(SYNC_US));
    assert!(took[took.len() - 1] < 12_000, "{took:?}");
}

#[test]
fn healthy_disks_elect_one_as_soon_as_before() {
    let took = sorted(None);
    assert!(took[took.len() / 2] < 1_500 && took[took.len() - 1] < 3_000, "{took:?}");
}
