//! What is remembered of the workers of a pool together: how long they were there, and how often one was lost or reclaimed.

use super::time::Tick;
use serde::{Deserialize, Serialize};

/// Worker-time after which the past counts half, ms: 2,000 worker-hours.
pub const WINDOW_MS: u64 = 2_000 * 3_600_000;

/// Worker-time of which nothing is concluded yet, ms: a machine that is reclaimed in its first minutes says little of the next ones.
pub const SEEN_MIN_MS: u64 = 3_600_000;

/// The record of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Workers that are there: not lost.
    pub present: u32,
    /// Up to when `worker_ms` counts.
    pub at: Tick,
    /// Sum over its workers of the time that they were there, ms.
    pub worker_ms: u64,
    /// Workers that were lost or reclaimed, in thousandths: older ones count less.
    pub losses_milli: u64,
}

impl PoolRecord {
    fn count(&mut self, now: Tick) {
        let since = now.since(self.at).saturating_mul(u64::from(self.present));
        self.worker_ms = self.worker_ms.saturating_add(since);
        self.at = now.max(self.at);
        while self.worker_ms > WINDOW_MS {
            self.worker_ms /= 2;
            self.losses_milli /= 2;
        }
    }

    /// One worker more is there.
    pub fn came(&mut self, now: Tick) {
        self.count(now);
        self.present = self.present.saturating_add(1);
    }

    /// One less.
    pub fn went(&mut self, now: Tick) {
        self.count(now);
        self.present = self.present.saturating_sub(1);
    }

    /// One of them was lost, or its machine was said to go.
    pub fn lost(&mut self, now: Tick) {
        self.count(now);
        self.losses_milli = self.losses_milli.saturating_add(1_000);
    }

    /// How long a worker of it lasts, by what was seen until now, ms; none while none was ever lost, or too little was seen.
    #[must_use]
    pub fn mtbf_ms(&self, now: Tick) -> Option<u64> {
        let mut until_now = self.clone();
        until_now.count(now);
        if until_now.worker_ms < SEEN_MIN_MS {
            return None;
        }
        let seen = u128::from(until_now.worker_ms) * 1_000;
        let mtbf = seen.checked_div(u128::from(until_now.losses_milli))?;
        u64::try_from(mtbf).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn four_workers_for_five_hours_and_two_losses_are_ten_hours_each() {
        let mut pool = PoolRecord::default();
        (0..4).for_each(|_| pool.came(Tick(HOUR)));
        assert_eq!(pool.mtbf_ms(Tick(6 * HOUR)), None);
        let mut hasty = PoolRecord::default();
        hasty.came(Tick(0));
        hasty.lost(Tick(HOUR / 2));
        assert_eq!((hasty.mtbf_ms(Tick(HOUR - 1)), hasty.mtbf_ms(Tick(HOUR))), (None, Some(HOUR)));
        pool.lost(Tick(3 * HOUR));
        pool.lost(Tick(6 * HOUR));
        assert_eq!(pool.mtbf_ms(Tick(6 * HOUR)), Some(10 * HOUR));
        pool.went(Tick(6 * HOUR));
        assert_eq!(pool.mtbf_ms(Tick(8 * HOUR)), Some(13 * HOUR), "three go on");
        assert_eq!(pool.mtbf_ms(Tick(0)), Some(10 * HOUR), "time never goes back");
    }

    #[test]
    fn the_past_fades() {
        let mut pool = PoolRecord::default();
        pool.came(Tick(0));
        (0..10).for_each(|_| pool.lost(Tick(HOUR)));
        pool.lost(Tick(HOUR + 2 * WINDOW_MS));
        assert!(pool.worker_ms <= WINDOW_MS && pool.losses_milli < 11_000, "{pool:?}");
    }
}
