//! What can be bought: machines of 1, 2, 4 and 8 GPUs on demand, and, where it is used, one of 1 GPU as spot, of which there are as many as a
//! published trace saw.
//!
//! Prices are those that the traces say of a V100 in 2023: 3.06 USD an hour on demand (the evaluator's) and 0.918 as spot (constant over the
//! week in each zone of which prices are known). A machine of n GPUs costs n times as much. Left out: prices that change, quotas.

use super::stream::Part;
use crate::replay::Chance;
use crate::spot::{Counts, counts};
use anyhow::Result;
use muster_core::model::worker::{Device, WorkerSpec};
use muster_core::scheduler::{Ask, fits_empty};
use std::path::Path;

/// Of one GPU, millionths of a USD an hour.
const ON_DEMAND: u64 = 3_060_000;
const SPOT: u64 = 918_000;
/// CPUs and memory of a machine by GPU: the nodes of the openb list have 17 CPUs a GPU.
const CPUS_A_GPU: u64 = 16;
const GIB_A_GPU: u64 = 96;
/// Machines of one kind at most: more than any of the contestants ever asks for.
const MAX: u32 = 96;
/// From the launch to the first heartbeat, s: image, driver, agent.
pub const BOOT_S: u64 = 180;

const SET: &str = "avail_16-node_aws-08-27-2023";
const TUNING_ZONES: [&str; 1] = ["us-east-2b_v100_1"];
const REPORTED_ZONES: [&str; 2] = ["us-west-2a_v100_1", "us-west-2c_v100_1"];

/// Machines of one kind.
#[derive(Debug, Clone)]
pub struct Pool {
    pub name: &'static str,
    pub spot: bool,
    pub micro_usd_per_hour: u64,
    pub max: u32,
    pub spec: WorkerSpec,
}

impl Pool {
    fn new(name: &'static str, gpus: u64, spot: bool) -> Self {
        let device = |n: u64| Device {
            uuid: format!("{name}-{n}"),
            model: "V100".to_owned(),
            memory: 16 << 30,
            compute_capability: 70,
            simulated: true,
            ..Device::default()
        };
        let spec = WorkerSpec {
            name: name.to_owned(),
            pool: name.to_owned(),
            spot,
            cpu_milli: gpus * CPUS_A_GPU * 1_000,
            memory: (gpus * GIB_A_GPU) << 30,
            disk: gpus << 40,
            devices: (0..gpus).map(device).collect(),
            ..WorkerSpec::default()
        };
        let price = if spot { SPOT } else { ON_DEMAND };
        Self { name, spot, micro_usd_per_hour: gpus * price, max: MAX, spec }
    }

    #[must_use]
    pub fn gpus(&self) -> u64 {
        self.spec.devices.len() as u64
    }
}

/// How many spot machines there are at most, from tick to tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotSupply {
    pub tick_s: u64,
    pub counts: Vec<u32>,
}

impl SpotSupply {
    /// After the end it begins again.
    #[must_use]
    pub fn at(&self, tick: u64) -> u32 {
        let at = tick % self.counts.len().max(1) as u64;
        self.counts.get(at as usize).copied().unwrap_or_default()
    }

    /// The zones of this part of the trace.
    ///
    /// # Errors
    /// A file that is missing or no trace.
    pub fn read(dir: &Path, part: Part) -> Result<Vec<Counts>> {
        let zones: &[&str] = if part == Part::Tuning { &TUNING_ZONES } else { &REPORTED_ZONES };
        zones.iter().map(|zone| counts(&dir.join("spot-aws"), SET, zone)).collect()
    }

    /// What a seed sees: a zone, from a moment on.
    #[must_use]
    pub fn draw(zones: &[Counts], seed: u64) -> Self {
        let zone = &zones[seed as usize % zones.len()];
        let from = Chance(!seed).below(zone.data.len());
        let counts = zone.data[from..].iter().chain(&zone.data[..from]).copied().collect();
        Self { tick_s: zone.gap_seconds as u64, counts }
    }
}

/// All that can be bought.
#[derive(Debug, Clone)]
pub struct Market {
    /// The spot pool, if there is one, first.
    pub pools: Vec<Pool>,
    pub supply: SpotSupply,
}

impl Market {
    #[must_use]
    pub fn new(supply: SpotSupply, uses_spot: bool) -> Self {
        let spot = uses_spot.then(|| Pool::new("spot-x1", 1, true));
        let sizes = [("x1", 1), ("x2", 2), ("x4", 4), ("x8", 8)];
        let pools = spot.into_iter().chain(sizes.map(|(name, gpus)| Pool::new(name, gpus, false))).collect();
        Self { pools, supply }
    }

    /// Whether any machine could ever hold it.
    #[must_use]
    pub fn fits(&self, ask: &Ask) -> bool {
        self.pools.iter().any(|pool| fits_empty(&ask.resources, &pool.spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_market_has_spot_first_and_prices_by_gpu() {
        let supply = SpotSupply { tick_s: 300, counts: vec![3, 0] };
        let market = Market::new(supply.clone(), true);
        let all: Vec<_> = market.pools.iter().map(|p| (p.name, p.gpus(), p.micro_usd_per_hour)).collect();
        let expected = [
            ("spot-x1", 1, 918_000),
            ("x1", 1, 3_060_000),
            ("x2", 2, 6_120_000),
            ("x4", 4, 12_240_000),
            ("x8", 8, 24_480_000),
        ];
        assert_eq!(all, expected);
        assert_eq!(Market::new(supply.clone(), false).pools[0].name, "x1");
        assert_eq!((supply.at(0), supply.at(1), supply.at(2)), (3, 0, 3));
    }

    #[test]
    fn a_seed_sees_the_whole_zone_from_a_moment_on() {
        let zones = [Counts { gap_seconds: 300.0, data: vec![1, 2, 3, 4] }];
        let mut seen = SpotSupply::draw(&zones, 5).counts;
        assert_eq!(seen, SpotSupply::draw(&zones, 5).counts);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4]);
    }
}
