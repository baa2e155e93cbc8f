//! The rule of Kubernetes' cluster-autoscaler with its own defaults, from its FAQ and source: every 10 s, pods that fit neither what is there nor
//! what is coming are packed, largest first, onto new machines of each group; the expander chooses the group; a machine that was not needed for
//! so long goes, ten minutes after the last one was added at the soonest.
//!
//! Batch pods are not evicted, so only empty machines are unneeded. A group whose provider has no machine is known to have none after a minute
//! and left alone for 5 minutes, then twice that, up to 30 (`max-node-provision-time`, 15 minutes, is for machines that are launched and never
//! join: here all do). The expander is `least-waste`; where the spot group is used, `priority,least-waste` with the spot group first. Left out: the
//! random choice between equal groups (the smaller machine here), and that plain Kubernetes has no parts of a GPU.

use super::world::{Rule, Wish, World};
use muster_core::model::ids::WorkerId;
use muster_core::model::resources::{GpuAmount, Resources};
use muster_core::model::worker::WorkerSpec;
use std::collections::BTreeMap;

/// `--scan-interval`, s.
const SCAN_S: u64 = 10;
/// The default of `--scale-down-unneeded-time` and of `--scale-down-delay-after-add`, s.
pub const DEFAULT_S: u64 = 600;
/// `--max-empty-bulk-delete`.
const BULK: usize = 10;
/// A provider that has none says so within this time, s.
const REFUSED_S: u64 = 60;
/// `--initial-node-group-backoff-duration`, `--max-…` and `--node-group-backoff-reset-timeout`, s.
const BACKOFF_S: u64 = 300;
const BACKOFF_MAX_S: u64 = 1_800;
const BACKOFF_RESET_S: u64 = 10_800;

/// How a group that had no machine is left alone.
#[derive(Debug, Clone, Copy, Default)]
struct Backoff {
    until_s: u64,
    last_s: u64,
    failed_s: u64,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Kubernetes {
    /// `--scale-down-unneeded-time`, s …
    unneeded_s: u64,
    /// … divided by the GPUs of a machine, as can be said of each group by a tag.
    by_size: bool,
    /// `--scale-down-delay-after-add`, s.
    delay_s: u64,
    unneeded_since: BTreeMap<WorkerId, u64>,
    added_s: Option<u64>,
    backoffs: Vec<Backoff>,
}

impl Kubernetes {
    #[must_use]
    pub fn new(unneeded_s: u64, by_size: bool, delay_s: u64) -> Self {
        Self {
            unneeded_s,
            by_size,
            delay_s,
            unneeded_since: BTreeMap::new(),
            added_s: None,
            backoffs: Vec::new(),
        }
    }

    /// A group of which requests are open for long has no machine: they are taken back, and it is left alone.
    fn refuse(&mut self, world: &World<'_>, desired: &mut [u32]) {
        for (pool, open) in world.open.iter().enumerate() {
            if open.front().is_some_and(|asked| world.now_s - asked >= REFUSED_S) {
                desired[pool] -= open.len() as u32;
                let backoff = &mut self.backoffs[pool];
                let again = world.now_s - backoff.failed_s < BACKOFF_RESET_S && backoff.last_s > 0;
                backoff.last_s = if again { (backoff.last_s * 2).min(BACKOFF_MAX_S) } else { BACKOFF_S };
                backoff.failed_s = world.now_s;
                backoff.until_s = world.now_s + backoff.last_s;
            }
        }
    }

    /// The empty machines that were not needed for so long.
    fn unneeded(&mut self, world: &World<'_>) -> Vec<WorkerId> {
        let empty = world.machines.iter().filter(|(_, m)| m.is_ready() && m.jobs.is_empty());
        let now: BTreeMap<WorkerId, u64> =
            empty.map(|(id, _)| (*id, self.unneeded_since.get(id).copied().unwrap_or(world.now_s))).collect();
        self.unneeded_since = now;
        if self.added_s.is_some_and(|added| world.now_s - added < self.delay_s) {
            return Vec::new();
        }
        let rests_s = |id: &WorkerId| {
            let gpus = world.machines.get(id).map_or(1, |m| world.market.pools[m.pool].gpus());
            self.unneeded_s / if self.by_size { gpus } else { 1 }
        };
        let rested = self.unneeded_since.iter().filter(|(id, since)| world.now_s - *since >= rests_s(id));
        rested.map(|(id, _)| *id).take(BULK).collect()
    }
}

impl Rule for Kubernetes {
    fn every_s(&self) -> u64 {
        SCAN_S
    }

