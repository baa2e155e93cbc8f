//! A machine: the real agent, and processes that count their work in milliseconds and save it.

use muster_agent::Agent;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::worker::{Device, INSTANCE_LABEL, Incarnation, WorkerSpec};
use std::collections::BTreeMap;

/// The pool of all machines.
pub const POOL: &str = "gpu";
pub const GPUS: u64 = 8;

/// A process.
#[derive(Debug, Clone)]
pub struct Process {
    pub at: IndexRef,
    /// Thousandths of GPUs.
    pub milli: u64,
    /// Work done up to `since`, of the attempts before too, ms: the step of its checkpoints.
    pub step: u64,
    /// It works since then; none: it stands still, for it saves.
    pub since: Option<u64>,
    /// Its newest step in the log.
    pub committed: u64,
    /// It was asked to stop.
    pub stops: bool,
}

impl Process {
    /// Work done by now.
    #[must_use]
    pub fn work(&self, now: u64) -> u64 {
        self.step + self.since.map_or(0, |since| now - since)
    }
}

/// One machine.
#[derive(Debug)]
pub struct Machine {
    pub agent: Agent,
    pub spec: WorkerSpec,
    pub incarnation: Incarnation,
    /// Its stream, while it has one.
    pub session: Option<u64>,
    pub processes: BTreeMap<Token, Process>,
    /// When its agent is called next to look at the time.
    pub wakes_at: u64,
    /// Its worker has registered once.
    pub joined: bool,
}

impl Machine {
    /// The machine of this number, switched on.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let mut spec = template();
        spec.name = format!("w{number}");
        spec.labels.insert(INSTANCE_LABEL.to_owned(), name(number));
        for (n, device) in spec.devices.iter_mut().enumerate() {
            device.uuid = format!("GPU-{number}-{n}");
        }
        Self {
            agent: Agent::new(Vec::new(), Token(0), 0),
            incarnation: Incarnation(format!("boot-{number}")),
            spec,
            session: None,
            processes: BTreeMap::new(),
            wakes_at: 0,
            joined: false,
        }
    }
}

/// As its provider calls it.
#[must_use]
pub fn name(number: u64) -> String {
    format!("i-{number}")
}

/// What a machine of the pool has.
#[must_use]
pub fn template() -> WorkerSpec {
    let device = |n: u64| Device {
        uuid: format!("GPU-{n}"),
        model: "H100-80GB".to_owned(),
        memory: 80 << 30,
        compute_capability: 90,
        simulated: true,
        ..Device::default()
    };
    WorkerSpec {
        name: "template".to_owned(),
        pool: POOL.to_owned(),
        cpu_milli: GPUS * 16_000,
        memory: 1 << 40,
        disk: 1 << 42,
        devices: (0..GPUS).map(device).collect(),
        isolation: "none".to_owned(),
        ..WorkerSpec::default()
    }
}
