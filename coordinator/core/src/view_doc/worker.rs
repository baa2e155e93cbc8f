//! Workers and their devices, as documents.

use super::{GpuSampleDoc, MachineDoc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `muster workers`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct WorkersDoc {
    pub workers: Vec<WorkerDoc>,
}

/// `muster worker show ID`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct WorkerDoc {
    pub id: u64,
    pub name: String,
    /// `joining ready draining drained lost`.
    pub state: String,
    pub pool: String,
    #[serde(default)]
    pub spot: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Thousandths of a CPU.
    #[serde(default)]
    pub cpu_milli: u64,
    /// Whole CPUs, rounded down.
    pub cpus: u64,
    /// Bytes; so is `disk`.
    pub memory: u64,
    pub disk: u64,
    pub gpus: Vec<GpuDoc>,
    /// How tasks are held: `cgroup2 cgroup1 none`.
    pub isolation: String,
    /// Attempts that hold something of it.
    pub leases: Vec<LeaseDoc>,
    /// What those hold together: thousandths of a CPU, bytes, bytes, devices.
    #[serde(default)]
    pub used_cpu_milli: u64,
    #[serde(default)]
    pub used_memory: u64,
    #[serde(default)]
    pub used_disk: u64,
    #[serde(default)]
    pub used_gpus: u64,
    pub version: String,
    #[serde(default)]
    pub host: String,
    /// Why it is draining, in words.
    #[serde(default)]
    pub drain_reason: Option<String>,
    /// Somebody says that its machine goes, or may go.
    #[serde(default)]
    pub notice: Option<NoticeDoc>,
    /// Where it hears of a preemption: `aws gcp azure systemd file sigterm`.
    #[serde(default)]
    pub notice_sources: Vec<String>,
    /// How long before its machine goes they say so, at least, seconds; none: unknown, or never.
    #[serde(default)]
    pub notice_seconds: Option<f64>,
    /// Its circuit breaker, unless it is closed.
    #[serde(default)]
    pub breaker: Option<super::BreakerDoc>,
    /// A drill that is under way against it, in words.
    #[serde(default)]
    pub drill: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub joined: String,
    /// RFC 3339, UTC: the last change of its state.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub changed: String,
    /// What was measured last; null until it is known.
    #[serde(default)]
    pub machine: Option<MachineDoc>,
}

/// The notice that a worker is under.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NoticeDoc {
    /// `preemption`: the machine goes; `advice`: it may.
    pub kind: String,
    /// Who said so: `aws gcp azure systemd file sigterm operator`.
    pub source: String,
    /// In the source's words.
    pub detail: String,
    /// An exercise: the machine stays.
    pub drill: bool,
    /// RFC 3339, UTC: when it came.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// RFC 3339, UTC: when the machine goes; none: unknown.
    #[schemars(extend("format" = "date-time"))]
    pub deadline: Option<String>,
}

/// One GPU of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuDoc {
    pub uuid: String,
    pub model: String,
    /// Bytes.
    pub memory: u64,
    /// E.g. `9.0`; empty when unknown.
    #[serde(default)]
    pub compute_capability: String,
    /// Not a real device: made up by `--gpus`.
    pub simulated: bool,
    /// The NUMA node it is nearest to.
    #[serde(default)]
    pub numa: Option<u32>,
    /// How it reaches the others of its worker; those not named are unknown.
    #[serde(default)]
    pub links: Vec<LinkDoc>,
    /// The profile of a MIG instance.
    #[serde(default)]
    pub mig: Option<String>,
    /// `healthy quarantined`.
    #[serde(default)]
    pub health: String,
    /// Why it is out of service.
    #[serde(default)]
    pub reason: Option<String>,
    /// The attempt that holds it, e.g. `42.train[7]#2`.
    #[serde(default)]
    pub held_by: Option<String>,
    /// What was measured last; null until it is known.
    #[serde(default)]
    pub sample: Option<GpuSampleDoc>,
}

/// The way from one GPU of a worker to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LinkDoc {
    /// Number of the other.
    pub peer: u32,
    /// `nvlink board switch switches host_bridge node system`, the fastest first.
    pub class: String,
    /// `NVLinks` between the two.
    pub lanes: u32,
}

/// A live attempt on a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LeaseDoc {
    /// E.g. `42.train[7]#2`.
    pub attempt: String,
    pub job: u64,
    /// The fencing token.
    pub token: u64,
    pub state: String,
    /// UUIDs.
    pub devices: Vec<String>,
}
