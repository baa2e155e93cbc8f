//! Target tracking, as AWS documents it for its groups: so many machines that the GPUs of those that are there are used to the target. Above it the
//! group grows at once by the proportion; it shrinks by the proportion after 15 minutes in a row below nine tenths of the target. Machines that
//! boot do not count for the metric, but for the size.
//!
//! Two layouts. `Small`: a group of machines with one GPU, and one with eight for what fits none of those, which is given one machine when such a
//! task waits with the group empty (a target of utilisation alone can't grow from nothing: a favour). `Large`: one group with eight. Where
//! spot is used, the first group takes spot machines first and on-demand ones in their place when there are none for a minute, tried again after five.
//! Busy machines are protected from scale-in, another favour; of the idle ones the oldest goes.

use super::kubernetes::Node;
use super::world::{Rule, Wish, World};
use muster_core::model::ids::WorkerId;

/// Of the metric, s.
const PERIOD_S: u64 = 60;
/// Periods in a row that are low before it shrinks.
const LOW_PERIODS: u32 = 15;
/// Of the target: low is below.
const LOW: f64 = 0.9;
/// Without a spot machine for so long, on-demand takes its place, s …
const REFUSED_S: u64 = 60;
/// … for so long, s.
const AGAIN_S: u64 = 300;

/// Which groups there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Small,
    Large,
}

/// A group.
#[derive(Debug, Clone, Default)]
struct Group {
    /// Pool of its spot machines.
    spot: Option<usize>,
    /// And of those on demand.
    pool: usize,
    low: u32,
    no_spot_until_s: u64,
}

/// See the head of the file.
#[derive(Debug)]
pub struct Target {
    /// Of 1; the usual one is 0.7.
    target: f64,
    layout: Layout,
    groups: Vec<Group>,
}

impl Target {
    #[must_use]
    pub fn new(target: f64, layout: Layout) -> Self {
        Self { target, layout, groups: Vec::new() }
    }

    fn groups(&self, world: &World<'_>) -> Vec<Group> {
        let pools = &world.market.pools;
        let named = |name: &str| pools.iter().position(|pool| pool.name == name).unwrap_or_default();
        let spot = pools.iter().position(|pool| pool.spot);
        let large = Group { pool: named("x8"), ..Group::default() };
        match self.layout {
            Layout::Small => vec![Group { spot, pool: named("x1"), ..Group::default() }, large],
            Layout::Large => vec![large],
        }
    }
}

/// How many the group is to have for this use of those that are ready.
fn tracked(ready: u32, size: u32, used: f64, target: f64, low: &mut u32) -> u32 {
    let wanted = (f64::from(ready) * used / target - 1e-9).ceil().max(0.0) as u32;
    *low = if used < LOW * target { *low + 1 } else { 0 };
    if used > target {
        size.max(wanted)
    } else if *low >= LOW_PERIODS {
        size.min(wanted)
    } else {
        size
    }
}

impl Group {
    fn pools(&self) -> impl Iterator<Item = usize> {
        self.spot.into_iter().chain([self.pool])
    }

    /// Sets what is wanted of its pools, and adds who goes.
    fn look(&mut self, world: &World<'_>, target: f64, starts: bool, wish: &mut Wish) {
        let staying = self.pools().flat_map(|pool| world.staying(pool));
        let ready: Vec<_> = staying.filter(|(_, m)| m.is_ready()).collect();
        let size = self.pools().map(|pool| world.wanted(pool)).sum();
        let gpus: u64 = ready.iter().map(|(_, m)| world.market.pools[m.pool].gpus()).sum();
        let milli: u64 =
            ready.iter().flat_map(|(_, m)| m.used.devices.values()).map(|used| u64::from(used.milli)).sum();
        let count = ready.len() as u32;
        let mut wanted = if count == 0 {
            size
        } else {
            tracked(count, size, milli as f64 / 1e3 / gpus as f64, target, &mut self.low)
        };
        if starts && size == 0 {
            wanted = 1;
        }
        let mut idle: Vec<(u64, WorkerId, usize)> = ready
            .iter()
            .filter(|(_, m)| m.jobs.is_empty())
            .map(|(id, m)| (m.launched_s, *id, m.pool))
            .collect();
        idle.sort_unstable();
        let mut gone = [0; 2];
        for (_, id, pool) in idle.into_iter().take(size.saturating_sub(wanted) as usize) {
            wish.remove.push(id);
            gone[usize::from(pool == self.pool)] += 1;
        }
        // What can't go stays in the size.
        let wanted = wanted.max(size - gone[0] - gone[1]);
        let on_demand = world.wanted(self.pool) - gone[1];
        let Some(spot) = self.spot else {
            wish.desired[self.pool] = wanted;
            return;
        };
        let launched = (world.staying(spot).count() as u32).saturating_sub(gone[0]);
        if world.open[spot].front().is_some_and(|asked| world.now_s - asked >= REFUSED_S) {
            self.no_spot_until_s = world.now_s + AGAIN_S;
        }
        if world.now_s < self.no_spot_until_s {
            wish.desired[spot] = launched;
            wish.desired[self.pool] = wanted.saturating_sub(launched);
        } else {
            wish.desired[spot] = wanted.saturating_sub(on_demand);
            wish.desired[self.pool] = on_demand;
        }
    }
}

impl Rule for Target {
    fn every_s(&self) -> u64 {
        PERIOD_S
    }

    fn look(&mut self, world: &World<'_>) -> Wish {
        if self.groups.is_empty() {
            self.groups = self.groups(world);
        }
        let mut wish = Wish { desired: vec![0; world.market.pools.len()], ..Wish::default() };
        // A task belongs to the first group that could take it.
        let mut starts = vec![false; self.groups.len()];
        for job in &world.waiting {
            let ask = &world.stream.asks[world.stream.jobs[*job].ask].resources;
            let takes = |group: &Group| Node::new(&world.market.pools[group.pool].spec).take(ask);
            if let Some(group) = self.groups.iter().position(takes) {
                starts[group] = true;
            }
        }
        for (group, starts) in self.groups.iter_mut().zip(starts) {
            group.look(world, self.target, starts, &mut wish);
        }
        wish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_at_once_and_shrinks_after_fifteen_low_periods() {
        let mut low = 0;
        // 4 of 4 used, target 0.7: 5.7 machines.
        assert_eq!(tracked(4, 4, 1.0, 0.7, &mut low), 6);
        // Two boot already: no more.
        assert_eq!(tracked(4, 6, 1.0, 0.7, &mut low), 6);
        // Between nine tenths and the target nothing happens.
        assert_eq!(tracked(6, 6, 0.65, 0.7, &mut low), 6);
        for _ in 1..LOW_PERIODS {
            assert_eq!(tracked(6, 6, 0.3, 0.7, &mut low), 6);
        }
        assert_eq!(tracked(6, 6, 0.3, 0.7, &mut low), 3, "6 x 0.3 / 0.7 = 2.6");
        assert_eq!(tracked(3, 3, 0.65, 0.7, &mut low), 3);
        assert_eq!(low, 0);
    }
}
