//! What one run came to, and the mean over runs.

use super::market::Pool;
use crate::report::percentile;
use serde::Serialize;

/// One run, counted in whole numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Millionths of a USD times seconds of an hour: divided once, at the end.
    micro_usd_s: u128,
    machine_s: u64,
    gpu_s: u64,
    spot_gpu_s: u64,
    /// Work that was not lost, in thousandths of GPUs times seconds …
    pub worked_milli_s: u64,
    /// … and work that had to be done again.
    pub lost_milli_s: u64,
    /// How long each task was ready and did not run, sorted.
    pub waits_s: Vec<u64>,
    /// Tasks that were never served.
    pub unserved: u64,
    /// Spot machines that went by themselves.
    pub reclaimed: u64,
    /// Tasks that were stopped because a rule removed their machine.
    pub drained: u64,
    pub last_end_s: u64,
}

impl Outcome {
    /// A machine was there for so long.
    pub fn pay(&mut self, pool: &Pool, seconds: u64) {
        self.micro_usd_s += u128::from(pool.micro_usd_per_hour) * u128::from(seconds);
        self.machine_s += seconds;
        self.gpu_s += pool.gpus() * seconds;
        self.spot_gpu_s += if pool.spot { pool.gpus() * seconds } else { 0 };
    }

    #[must_use]
    pub fn usd(&self) -> f64 {
        self.micro_usd_s as f64 / 3.6e9
    }
}

/// The mean over runs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    pub usd: f64,
    /// Of all tasks of all runs.
    pub mean_wait_s: f64,
    pub p95_wait_s: f64,
    pub machine_hours: f64,
    pub gpu_hours: f64,
    /// GPU hours of spot machines, of all.
    pub spot_pct: f64,
    /// Work that was not lost, of the GPU hours that were paid.
    pub use_pct: f64,
    pub lost_gpu_hours: f64,
    pub unserved: f64,
    pub reclaimed: f64,
    pub drained: f64,
}

impl Figures {
    #[must_use]
    pub fn of(runs: &[Outcome]) -> Self {
        let count = runs.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Outcome) -> f64| runs.iter().map(of).sum::<f64>() / count;
        let mut waits: Vec<u64> = runs.iter().flat_map(|run| run.waits_s.iter().copied()).collect();
        waits.sort_unstable();
        let gpu_s = mean(&|run| run.gpu_s as f64);
        let share = |milli_s: f64| if gpu_s > 0.0 { milli_s / 10.0 / gpu_s } else { 0.0 };
        let floats: Vec<f64> = waits.iter().map(|wait| *wait as f64).collect();
        Self {
            usd: mean(&Outcome::usd),
            mean_wait_s: waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64,
            p95_wait_s: percentile(&floats, 95),
            machine_hours: mean(&|run| run.machine_s as f64 / 3_600.0),
            gpu_hours: gpu_s / 3_600.0,
            spot_pct: share(mean(&|run| run.spot_gpu_s as f64 * 1_000.0)),
            use_pct: share(mean(&|run| run.worked_milli_s as f64)),
            lost_gpu_hours: mean(&|run| run.lost_milli_s as f64 / 3.6e6),
            unserved: mean(&|run| run.unserved as f64),
            reclaimed: mean(&|run| run.reclaimed as f64),
            drained: mean(&|run| run.drained as f64),
        }
    }
}
