//! The GPUs of a worker: what is there, is it healthy, how busy is it, and how a task is told which are its own.
//!
//! One trait with two implementors; here the simulated one, which every view marks as such. What it leaves out: who gets which device
//! (the scheduler's business) and device permissions in the cgroup.

pub mod simulated;

use muster_core::model::worker::Link;
use serde::{Deserialize, Serialize};

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Ways to the others, where known.
    pub links: Vec<Link>,
    /// The profile of a MIG instance.
    pub mig: Option<String>,
    /// Not a real one.
    pub simulated: bool,
}

/// Can a device be used?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Yes.
    Healthy,
    /// No, for this reason.
    Unhealthy(String),
}

/// How busy a device is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Which device.
    pub uuid: String,
    /// Thousandths of the time since the last sample in which a kernel ran.
    pub utilization_millis: u32,
    /// Bytes of device memory in use.
    pub memory_used_bytes: u64,
}

/// What a worker knows of its devices.
pub trait Devices: Send + Sync {
    /// What is there. Stable while the worker runs.
    fn fingerprint(&self) -> Vec<Device>;

    /// Which of them can be used now, by UUID.
    fn health(&self) -> Vec<(String, Health)>;

    /// How busy they are now.
    fn sample(&self) -> Vec<Sample>;
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
