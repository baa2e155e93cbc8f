//! Pools, as documents.

use super::PoolSignalDoc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `muster pool list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolsDoc {
    pub pools: Vec<PoolDoc>,
}

/// One pool: configured, or only known from a worker that names it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolDoc {
    pub name: String,
    /// Whether a coordinator's file has it.
    pub configured: bool,
    pub spot: bool,
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub usd_per_hour: Option<f64>,
    /// What a worker of it has: `96 cpus, 1 TiB, 8xH100-80GB`.
    pub template: Option<String>,
    /// Workers that are there.
    pub workers: u32,
    /// How long a worker lasts, seconds, by what was seen; none: nothing to say.
    pub mtbf_seconds: Option<f64>,
    /// From the order to the first heartbeat, seconds, as learnt.
    pub boot_seconds: Option<f64>,
    /// Times in a row that machines were asked for and never came.
    #[serde(default)]
    pub failures: u32,
    pub signal: Option<PoolSignalDoc>,
}
