//! Devices of all workers, as documents.

use super::GpuSampleDoc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `muster gpus`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DevicesDoc {
    pub devices: Vec<DeviceDoc>,
}

/// One device: where it is, how it is, who has it. `muster gpus show UUID` has its history too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceDoc {
    pub uuid: String,
    /// The worker's name; where it was seen last when no worker has it now.
    pub worker: String,
    /// Its number there; none when no worker has it now.
    pub index: Option<u32>,
    pub model: String,
    /// Bytes.
    pub memory: u64,
    /// Not a real device: made up by `--gpus`.
    pub simulated: bool,
    /// `healthy quarantined`.
    pub health: String,
    /// Why it is out of service, and since when (RFC 3339, UTC).
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Whether the worker may return it by itself once it finds nothing wrong.
    #[serde(default)]
    pub returns_by_itself: bool,
    /// Attempts that have a part of it.
    pub holders: Vec<HolderDoc>,
    /// What was measured last; none while nothing is known.
    #[serde(default)]
    pub sample: Option<GpuSampleDoc>,
    /// Attempts that ended on it: `succeeded`, or the word of their cause (`exit`, `oom`, `device` …).
    #[serde(default)]
    pub ends: BTreeMap<String, u64>,
    /// Of those, the ones that ended for its own fault.
    #[serde(default)]
    pub faults: u64,
    /// Oldest first, the newest 32; only of one device.
    #[serde(default)]
    pub history: Vec<DeviceNoteDoc>,
}

/// An attempt and its part of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HolderDoc {
    /// E.g. `42.train[7]#2`.
    pub attempt: String,
    pub job: u64,
    /// Thousandths of the device.
    pub milli: u32,
    /// Bytes of its memory.
    pub memory: u64,
}

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceNoteDoc {
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// A word for programs: `xid 79`, `thermal`, `recovered`, `quarantined`, `returned`.
    pub event: String,
    pub text: String,
    /// Attempts that held it then.
    #[serde(default)]
    pub attempts: Vec<String>,
}

/// A circuit breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BreakerDoc {
    /// `open half_open probing`.
    pub state: String,
    pub reason: String,
    /// RFC 3339, UTC: when it opened.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Seconds until a probe may go; 0 when it may or is under way.
    pub probe_in: u64,
}
