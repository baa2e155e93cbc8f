//! A worker: a machine and its agent, as the coordinator knows it.

use super::ids::{Token, WorkerId};
use super::notice::{NoticeKind, NoticeSource, Noticed};
use super::time::{Stamp, Tick};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// joining → ready ⇄ draining → drained; any → lost → ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Ready,
    Draining,
    Drained,
    Lost,
}

impl WorkerState {
    /// The word shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Lost => "lost",
        }
    }
}

/// One GPU as the worker reported it; its position in the worker's list is its device number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    pub uuid: String,
    pub model: String,
    /// Bytes.
    pub memory: u64,
    /// Compute capability × 10, e.g. 90 for 9.0; 0 when unknown.
    pub compute_capability: u32,
    /// The NUMA node it is nearest to; none when unknown.
    pub numa: Option<u16>,
    /// How it reaches the others of its worker; those not named are unknown.
    pub links: Vec<Link>,
    /// The profile, such as `1g.10gb`, of a MIG instance: it goes only to those who ask for one.
    pub mig: Option<String>,
    /// Not a real device: made up by `--gpus`.
    pub simulated: bool,
    /// The worker does not name it any more. It keeps its number while attempts live there, so that those of the others do not shift; it is
    /// given to nobody.
    pub absent: bool,
}

/// The way from one device of a worker to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// Number of the other device.
    pub peer: u16,
    pub class: LinkClass,
    /// `NVLinks` between the two; 0 of another class.
    pub lanes: u16,
}

/// How two devices are connected, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl LinkClass {
    /// The word shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nvlink => "nvlink",
            Self::Board => "board",
            Self::Switch => "switch",
            Self::Switches => "switches",
            Self::HostBridge => "host_bridge",
            Self::Node => "node",
            Self::System => "system",
        }
    }
}

/// The label with the provider's id of the machine that a worker is on: by it a group of machines knows which one to end.
pub const INSTANCE_LABEL: &str = "instance_id";
/// The label with the image (or launch template) that the machine was made from.
pub const IMAGE_LABEL: &str = "image";

/// What a worker says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerSpec {
    pub name: String,
    pub pool: String,
    pub labels: BTreeMap<String, String>,
    pub spot: bool,
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
    pub devices: Vec<Device>,
    /// `cgroup2`, `cgroup1` or `none`.
    pub isolation: String,
    pub version: String,
    pub host: String,
    /// Where the other ranks of a gang reach this machine; empty = by `host`.
    pub address: String,
    /// Version of the GPU driver; empty without one.
    pub driver: String,
    /// CUDA version that the driver supports, `(12, 4)`; zeros when unknown.
    pub cuda: (u16, u16),
    /// Where it hears of a preemption.
    pub notices: Vec<NoticeSource>,
    /// How long before its machine goes the shortest of these says so, ms; none: unknown, or never.
    pub notice_ms: Option<u64>,
}

/// boot id + journal id: another incarnation of the same worker knows nothing of the attempts of this one. Incarnations have no order:
/// nothing that survives a wiped machine could give them one. So the coming of one ends nothing, see `state/apply/worker.rs`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Incarnation(pub String);

/// A drain that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When what still runs is evicted; none: it may finish.
    pub deadline: Option<Tick>,
    pub reason: String,
    /// Once it is empty its machine is ended: by the driver of its pool. An undrain takes this back as long as it has not been.
    pub leaves: bool,
}

/// The durable row of a worker. Use is not stored: it is the sum over the worker's live attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    pub id: WorkerId,
    pub spec: WorkerSpec,
    pub incarnation: Incarnation,
    /// Tokens up to this one were granted to an older incarnation: this one is never told to start them.
    pub former: Token,
    /// The newest event of its devices that was heard of this incarnation.
    pub events_seen: u64,
    pub state: WorkerState,
    pub drain: Option<Drain>,
    /// Somebody says that its machine goes.
    pub notice: Option<Noticed>,
    pub joined: Stamp,
    pub changed: Stamp,
}

impl Worker {
    /// The state of one that is heard; `empty`: nothing lives on it.
    #[must_use]
    pub fn standing(&self, empty: bool) -> WorkerState {
        match (self.drain.is_some() || self.notice.is_some(), empty) {
            (false, _) => WorkerState::Ready,
            (true, false) => WorkerState::Draining,
            (true, true) => WorkerState::Drained,
        }
    }

    /// Whether its machine is said to go for sure.
    #[must_use]
    pub fn goes(&self) -> bool {
        self.notice.as_ref().is_some_and(|noticed| noticed.notice.kind == NoticeKind::Preemption)
    }

    /// Whether that is no exercise.
    #[must_use]
    pub fn is_reclaimed(&self) -> bool {
        self.goes() && self.notice.as_ref().is_some_and(|noticed| !noticed.notice.drill)
    }

    /// When its machine goes, if that is known.
    #[must_use]
    pub fn goes_at(&self) -> Option<Tick> {
        self.notice.as_ref().filter(|_| self.goes()).and_then(|noticed| noticed.deadline)
    }
}
