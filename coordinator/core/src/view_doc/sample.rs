//! What was measured last, as documents. What nobody told is null, never zero.

use crate::model::telemetry::{DeviceSample, MachineSample, Telemetry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuSampleDoc {
    /// RFC 3339, UTC, by the worker's clock.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// Why its worker finds that it can't be used.
    #[serde(default)]
    pub unhealthy: Option<String>,
    /// Thousandths; null for a MIG instance, of which there is no such number.
    #[serde(default)]
    pub utilization_permille: Option<u32>,
    /// Bytes.
    #[serde(default)]
    pub memory_used: Option<u64>,
    /// Degrees Celsius.
    #[serde(default)]
    pub temperature: Option<u32>,
    #[serde(default)]
    pub power_milliwatts: Option<u32>,
    #[serde(default)]
    pub power_limit_milliwatts: Option<u32>,
    #[serde(default)]
    pub sm_clock_mhz: Option<u32>,
    #[serde(default)]
    pub memory_clock_mhz: Option<u32>,
    /// E.g. `sw_power_cap`.
    #[serde(default)]
    pub throttle: Vec<String>,
    #[serde(default)]
    pub ecc_corrected: Option<u64>,
    #[serde(default)]
    pub ecc_uncorrected: Option<u64>,
    #[serde(default)]
    pub retired_pages: Option<u32>,
    #[serde(default)]
    pub retired_pending: Option<bool>,
    #[serde(default)]
    pub remapped_rows: Option<u32>,
    #[serde(default)]
    pub remapped_pending: Option<bool>,
    #[serde(default)]
    pub remapping_failed: Option<bool>,
    #[serde(default)]
    pub pcie_replays: Option<u32>,
    #[serde(default)]
    pub nvlink_errors: Option<u64>,
    #[serde(default)]
    pub processes: Vec<GpuProcessDoc>,
}

/// A process on a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpuProcessDoc {
    pub pid: u32,
    /// Bytes.
    #[serde(default)]
    pub memory: Option<u64>,
}

/// The machine of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MachineDoc {
    /// RFC 3339, UTC, by the worker's clock.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// Thousandths of all cores together.
    pub cpu_permille: u32,
    /// Bytes; so are the next three.
    pub memory_used: u64,
    pub memory_total: u64,
    pub disk_free: u64,
    pub disk_total: u64,
    /// Load averages over 1, 5 and 15 minutes, in thousandths.
    pub load_milli: [u32; 3],
}

impl GpuSampleDoc {
    /// Of the device `uuid`, if it was measured.
    #[must_use]
    pub fn of(telemetry: &Telemetry, uuid: &str) -> Option<Self> {
        let sample = telemetry.devices.iter().find(|sample| sample.uuid == uuid)?;
        // Of simulated devices nobody measures anything.
        let unmeasured = DeviceSample { uuid: uuid.to_owned(), ..DeviceSample::default() };
        (*sample != unmeasured).then(|| Self::new(&time(telemetry), sample))
    }

    fn new(time: &str, sample: &DeviceSample) -> Self {
        let process =
            |p: &crate::model::telemetry::DeviceProcess| GpuProcessDoc { pid: p.pid, memory: p.memory };
        Self {
            time: time.to_owned(),
            unhealthy: sample.unhealthy.clone(),
            utilization_permille: sample.utilization_permille,
            memory_used: sample.memory_used,
            temperature: sample.temperature,
            power_milliwatts: sample.power_mw,
            power_limit_milliwatts: sample.power_limit_mw,
            sm_clock_mhz: sample.sm_clock_mhz,
            memory_clock_mhz: sample.memory_clock_mhz,
            throttle: sample.throttle.clone(),
            ecc_corrected: sample.ecc_corrected,
            ecc_uncorrected: sample.ecc_uncorrected,
            retired_pages: sample.retired_pages,
            retired_pending: sample.retired_pending,
            remapped_rows: sample.remapped.map(|rows| rows.correctable + rows.uncorrectable),
            remapped_pending: sample.remapped.map(|rows| rows.pending),
            remapping_failed: sample.remapped.map(|rows| rows.failed),
            pcie_replays: sample.pcie_replays,
            nvlink_errors: sample.nvlink_errors,
            processes: sample.processes.iter().map(process).collect(),
        }
    }
}

impl MachineDoc {
    /// Of a measurement.
    #[must_use]
    pub fn of(telemetry: &Telemetry) -> Self {
        let MachineSample { cpu_permille, memory_used, memory_total, disk_free, disk_total, load_milli } =
            telemetry.machine;
        Self {
            time: time(telemetry),
            cpu_permille,
            memory_used,
            memory_total,
            disk_free,
            disk_total,
            load_milli,
        }
    }
}

fn time(telemetry: &Telemetry) -> String {
    super::rfc3339(telemetry.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_told_is_null_and_never_zero() {
        let sample = DeviceSample {
            uuid: "MIG-a".into(),
            memory_used: Some(5),
            temperature: Some(40),
            ..DeviceSample::default()
        };
        let telemetry = Telemetry { devices: vec![sample], ..Telemetry::default() };
        let doc = GpuSampleDoc::of(&telemetry, "MIG-a").expect("measured");
        let json = serde_json::to_value(&doc).expect("plain data");
        assert!(json["utilization_permille"].is_null() && json["memory_used"] == 5, "{json}");
        assert_eq!(json["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(GpuSampleDoc::of(&telemetry, "GPU-b"), None);
    }

    #[test]
    fn a_simulated_device_has_no_sample() {
        let sample = DeviceSample { uuid: "GPU-a".into(), ..DeviceSample::default() };
        let telemetry = Telemetry { devices: vec![sample], ..Telemetry::default() };
        assert_eq!(GpuSampleDoc::of(&telemetry, "GPU-a"), None);
    }
}
