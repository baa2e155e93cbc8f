//! Clocks that disagree: a node starts again with its boot-time and monotonic clocks ahead of all others, up to a year. Time of day is
//! the same for all: leases must not depend on it, and the ledger does.

use super::{Injected, Kind, On, Target};
use crate::chaos::sys;
use crate::chaos::world::World;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

pub const KINDS: &[Kind] = &[
    Kind::new("clock-of-member", "19", On::Member, (100, 2_000), 4, member).unless(no_time_namespace),
    Kind::new("clock-of-worker", "19", On::Worker, (500, 5_000), 4, worker).unless(no_time_namespace),
];

/// Seconds of a year.
const YEAR: u64 = 31_536_000;

fn no_time_namespace(_: &World) -> Option<String> {
    if !Path::new("/proc/self/timens_offsets").exists() {
        return Some("the kernel has no time namespaces".into());
    }
    let uptime = ["--time", "--boottime", "100000000", "cat", "/proc/uptime"];
    let text = match sys::run("unshare", &uptime) {
        Ok(text) => text,
        Err(error) => return Some(format!("no time namespace: {error:#}")),
    };
    let ahead = text.split('.').next().and_then(|s| s.parse::<u64>().ok()).is_some_and(|s| s > 100_000_000);
    (!ahead).then(|| "a program started in a time namespace does not see its clock".to_owned())
}

fn offset(target: &mut Target) -> u64 {
    let most = target.rng.pick(&[60, 3_600, 86_400, YEAR]);
    target.rng.range(1, most)
}

fn member(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let ahead = offset(target);
    {
        let mut node = world.node(&target.node);
        node.kill()?;
        node.clock_offset = ahead;
    }
    let name = target.node.clone();
    Ok(Injected::new(format!("killed, started again {ahead} s ahead"), move |world| {
        world.node(&name).start()
    }))
}

/// Agent, shim and tasks die together: on one machine they have one clock.
fn worker(world: &Arc<World>, target: &mut Target) -> Result<Injected> {
    let ahead = offset(target);
    {
        let mut node = world.node(&target.node);
        node.kill_everything()?;
        node.clock_offset = ahead;
    }
    let name = target.node.clone();
    let detail = format!("everything killed, started again {ahead} s ahead");
    Ok(Injected::new(detail, move |world| world.node(&name).start()))
}
