//! What is remembered of a device beyond what its worker says of it: whether it is in service, and its history over jobs. Kept by UUID, so
//! it follows the device to another worker.

use super::device_event::{Fault, Returns};
use super::ids::{IndexRef, WorkerId};
use super::time::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A device that a look may return stays out of service for this long at least, ms: what comes and goes costs a task each time.
pub const RETURN_AFTER_MS: u64 = 30_000;

/// Entries of a device's history that are kept: the newest. A flapping device would fill the disk else.
pub const NOTES_MAX: usize = 32;

/// healthy ⇄ quarantined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DeviceHealth {
    #[default]
    Healthy,
    /// Nothing is placed on it.
    Quarantined(Quarantine),
}

/// Why a device is out of service, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub fault: Fault,
    /// A sentence for people.
    pub reason: String,
    pub since: Stamp,
    pub returns: Returns,
}

/// One entry of a device's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNote {
    pub at: Stamp,
    /// What was seen or done, in a word: a fault's code, `recovered`, `returned`, `quarantined`.
    pub what: String,
    pub text: String,
    /// Attempts that held the device then: (index, number).
    pub held: Vec<(IndexRef, u32)>,
}

/// The durable row of a device. There is none while nothing has happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Where it was seen last.
    pub worker: WorkerId,
    pub model: String,
    pub health: DeviceHealth,
    /// Attempts that ended on it: `succeeded`, or the word of their cause (`exit`, `oom`, `device` …).
    pub ends: BTreeMap<String, u64>,
    /// Of those, the ones that ended for its own fault.
    pub faults: u64,
    /// Oldest first, at most [`NOTES_MAX`].
    pub notes: Vec<DeviceNote>,
}

impl DeviceRecord {
    /// A device of which nothing is known but where it is.
    #[must_use]
    pub fn new(worker: WorkerId, model: String) -> Self {
        Self {
            worker,
            model,
            health: DeviceHealth::Healthy,
            ends: BTreeMap::new(),
            faults: 0,
            notes: Vec::new(),
        }
    }

    /// Why it is out of service, if it is.
    #[must_use]
    pub fn quarantine(&self) -> Option<&Quarantine> {
        match &self.health {
            DeviceHealth::Healthy => None,
            DeviceHealth::Quarantined(quarantine) => Some(quarantine),
        }
    }

    /// Adds to the history; the oldest entry goes when it is full.
    pub fn note(&mut self, note: DeviceNote) {
        if self.notes.len() >= NOTES_MAX {
            self.notes.remove(0);
        }
        self.notes.push(note);
    }
}
