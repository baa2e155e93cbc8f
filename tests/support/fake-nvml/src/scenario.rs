//! What the library says: the file as types.

use serde::{Deserialize, Serialize};

/// A machine. Everything has a default, so that a file holds what matters to its test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Driver version.
    pub driver: String,
    /// CUDA version as NVML has it: 12040 is 12.4.
    pub cuda: i32,
    pub gpus: Vec<Gpu>,
    pub links: Vec<NvLink>,
    /// How two GPUs reach each other without NVLink; those not listed go through the whole system.
    pub paths: Vec<Path>,
    /// Only ever appended to: what is new since a set was made is delivered to it.
    pub events: Vec<Event>,
    pub failures: Vec<Failure>,
    /// Names of calls that do not return while they are listed.
    pub hangs: Vec<String>,
}

/// A GPU, healthy and idle by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpu {
    pub name: String,
    pub uuid: String,
    /// PCI bus number.
    pub bus: u32,
    /// Of `/dev/nvidiaN`.
    pub minor: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes, beyond what the processes use.
    pub memory_used: u64,
    pub capability: (i32, i32),
    /// CPUs that are near.
    pub cpus: Vec<u32>,
    /// Percent.
    pub utilization: u32,
    /// Degrees Celsius.
    pub temperature: u32,
    /// Milliwatts.
    pub power: u32,
    /// Milliwatts.
    pub power_limit: u32,
    /// MHz: SM and memory.
    pub clocks: (u32, u32),
    /// NVML's bits.
    pub throttle: u64,
    /// Volatile counts: corrected, uncorrected.
    pub ecc: (u64, u64),
    /// Retired pages: by single-bit errors, by double-bit errors.
    pub retired: (u32, u32),
    pub retired_pending: bool,
    pub remapped: Remapped,
    pub pcie_replays: u32,
    /// On each active link, of each kind.
    pub nvlink_errors: u64,
    pub processes: Vec<Process>,
    /// With MIG mode on: its instances.
    pub mig: Option<Vec<Mig>>,
    /// Off the bus: every call of it fails.
    pub lost: bool,
}

/// An instance of a MIG device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mig {
    pub uuid: String,
    /// Such as `1g.10gb`.
    pub profile: String,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub memory_used: u64,
    pub processes: Vec<Process>,
}

/// A process on a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub pid: u32,
    /// Bytes.
    pub memory: u64,
}

/// Rows of memory that were replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remapped {
    pub correctable: u32,
    pub uncorrectable: u32,
    pub pending: bool,
    pub failed: bool,
}

/// NVLinks between two GPUs, by position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvLink {
    pub between: (usize, usize),
    pub count: u32,
}

/// The level of the common ancestor of two GPUs, as NVML numbers it: 10 one switch, 20 several, 30 a host bridge, 40 a node, 50 the system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    pub between: (usize, usize),
    pub level: u32,
}

/// Something that the driver reports by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Position of the GPU.
    pub gpu: usize,
    /// An XID error; none: a double-bit ECC error.
    pub xid: Option<u64>,
}

/// A call that fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Such as `nvmlDeviceGetTemperature`.
    pub call: String,
    /// Position of the GPU; none: for all.
    #[serde(default)]
    pub gpu: Option<usize>,
    /// NVML's number: 3 not supported, 15 lost, 999 unknown.
    pub code: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            driver: "570.86.15".to_owned(),
            cuda: 12_080,
            gpus: Vec::new(),
            links: Vec::new(),
            paths: Vec::new(),
            events: Vec::new(),
            failures: Vec::new(),
            hangs: Vec::new(),
        }
    }
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            uuid: String::new(),
            bus: 0,
            minor: 0,
            memory: 85_520_809_984,
            memory_used: 0,
            capability: (9, 0),
            cpus: vec![0],
            utilization: 0,
            temperature: 31,
            power: 70_000,
            power_limit: 700_000,
            clocks: (345, 2619),
            throttle: 1,
            ecc: (0, 0),
            retired: (0, 0),
            retired_pending: false,
            remapped: Remapped::default(),
            pcie_replays: 0,
            nvlink_errors: 0,
            processes: Vec::new(),
            mig: None,
            lost: false,
        }
    }
}

impl Scenario {
    /// A machine of `count` healthy H100, all linked to each other by two NVLinks a pair. The UUIDs follow from `seed`, so that two
    /// machines of one test do not share any.
    #[must_use]
    pub fn healthy(seed: u32, count: usize) -> Self {
        let gpus = (0..count).map(|n| Gpu {
            uuid: format!("GPU-{seed:08x}-0000-4000-8000-{n:012x}"),
            bus: u32::try_from(n).unwrap_or(0) + 1,
            minor: u32::try_from(n).unwrap_or(0),
            ..Gpu::default()
        });
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        Self {
            gpus: gpus.collect(),
            links: pairs.map(|between| NvLink { between, count: 2 }).collect(),
            ..Self::default()
        }
    }
}
