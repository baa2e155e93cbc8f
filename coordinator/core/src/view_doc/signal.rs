//! What the cluster asks for, as a document: `/v1/autoscale`, `muster autoscale signals`, and what metrics and scalers are made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All signals of one moment. Without a pool: empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SignalsDoc {
    pub pools: Vec<PoolSignalDoc>,
    /// Grows by one whenever anything but the time changes; to be handed back when waiting for the next. It begins anew with each leader.
    #[serde(default)]
    pub version: u64,
    /// The leader's term: (term, version) only grows.
    #[serde(default)]
    pub term: u64,
    /// When it was reckoned, RFC 3339; none where no leader has reckoned yet.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub at: Option<String>,
    /// What waits and can be served by no pool.
    #[serde(default)]
    pub unmet: Vec<UnmetDoc>,
}

/// What one pool is to have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolSignalDoc {
    pub pool: String,
    /// Workers that are there and stay: neither lost nor on their way out.
    pub current: u32,
    pub desired: u32,
    pub min: u32,
    pub max: u32,
    /// Why, for people: `2 x 8xH100-80GB spot for about 40 min: 3 jobs, 51 USD`.
    pub reason: String,
    /// Jobs for which more are wanted.
    pub jobs: Vec<u64>,
    /// Of one worker, now; none: unknown.
    pub usd_per_hour: Option<f64>,
    /// Workers that are to go, the first one first. They are drained before they are ended.
    pub remove: Vec<u64>,
    #[serde(default)]
    pub spot: bool,
    /// Machines that were asked for and have not joined.
    #[serde(default)]
    pub booting: u32,
    /// How long what is asked for is needed, seconds, and what it costs, USD; none: unknown.
    #[serde(default)]
    pub for_seconds: Option<f64>,
    #[serde(default)]
    pub worth_usd: Option<f64>,
    /// Why nothing is changed just now: a cool-down, a provider that does not answer, a pool that backs off.
    #[serde(default)]
    pub hold: Option<String>,
    /// `none`, or the kind of driver that carries it out.
    #[serde(default)]
    pub driver: String,
    /// For whoever tracks a target instead.
    #[serde(default)]
    pub use_ratio: UseDoc,
    /// Workers of the pool by state: `ready draining drained lost booting`.
    #[serde(default)]
    pub workers: BTreeMap<String, u32>,
}

/// How used a pool is, of 1; none: nothing is measured, or nothing is there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UseDoc {
    /// GPUs and CPUs that are granted, of those of its usable workers.
    pub gpu: Option<f64>,
    pub cpu: Option<f64>,
    /// The longest wait of what could run here and is ready, seconds.
    pub queue_wait_seconds: f64,
    /// Ready task indices that could run here.
    pub waiting: u64,
    /// GPUs (CPUs, where the pool has none) that are granted or waited for, over those there are: 1 is full, above it more is wanted. What a
    /// cloud's target tracking should follow.
    pub load: Option<f64>,
}

/// Something that waits and that no pool can serve.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UnmetDoc {
    /// `42.train`
    pub task: String,
    pub count: u64,
    pub reason: String,
}