    fn look(&mut self, world: &World<'_>) -> Wish {
        self.backoffs.resize(world.market.pools.len(), Backoff::default());
        let mut desired: Vec<u32> = (0..world.market.pools.len()).map(|pool| world.wanted(pool)).collect();
        // 1. Groups that have no machine.
        self.refuse(world, &mut desired);
        // 2. Pods that what is coming will not take.
        let left = pending(world, &desired);
        // 3. More of one group.
        let asks: Vec<&Resources> = left.iter().map(|job| resources(world, *job)).collect();
        let usable = |pool: usize| self.backoffs[pool].until_s <= world.now_s;
        if let Some((pool, count)) = expand(world, &asks, &desired, usable) {
            desired[pool] += count;
            self.added_s = Some(world.now_s);
        }
        // 4. Machines that nobody needs.
        let remove = self.unneeded(world);
        for id in &remove {
            if let Some(machine) = world.machines.get(id) {
                desired[machine.pool] -= 1;
            }
        }
        Wish { desired, remove, drain_s: 0 }
    }
}

fn resources<'a>(world: &World<'a>, job: usize) -> &'a Resources {
    &world.stream.asks[world.stream.jobs[job].ask].resources
}

/// What waits and does not fit the machines that are on their way. What is there has no room for it: the scheduler has tried.
fn pending(world: &World<'_>, desired: &[u32]) -> Vec<usize> {
    let mut coming: Vec<Node> = Vec::new();
    for (pool, kind) in world.market.pools.iter().enumerate() {
        let ready = world.staying(pool).filter(|(_, m)| m.is_ready()).count();
        let booting = (desired[pool] as usize).saturating_sub(ready);
        coming.extend(std::iter::repeat_n(Node::new(&kind.spec), booting));
    }
    world.waiting.iter().copied().filter(|job| !first_fit(&mut coming, resources(world, *job))).collect()
}

fn first_fit(nodes: &mut [Node], resources: &Resources) -> bool {
    nodes.iter_mut().any(|node| node.take(resources))
}

/// The group that is to grow, and by how much.
fn expand(
    world: &World<'_>,
    asks: &[&Resources],
    desired: &[u32],
    usable: impl Fn(usize) -> bool,
) -> Option<(usize, u32)> {
    let mut best: Option<((bool, f64), usize, u32)> = None;
    for (pool, kind) in world.market.pools.iter().enumerate().filter(|(pool, _)| usable(*pool)) {
        let (nodes, taken) = estimate(&kind.spec, asks, kind.max.saturating_sub(desired[pool]));
        if nodes == 0 {
            continue;
        }
        let key = (!kind.spot, waste(&kind.spec, nodes, &taken));
        if best.as_ref().is_none_or(|(least, _, _)| key < *least) {
            best = Some((key, pool, nodes));
        }
    }
    best.map(|(_, pool, nodes)| (pool, nodes))
}

/// How many machines of a kind these pods take, packed largest first, and which of them they take.
fn estimate<'a>(spec: &WorkerSpec, asks: &[&'a Resources], max: u32) -> (u32, Vec<&'a Resources>) {
    let size = |r: &Resources| {
        r.cpu_milli as f64 / spec.cpu_milli.max(1) as f64 + r.memory as f64 / spec.memory.max(1) as f64
    };
    let mut sorted = asks.to_vec();
    sorted.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let (mut nodes, mut taken): (Vec<Node>, Vec<&Resources>) = (Vec::new(), Vec::new());
    for ask in sorted {
        if first_fit(&mut nodes, ask) {
            taken.push(ask);
        } else if (nodes.len() as u32) < max {
            let mut node = Node::new(spec);
            if node.take(ask) {
                nodes.push(node);
                taken.push(ask);
            }
        }
    }
    (nodes.len() as u32, taken)
}

