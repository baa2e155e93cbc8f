//! What one attempt may use. Values come from its resources; how they are enforced is the backend's matter.

use super::devices::Node;
use serde::{Deserialize, Serialize};

/// Limits of one attempt. Zero means "none" throughout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Share of processor time, in thousandths of a core. A share, not a ceiling, unless `cpu_quota`.
    pub cpu_millis: u32,
    /// Makes `cpu_millis` a hard ceiling.
    pub cpu_quota: bool,
    /// Memory, in bytes. Beyond it the kernel kills in the group, and the attempt ends with cause `oom`.
    pub memory_bytes: u64,
    /// Most processes and threads at one time.
    pub pids: u32,
    /// Device nodes that it may not open.
    pub denied: Vec<Node>,
    /// CPUs on which it begins; empty: all. It may change that itself.
    pub cpus: Vec<u32>,
}

impl Limits {
    /// v1 `cpu.shares`: 1024 a core, 2 to 262,144.
    #[must_use]
    pub fn shares(&self) -> u64 {
        (u64::from(self.cpu_millis) * 1024 / 1000).clamp(2, 262_144)
    }

    /// v2 `cpu.weight`: 100 a core, 1 to 10,000.
    #[must_use]
    pub fn weight(&self) -> u64 {
        u64::from(self.cpu_millis / 10).clamp(1, 10_000)
    }

    /// Microseconds of processor time in each period of 100 ms, or `None` without a ceiling. The kernel refuses less than 1 ms.
    #[must_use]
    pub fn quota_us(&self) -> Option<u64> {
        (self.cpu_quota && self.cpu_millis > 0).then(|| (u64::from(self.cpu_millis) * 100).max(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_1024_shares_weight_100_and_a_full_period() {
        let one = Limits { cpu_millis: 1000, cpu_quota: true, ..Limits::default() };
        assert_eq!((one.shares(), one.weight(), one.quota_us()), (1024, 100, Some(100_000)));
    }

    #[test]
    fn extremes_stay_in_the_kernels_range() {
        let tiny = Limits { cpu_millis: 1, cpu_quota: true, ..Limits::default() };
        assert_eq!((tiny.shares(), tiny.weight(), tiny.quota_us()), (2, 1, Some(1_000)));
        let huge = Limits { cpu_millis: 1_000_000, ..Limits::default() };
        assert_eq!((huge.shares(), huge.weight(), huge.quota_us()), (262_144, 10_000, None));
    }
}
