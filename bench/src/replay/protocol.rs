//! One run of the FGD protocol: the pods in an order drawn by the seed, filled up to 130 % of the GPUs by draws from the list; each is placed
//! at once or dropped for good, none leaves, none that fits is refused, and nothing is known of the order.

use super::trace::{Pod, Trace};
use muster_core::model::ids::WorkerId;
use muster_core::scheduler::{Board, Shape};
use muster_core::state::Used;
use std::time::Instant;

/// Demand at the end, of the cluster's GPUs.
const DEMAND_PERCENT: u64 = 130;

/// What the scheduler knows of the mix of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixOf {
    /// The shares of shapes in the original list, as the protocol allows (not their order, nor what is still to come).
    List,
    /// Only what has arrived.
    Learnt,
}

/// What one run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// GPUs not allocated, % of all, as the mean over arrivals while demand rounds to 100 % of the cluster.
    pub unallocated_pct: f64,
    pub decisions: u64,
    /// Of all decisions.
    pub seconds: f64,
}

/// `SplitMix64`: the order of a seed is the same everywhere and for ever.
pub struct Chance(pub u64);

impl Chance {
    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        usize::try_from((u128::from(z) * n as u128) >> 64).unwrap_or(0)
    }
}

/// The arrivals of a seed, as positions in the list of pods.
fn arrivals(pods: &[Pod], seed: u64, capacity_milli: u64) -> Vec<usize> {
    let mut chance = Chance(seed);
    let mut order: Vec<usize> = (0..pods.len()).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, chance.below(last + 1));
    }
    let asked = |at: usize| pods[at].devices * pods[at].milli;
    let target = capacity_milli * DEMAND_PERCENT / 100;
    let mut demand: u64 = order.iter().map(|at| asked(*at)).sum();
    while demand > target && !order.is_empty() {
        demand -= asked(order.remove(chance.below(order.len())));
    }
    // The original test looks at the thousandths of one device only, and so does this one.
    if demand > 0 {
        loop {
            let at = chance.below(pods.len());
            if demand + pods[at].milli > target {
                break;
            }
            demand += asked(at);
            order.push(at);
        }
    }
    order
}

/// Plays one run.
#[must_use]
pub fn replay(trace: &Trace, seed: u64, mix: MixOf) -> Outcome {
    let mut board = Board::default();
    let mut used = vec![Used::default(); trace.nodes.len()];
    let workers = || trace.nodes.iter().zip(1_u64..);
    workers().for_each(|(spec, id)| board.set(WorkerId(id), spec, &Used::default()));
    let capacity: u64 = trace.nodes.iter().map(|spec| spec.devices.len() as u64 * 1_000).sum();
    let shape = |pod: &Pod| Shape::of(&pod.ask.resources);
    if mix == MixOf::List {
        trace.pods.iter().filter_map(shape).for_each(|shape| board.mix().observe(shape, 1));
    }
    let order = arrivals(&trace.pods, seed, capacity);
    let (mut arrived, mut allocated) = (0, 0);
    let (mut sum, mut events) = (0.0, 0.0);
    let started = Instant::now();
    for at in &order {
        let pod = &trace.pods[*at];
        let asked = pod.devices * pod.milli;
        arrived += asked;
        if let Some(shape) = shape(pod).filter(|_| mix == MixOf::Learnt) {
            board.mix().observe(shape, 1);
        }
        if let Some((worker, shares)) = board.choose(&pod.ask, |_| true) {
            if let Some(used) = usize::try_from(worker.0 - 1).ok().and_then(|at| used.get_mut(at)) {
                used.take(&pod.ask.resources, &shares);
                board.update(worker, used);
            }
            allocated += asked;
        }
        if (arrived * 100 + capacity / 2) / capacity == 100 {
            sum += 100.0 - 100.0 * allocated as f64 / capacity as f64;
            events += 1.0;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Outcome { unallocated_pct: sum / f64::max(events, 1.0), decisions: order.len() as u64, seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\nb,8000,65536,2,T4\na,8000,65536,2,G2\n";

    #[test]
    fn every_gpu_is_given_away_when_all_fit_and_the_order_is_the_seeds() {
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
            p1,1000,1024,1,1000,T4|G2\np2,1000,1024,1,1000,\np3,1000,1024,1,1000,\np4,1000,1024,1,1000,\n";
        let trace = Trace::parse(NODES, pods).expect("a trace");
        let orders: Vec<Vec<usize>> = (42..50).map(|seed| arrivals(&trace.pods, seed, 4_000)).collect();
        assert!(orders.iter().any(|order| *order != orders[0]));
        for seed in 42..50 {
            let first = arrivals(&trace.pods, seed, 4_000);
            assert_eq!(first, arrivals(&trace.pods, seed, 4_000));
            let demand: u64 = first.iter().map(|at| trace.pods[*at].devices * trace.pods[*at].milli).sum();
            assert_eq!(demand, 5_000, "the list, and draws up to 5,200");
            let outcome = replay(&trace, seed, MixOf::List);
            assert!(outcome.unallocated_pct < 1e-9, "seed {seed}: {outcome:?}");
        }
    }

    #[test]
    fn what_fits_nowhere_is_dropped_and_counts_as_not_allocated() {
        let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np1,9000,1024,1,1000\np2,1000,1024,1,1000\n\
            p3,1000,1024,1,1000\np4,1000,1024,1,1000\n";
        let trace = Trace::parse(NODES, pods).expect("a trace");
        let outcome = replay(&trace, 42, MixOf::Learnt);
        assert!((outcome.unallocated_pct - 25.0).abs() < 1e-9, "{outcome:?}");
    }
}
