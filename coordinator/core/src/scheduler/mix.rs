//! The mix: what tasks ask for, counted as they arrive. It says what the next ones will probably need, and so what a placement spoils.
//!
//! Left out: when they arrive. The mix knows no order and no durations.

use crate::model::job_spec::{JobSpec, TaskCommon};
use crate::model::placement::WHOLE;
use crate::model::resources::Resources;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Observations, in indices, after which all counts are halved: what was asked last month weighs little.
const HALVED_AT: u64 = 1 << 20;
/// Distinct shapes that are remembered.
const SHAPES_MAX: usize = 4_096;
/// Shapes that a score looks at, at most; they cover `TYPICAL_PERCENT` of what is asked where fewer do.
const TYPICAL_MAX: usize = 256;
const TYPICAL_PERCENT: u64 = 98;
/// Shares of typical shapes are in units of 1 / this.
pub(super) const SHARES: u64 = 1 << 16;
/// A mix is used anew when a part of 1 / this of it is new: with every job at first, and later rarely enough that what was scored stays
/// good for many placements.
const RENEWED_PART: u64 = 8;

/// What a task asks for, as far as it matters to where others go. Memory of a device, capability, links and labels are left out: the
/// worker they exclude is counted as if it fitted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Devices; 0 = none.
    pub devices: u32,
    /// Thousandths of each.
    pub milli: u16,
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Accepted models; empty = any.
    pub models: Vec<String>,
}

impl Shape {
    /// The shape of one rank; none for MIG instances, which nobody else can take.
    #[must_use]
    pub fn of(resources: &Resources) -> Option<Self> {
        let gpus = resources.gpus.as_ref();
        if gpus.is_some_and(|g| g.amount.profile().is_some()) {
            return None;
        }
        Some(Self {
            devices: resources.gpu_count(),
            milli: gpus.map_or(0, |g| g.amount.milli()),
            cpu_milli: resources.cpu_milli,
            memory: resources.memory,
            models: gpus.map(|g| g.model.clone()).unwrap_or_default(),
        })
    }

    /// Thousandths of devices in all.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        u64::from(self.devices) * u64::from(self.milli)
    }

    /// What one more of it is worth, in thousandths of a GPU: it counts mostly as a task, a little as an amount (a task that asks for half
    /// of a GPU waits no shorter than one that asks for all of it), and several GPUs at once, which are the hardest to find, count more.
    pub(super) fn value(&self) -> u64 {
        let each = 850 + 150 * u64::from(self.milli) / u64::from(WHOLE);
        let several = if self.devices > 1 { 12 } else { 10 };
        u64::from(self.devices) * each * several / 10
    }
}

/// Counts of shapes.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    counts: BTreeMap<Shape, u64>,
    total: u64,
    /// Observed since `typical` was asked last.
    fresh: u64,
}

impl Mix {
    /// So many more of a shape arrived.
    pub fn observe(&mut self, shape: Shape, count: u64) {
        let count = count.min(HALVED_AT);
        *self.counts.entry(shape).or_default() += count;
        self.total += count;
        self.fresh += count;
        if self.total > HALVED_AT || self.counts.len() > SHAPES_MAX {
            self.counts.retain(|_, n| {
                *n /= 2;
                *n > 0
            });
            self.total = self.counts.values().sum();
        }
    }

    /// All indices of a job arrived; a gang counts by its ranks.
    pub fn observe_job(&mut self, spec: &JobSpec) {
        for task in &spec.tasks {
            let common: &TaskCommon = spec.common(task);
            let ranks = common.gang.as_ref().map_or(1, |gang| u64::from(gang.min));
            if let Some(shape) = Shape::of(&common.resources) {
                self.observe(shape, u64::from(task.count()) * ranks);
            }
        }
    }

    /// Whether enough has arrived since `typical` was asked that it would say something else.
    #[must_use]
    pub fn is_renewed(&self) -> bool {
        self.fresh > 0 && self.fresh * RENEWED_PART >= self.total
    }

    /// The most frequent shapes and their shares of `SHARES`, the most frequent first.
    pub fn typical(&mut self) -> Vec<(Shape, u64)> {
        self.fresh = 0;
        let mut ranked: Vec<(&Shape, u64)> = self.counts.iter().map(|(shape, n)| (shape, *n)).collect();
        ranked.sort_by_key(|(shape, n)| (Reverse(*n), *shape));
        let mut covered = 0;
        let enough = ranked.iter().position(|(_, n)| {
            covered += n;
            covered * 100 >= self.total * TYPICAL_PERCENT
        });
        ranked.truncate(enough.map_or(0, |at| at + 1).min(TYPICAL_MAX));
        let total: u64 = ranked.iter().map(|(_, n)| n).sum();
        ranked.into_iter().map(|(shape, n)| (shape.clone(), n * SHARES / total.max(1))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(cpu_milli: u64) -> Shape {
        Shape { devices: 1, milli: 500, cpu_milli, memory: 0, models: Vec::new() }
    }

    #[test]
    fn the_rare_is_left_out_and_the_rest_shares_all() {
        let mut mix = Mix::default();
        mix.observe(shape(1), 66);
        mix.observe(shape(2), 33);
        mix.observe(shape(3), 1);
        assert!(mix.is_renewed());
        assert_eq!(mix.typical(), [(shape(1), SHARES * 2 / 3), (shape(2), SHARES / 3)]);
        assert!(!mix.is_renewed());
    }

    #[test]
    fn what_was_asked_long_ago_weighs_less_and_less() {
        let mut mix = Mix::default();
        mix.observe(shape(1), HALVED_AT);
        (0..20).for_each(|_| mix.observe(shape(2), HALVED_AT / 2));
        let typical = mix.typical();
        assert_eq!(typical.iter().map(|(s, _)| s.cpu_milli).collect::<Vec<_>>(), [2]);
        assert!(mix.total <= HALVED_AT);
    }

    #[test]
    fn several_devices_are_worth_more_than_as_many_alone() {
        let eight = Shape { devices: 8, milli: WHOLE, ..shape(0) };
        let one = Shape { devices: 1, milli: WHOLE, ..shape(0) };
        assert_eq!((one.value(), eight.value(), shape(0).value()), (1_000, 9_600, 925));
    }
}
