//! What operators do while everything goes on: drains, and the verbs of `muster cluster`.

use super::{Injected, Kind, On, Target};
use crate::chaos::client::Answer;
use crate::chaos::world::World;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;

pub const KINDS: &[Kind] = &[Kind::new("drain-worker", "26", On::Worker, (1_000, 8_000), 4, drain)];

/// Placements stop, what runs is evicted after a second; then the worker is given back.
fn drain(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let id = format!("drain-{:x}", target.rng.bits());
    let name = target.node.clone();
    let drained = world.runtime.spawn(until_heard(Arc::clone(world), id.clone(), name.clone(), Some(1_000)));
    let again = Arc::clone(world);
    // Whoever heals does not wait: there may be no leader before another fault is healed.
    Ok(Injected::new("drained with a deadline of 1 s, undrained", move |world| {
        world.runtime.spawn(async move {
            let _ = drained.await;
            until_heard(again, format!("un{id}"), name, None).await;
        });
        Ok(())
    }))
}

async fn until_heard(world: Arc<World>, request_id: String, worker: String, deadline_ms: Option<u64>) {
    for turn in 0.. {
        let way = turn % world.client.ways();
        match world.client.drain(way, &request_id, &worker, deadline_ms).await {
            Answer::Unknown(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Answer::Heard(_) | Answer::Refused(_) => return,
        }
    }
}
