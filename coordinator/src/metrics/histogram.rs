//! A histogram of durations with fixed buckets, counted without a lock: the proposer and the leader's thread never wait for a scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of what takes milliseconds: a commit, a cycle of the scheduler. Seconds.
pub const SHORT: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Upper bounds of what takes from a blink to half a day: the way from a submission to its start. Seconds.
pub const LONG: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
    43_200.0,
];

/// Counts of durations by bucket.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: what is above all of them. Not cumulated.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Upper bound and how many were at most that, the last one infinite.
    pub buckets: Vec<(f64, u64)>,
    /// Seconds.
    pub sum: f64,
}

impl Snapshot {
    /// All that were observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }
}

impl Histogram {
    /// An empty one; `bounds` are seconds, and rise.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_ns: AtomicU64::new(0) }
    }

    /// One more.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// As it is now. Its count is the sum of the very buckets that it shows, so that they agree while others count on.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let sum = self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        let cumulated = self.counts.iter().map(|count| {
            total += count.load(Ordering::Relaxed);
            total
        });
        Snapshot { buckets: bounds.zip(cumulated).collect(), sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_counts_cumulate() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for ms in [50, 100, 101, 5_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let Snapshot { buckets, sum } = histogram.snapshot();
        assert_eq!(buckets, [(0.1, 2), (1.0, 3), (f64::INFINITY, 4)]);
        assert!((sum - 5.251).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn the_bounds_rise() {
        for bounds in [SHORT, LONG] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
