//! The GPUs of a worker: what is there, is it healthy, how busy is it, and how a task is told which are its own.
//!
//! One trait with two implementors: [`nvml`], and the simulated one, which every view marks as such. What it leaves out: who gets which
//! device (the scheduler's business) and device permissions (`cgroup`).

mod event;
pub mod fault_file;
pub mod mps;
pub mod nodes;
pub mod nvml;
pub mod open;
pub mod simulated;

pub use event::{Event, EventKind, seen};
pub use muster_core::model::telemetry::DeviceSample as Sample;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A GPU, or an instance of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Unique over all workers.
    pub uuid: String,
    /// Position in this worker, from 0.
    pub index: u32,
    /// Such as `H100`.
    pub model: String,
    /// Bytes.
    pub memory_bytes: u64,
    /// Such as `(9, 0)`, where known.
    pub compute_capability: Option<(u32, u32)>,
    /// NUMA node, where known.
    pub numa: Option<u32>,
    /// CPUs that are near; empty when unknown.
    pub cpus: Vec<u32>,
    /// Such as `0000:07:00.0`; empty for one that is not there.
    pub pci: String,
    /// Of `/dev/nvidiaN`.
    pub minor: Option<u32>,
    /// The ways to others of this worker.
    pub links: Vec<Link>,
    /// Of a MIG instance.
    pub mig: Option<Mig>,
    /// Not a real one.
    pub simulated: bool,
}

/// A way to another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its index.
    pub peer: u32,
    pub class: LinkClass,
    /// `NVLinks` between the two; 0 of another class.
    pub lanes: u32,
}

/// How two devices are connected, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LinkClass {
    Nvlink,
    /// On one board.
    Board,
    /// Through one `PCIe` switch.
    Switch,
    /// Through several of them.
    Switches,
    /// Through one host bridge.
    HostBridge,
    /// On one NUMA node.
    Node,
    /// Across NUMA nodes.
    System,
}

/// An instance of a divided GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mig {
    /// Such as `1g.10gb`.
    pub profile: String,
    /// UUID of the whole GPU.
    pub parent: String,
    /// Minor numbers in `/dev/nvidia-caps` of its two capabilities; empty where the driver lists none.
    pub caps: Vec<u32>,
}

/// The software below the devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Empty without one.
    pub version: String,
    /// Zeros when unknown.
    pub cuda: (u16, u16),
}

/// Can a device be used?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Yes.
    Healthy,
    /// No, for this reason.
    Unhealthy(String),
}

/// What is left on a device of an attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Residue {
    /// Nothing.
    Clean,
    /// This, in words.
    Left(String),
    /// It has not been looked at since.
    Unknown,
}

/// What a worker knows of its devices. None of these waits for a driver: they answer from what was last read.
pub trait Devices: Send + Sync {
    /// What is there. Stable while the worker runs.
    fn fingerprint(&self) -> Vec<Device>;

    /// What is below them.
    fn driver(&self) -> Driver {
        Driver::default()
    }

    /// Which of them can be used now, by UUID.
    fn health(&self) -> Vec<(String, Health)>;

    /// How they were when last read.
    fn sample(&self) -> Vec<Sample>;

    /// What happened to them since the last call.
    fn events(&self) -> Vec<Event>;

    /// An attempt gets these: what is on them now is not its own.
    fn granted(&self, _uuids: &[String]) {}

    /// Whether anything is left on a device of what ran until `ended`. `shared`: others may use it, so that its memory says nothing.
    fn residue(&self, _uuid: &str, _shared: bool, _ended: Instant) -> Residue {
        Residue::Clean
    }

    /// These are out of service, and may return: those with nothing wrong come back as [`EventKind::Recovered`], now or, where it takes
    /// a look at them, with later events.
    fn probe(&self, uuids: &[String]) -> Vec<Event> {
        let known = self.health().into_iter();
        let well = known.filter(|(uuid, health)| *health == Health::Healthy && uuids.contains(uuid));
        well.map(|(uuid, _)| seen(&uuid, EventKind::Recovered, "")).collect()
    }

    /// The worker gave up waiting for the device to become clean.
    fn not_clean(&self, _uuid: &str, _reason: &str) {}
}

/// The variables that tell a task its GPUs. Without any, `CUDA_VISIBLE_DEVICES` is empty and not absent, which would mean all of them;
/// the container runtime's word for none is `void`.
#[must_use]
pub fn assign(uuids: &[String]) -> Vec<(String, String)> {
    let list = uuids.join(",");
    let nvidia = if uuids.is_empty() { "void".to_owned() } else { list.clone() };
    vec![
        ("CUDA_VISIBLE_DEVICES".to_owned(), list.clone()),
        ("NVIDIA_VISIBLE_DEVICES".to_owned(), nvidia),
        ("MUSTER_GPU_COUNT".to_owned(), uuids.len().to_string()),
        ("MUSTER_GPU_UUIDS".to_owned(), list),
    ]
}
