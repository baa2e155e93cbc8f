//! What a worker measures of its machine and devices. It travels beside the log and never enters it: members keep the last of each worker
//! in memory. What a device or driver does not tell is none, never zero.

use serde::{Deserialize, Serialize};

/// One measurement of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Telemetry {
    /// When, by the worker's clock: milliseconds since 1970-01-01 UTC. For people.
    pub at: i64,
    pub machine: MachineSample,
    pub devices: Vec<DeviceSample>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineSample {
    /// Thousandths of all its cores together that were busy since the measurement before.
    pub cpu_permille: u32,
    /// Bytes.
    pub memory_used: u64,
    /// Bytes.
    pub memory_total: u64,
    /// Bytes free where attempts write.
    pub disk_free: u64,
    /// Bytes.
    pub disk_total: u64,
    /// Load averages over 1, 5 and 15 minutes, in thousandths.
    pub load_milli: [u32; 3],
}

/// One device. Of a MIG instance, memory and processes are its own and the rest is that of its GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceSample {
    pub uuid: String,
    /// Why it can't be used now, in words; none: it can.
    pub unhealthy: Option<String>,
    /// Thousandths of the last period in which a kernel ran. There is no such number for a MIG instance.
    pub utilization_permille: Option<u32>,
    /// Bytes, without what the driver reserves.
    pub memory_used: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power_mw: Option<u32>,
    /// Milliwatts.
    pub power_limit_mw: Option<u32>,
    /// MHz.
    pub sm_clock_mhz: Option<u32>,
    /// MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Why the clocks are lower than they could be: `sw_power_cap`, `hw_thermal_slowdown` …
    pub throttle: Vec<String>,
    /// Since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    /// Since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    pub retired_pages: Option<u32>,
    /// Pages wait for a reboot to be retired.
    pub retired_pending: Option<bool>,
    pub remapped: Option<RemappedRows>,
    pub pcie_replays: Option<u32>,
    /// Replays, recoveries and CRC errors of all its links together.
    pub nvlink_errors: Option<u64>,
    pub processes: Vec<DeviceProcess>,
}

/// Rows of device memory that were replaced by spare ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemappedRows {
    pub correctable: u32,
    pub uncorrectable: u32,
    /// One waits for a reset.
    pub pending: bool,
    /// One could not be replaced.
    pub failed: bool,
}

/// A process with a compute context on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProcess {
    pub pid: u32,
    /// Bytes, where the driver tells.
    pub memory: Option<u64>,
}
