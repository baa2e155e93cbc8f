//! Rooms: workers that are alike and of which the same is taken. They are scored once, however many they are.

use super::score::Free;
use crate::model::ids::WorkerId;
use crate::model::placement::WHOLE;
use crate::model::worker::{Device, INSTANCE_LABEL, WorkerSpec};
use crate::state::Used;
use std::collections::{BTreeMap, BTreeSet};

/// What a worker is but for its name and address: workers of a kind answer every constraint that does not name one of them alike.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    /// Of one of them.
    pub spec: WorkerSpec,
    /// Number of the model of its devices, by the first; 0 = no devices.
    pub model: u32,
}

/// The text under which kinds are told apart. Devices count by what a request may ask of them.
pub(crate) fn kind_key(spec: &WorkerSpec) -> String {
    let device = |d: &Device| {
        (
            (d.model.clone(), d.memory, d.compute_capability, d.absent),
            (d.numa, d.links.clone(), d.mig.clone()),
        )
    };
    let devices: Vec<_> = spec.devices.iter().map(device).collect();
    // What tells one machine from all others makes no kind: there would be as many as machines.
    let labels: BTreeMap<_, _> = spec.labels.iter().filter(|(name, _)| *name != INSTANCE_LABEL).collect();
    let amounts = (spec.cpu_milli, spec.memory, spec.disk, spec.spot, &spec.cuda, &spec.driver);
    format!("{:?}", (&spec.pool, labels, amounts, devices))
}

/// Kind, CPUs, memory, disk, devices of which something is taken, devices with foreign processes: what tells rooms apart.
pub(super) type RoomKey = (u32, u64, u64, u64, Vec<(u16, u16, u64)>, Vec<u16>);

pub(super) fn room_key(kind: u32, used: &Used) -> RoomKey {
    let devices = used.devices.iter().map(|(number, taken)| (*number, taken.milli, taken.memory)).collect();
    let foreign = used.foreign.iter().copied().collect();
    (kind, used.cpu_milli, used.memory, used.disk, devices, foreign)
}

/// Workers of one kind of which the same is taken.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub kind: u32,
    pub used: Used,
    pub free: Free,
    /// By the mix that is in use.
    pub worth: i64,
    /// Empty: the room is gone, its number waits for another.
    pub members: BTreeSet<WorkerId>,
    /// Its last change, by the board's count of changes.
    pub changed: u64,
}

/// What is left of a worker. An older incarnation may still take devices that this one does not have, and more than there is.
pub(super) fn free_of(spec: &WorkerSpec, used: &Used) -> Free {
    let left = |(number, device): (u16, &Device)| match device.mig {
        _ if device.absent => 0,
        Some(_) => 0,
        None => WHOLE.saturating_sub(used.device(number).milli),
    };
    Free {
        cpu_milli: spec.cpu_milli.saturating_sub(used.cpu_milli),
        memory: spec.memory.saturating_sub(used.memory),
        devices: (0_u16..).zip(&spec.devices).map(left).collect(),
    }
}

/// Rooms by number and by what they are; numbers are used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Rooms {
    pub all: Vec<Room>,
    pub by_key: BTreeMap<RoomKey, u32>,
    gone: Vec<u32>,
}

impl Rooms {
    pub(super) fn get(&self, room: u32) -> Option<&Room> {
        self.all.get(room as usize)
    }

    /// Leaves a room; returns whether it was the last one in it.
    pub(super) fn leave(&mut self, number: u32, worker: WorkerId) -> bool {
        let Some(room) = self.all.get_mut(number as usize) else { return false };
        room.members.remove(&worker);
        let last = room.members.is_empty();
        if last {
            let key = room_key(room.kind, &room.used);
            self.by_key.remove(&key);
            self.gone.push(number);
        }
        last
    }

    /// The number for a new room.
    pub(super) fn put(&mut self, key: RoomKey, room: Room) -> u32 {
        let number = match self.gone.pop() {
            Some(number) => {
                let old = &mut self.all[number as usize];
                *old = Room { changed: old.changed, ..room };
                number
            }
            None => {
                self.all.push(room);
                self.all.len() as u32 - 1
            }
        };
        self.by_key.insert(key, number);
        number
    }
}
