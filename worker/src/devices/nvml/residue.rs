//! Whether anything of an attempt that ended is still on its device.
//!
//! The cgroup is empty by then, so a process that the driver still lists and that was not there before the grant is a context that was not
//! torn down. Memory without a process is one too, but only where nobody else may use the device.

use crate::devices::Sample;
use std::collections::{BTreeMap, BTreeSet};

/// Memory (bytes) that may be used beyond what was at the grant: the driver's own use moves by some megabytes.
const SLACK: u64 = 256 << 20;
/// What may be used when nobody looked before the grant, e.g. by an earlier agent: some drivers keep half a gigabyte.
const UNKNOWN_IDLE: u64 = 1 << 30;

/// What was on the devices when they were granted.
#[derive(Debug, Default)]
pub struct Before(BTreeMap<String, Idle>);

#[derive(Debug, Clone, Default)]
struct Idle {
    pids: BTreeSet<u32>,
    memory: Option<u64>,
}

impl Before {
    /// A device is granted while it looks like this.
    pub fn note(&mut self, sample: &Sample) {
        let pids = sample.processes.iter().map(|p| p.pid).collect();
        self.0.insert(sample.uuid.clone(), Idle { pids, memory: sample.memory_used });
    }

    /// What is on it now and was not before, in words; none: it is clean. `lives`: whether a process is there at all; on a shared
    /// device the living belong to other attempts.
    pub fn left(&self, sample: &Sample, shared: bool, lives: impl Fn(u32) -> bool) -> Option<String> {
        let idle = self.0.get(&sample.uuid).cloned().unwrap_or_default();
        let is_new = |pid: &u32| !(idle.pids.contains(pid) || shared && lives(*pid));
        let pids: Vec<String> =
            sample.processes.iter().map(|p| p.pid).filter(is_new).map(|pid| pid.to_string()).collect();
        if !pids.is_empty() {
            return Some(format!("process {} is still on it", pids.join(", ")));
        }
        let limit = idle.memory.map_or(UNKNOWN_IDLE, |memory| memory + SLACK);
        let used = sample.memory_used.filter(|used| !shared && *used > limit)?;
        Some(format!(
            "{} MiB are in use without a process; at most {} MiB were expected",
            used >> 20,
            limit >> 20
        ))
    }
}

/// Whether the kernel knows the process.
pub fn lives(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::telemetry::DeviceProcess;

    fn sample(memory: u64, pids: &[u32]) -> Sample {
        let processes = pids.iter().map(|pid| DeviceProcess { pid: *pid, memory: None }).collect();
        Sample { uuid: "GPU-a".into(), memory_used: Some(memory), processes, ..Sample::default() }
    }

    #[test]
    fn what_was_there_before_is_nobodys_residue() {
        let mut before = Before::default();
        before.note(&sample(2 << 30, &[7]));
        assert_eq!(before.left(&sample(2 << 30, &[7]), false, |_| true), None);
        assert_eq!(before.left(&sample((2 << 30) + SLACK, &[]), false, |_| true), None);
        let left = before.left(&sample(2 << 30, &[7, 8, 9]), false, |_| true);
        assert_eq!(left.as_deref(), Some("process 8, 9 is still on it"));
    }

    #[test]
    fn memory_without_a_process_is_residue_where_nobody_shares() {
        let mut before = Before::default();
        before.note(&sample(0, &[]));
        let left = before.left(&sample(1 << 30, &[]), false, |_| false);
        assert_eq!(
            left.as_deref(),
            Some("1024 MiB are in use without a process; at most 256 MiB were expected")
        );
        assert_eq!(before.left(&sample(1 << 30, &[]), true, |_| false), None);
    }

    #[test]
    fn on_a_shared_device_only_the_dead_are_residue() {
        let before = Before::default();
        let lives = |pid| pid == 5;
        assert_eq!(before.left(&sample(0, &[5]), true, lives), None);
        assert_eq!(
            before.left(&sample(0, &[5, 6]), true, lives).as_deref(),
            Some("process 6 is still on it")
        );
        // Nobody looked before: an earlier agent granted it.
        assert_eq!(before.left(&sample(UNKNOWN_IDLE, &[]), false, lives), None);
    }
}