/// The score of `least-waste`: the parts of CPU and of memory that stay free, added. It does not look at GPUs.
fn waste(spec: &WorkerSpec, nodes: u32, taken: &[&Resources]) -> f64 {
    let part = |has: u64, asked: u64| 1.0 - asked as f64 / (has * u64::from(nodes)).max(1) as f64;
    let cpu = taken.iter().map(|r| r.cpu_milli).sum();
    let memory = taken.iter().map(|r| r.memory).sum();
    part(spec.cpu_milli, cpu) + part(spec.memory, memory)
}

/// A machine that is not there yet.
#[derive(Debug, Clone)]
pub struct Node {
    cpu_milli: u64,
    memory: u64,
    /// Thousandths that are free.
    devices: Vec<u16>,
}

impl Node {
    #[must_use]
    pub fn new(spec: &WorkerSpec) -> Self {
        let devices = vec![1_000; spec.devices.len()];
        Self { cpu_milli: spec.cpu_milli, memory: spec.memory, devices }
    }

    /// Whether it had room, which is taken then.
    pub fn take(&mut self, resources: &Resources) -> bool {
        if resources.cpu_milli > self.cpu_milli || resources.memory > self.memory {
            return false;
        }
        let amount = resources.gpus.as_ref().map(|gpus| &gpus.amount);
        let (count, milli) = match amount {
            None => (0, 0),
            Some(GpuAmount::Fraction(milli)) => (1, *milli),
            Some(other) => (other.devices() as usize, 1_000),
        };
        let free: Vec<usize> =
            (0..self.devices.len()).filter(|n| self.devices[*n] >= milli).take(count).collect();
        if free.len() < count {
            return false;
        }
        free.into_iter().for_each(|n| self.devices[n] -= milli);
        self.cpu_milli -= resources.cpu_milli;
        self.memory -= resources.memory;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::market::{Market, SpotSupply};
    use super::*;
    use muster_core::model::resources::GpuRequest;

    fn market() -> Market {
        Market::new(SpotSupply { tick_s: 300, counts: vec![0] }, false)
    }

    fn ask(cpus: u64, gib: u64, amount: GpuAmount) -> Resources {
        let gpus = Some(GpuRequest { amount, ..GpuRequest::default() });
        Resources { cpu_milli: cpus * 1_000, memory: gib << 30, disk: 0, gpus }
    }

    #[test]
    fn the_estimate_packs_the_largest_first_and_skips_what_never_fits() {
        let market = market();
        let half = ask(4, 8, GpuAmount::Fraction(500));
        let (one, four) = (ask(12, 40, GpuAmount::Whole(1)), ask(12, 40, GpuAmount::Whole(4)));
        // x1: one machine for the whole GPU, one for both halves; the four fit none.
        let (nodes, taken) = estimate(&market.pools[0].spec, &[&half, &one, &half, &four], 10);
        assert_eq!((nodes, taken.len()), (2, 3));
        // x4: the four take all GPUs of one; the rest shares another.
        let (nodes, taken) = estimate(&market.pools[2].spec, &[&half, &one, &half, &four], 10);
        assert_eq!((nodes, taken.len()), (2, 4));
        // No more than there may be.
        let (nodes, taken) = estimate(&market.pools[0].spec, &[&one, &one, &one], 2);
        assert_eq!((nodes, taken.len()), (2, 2));
    }

    #[test]
    fn waste_adds_cpu_and_memory() {
        let market = market();
        let one = ask(12, 48, GpuAmount::Whole(1));
        // 12 of 16 CPUs, 48 of 96 GiB.
        assert_eq!(waste(&market.pools[0].spec, 1, &[&one]), 0.25 + 0.5);
        assert_eq!(waste(&market.pools[1].spec, 1, &[&one]), 0.625 + 0.75);
    }
}
