//! The pools that are configured: what a worker of each has and costs, how many there may be, and how far the scaling of each has got.
//!
//! The leading member writes its configuration into the log, so that every member answers by the same one. Left out: what was seen of the
//! workers of a pool ([`super::pool`]), how a provider is reached (the shell).

use super::time::Tick;
use super::worker::WorkerSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All pools, by name, and what they share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fleet {
    pub pools: BTreeMap<String, PoolSpec>,
    pub limits: Limits,
}

/// What all pools together may take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Of all pools, millionths of a USD an hour.
    pub micro_usd_per_hour: Option<u64>,
    /// GPUs of all pools that name the quota (machines, where a pool has no GPUs), by the quota's name.
    pub quotas: BTreeMap<String, u32>,
}

/// One pool, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Workers at least and at most; `min <= max`.
    pub min: u32,
    pub max: u32,
    pub spot: bool,
    /// What a worker costs now, millionths of a USD an hour; none: unknown.
    pub micro_usd_per_hour: Option<u64>,
    /// What a worker of it has, its labels too; none: known only from those that are there, so an empty pool stays empty.
    pub template: Option<Box<WorkerSpec>>,
    /// Its share of a limit in [`Limits::quotas`].
    pub quota: Option<String>,
    /// Whether a driver carries out what is wanted; else only the signal says it.
    pub driven: bool,
    /// The kind of that driver, for people: `aws-asg`; empty without one.
    pub driver: String,
    pub timing: PoolTiming,
}

/// How fast a pool changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolTiming {
    /// A worker is idle for so long before it goes, and so long after the last machine was asked for, ms.
    pub scale_in_cooldown_ms: u64,
    /// Between two times that more machines are asked for, ms.
    pub scale_out_cooldown_ms: u64,
    /// Machines asked for at once at most; 0: no limit.
    pub step_max: u32,
    /// What runs on a worker that is to go has so long, ms.
    pub drain_ms: u64,
    /// A machine that has not joined after so long never will, ms.
    pub boot_limit_ms: u64,
    /// Work that could be served by what is there within this time is not bought for, ms; 0: it is bought for unless what is there is
    /// sooner than a new machine.
    pub patience_ms: u64,
}

impl Default for PoolTiming {
    fn default() -> Self {
        Self {
            scale_in_cooldown_ms: 300_000,
            scale_out_cooldown_ms: 0,
            step_max: 0,
            drain_ms: 900_000,
            boot_limit_ms: 900_000,
            patience_ms: 0,
        }
    }
}

/// How far the scaling of a pool has got: in the log, so that a new leader repeats nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolScale {
    /// Workers wanted.
    pub desired: u32,
    /// Index of the log entry that changed this last; 0: never. A driver hands it on, so that a receiver can refuse what is older.
    pub generation: u64,
    /// When more were asked for last, and when fewer.
    pub grown: Option<Tick>,
    pub shrunk: Option<Tick>,
    /// From the order to the first heartbeat, as learnt, ms.
    pub boot_ms: Option<u64>,
    /// Times in a row that machines were asked for and never came; no more are asked for before `retry_at`.
    pub failures: u32,
    pub retry_at: Tick,
}
