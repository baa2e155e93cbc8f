//! What the view leaves out of its plans: devices in quarantine, and what a breaker holds back.
//!
//! Of a device in quarantine, what no attempt takes counts as taken too. So the plan needs to know nothing of it.

use super::view::{View, WorkerView};
use crate::model::breaker::{Breaker, BreakerKey, Gate};
use crate::model::device_record::Quarantine;
use crate::model::ids::{JobId, TaskNo, WorkerId};
use crate::model::placement::{Share, WHOLE};
use crate::state::command_key;

impl WorkerView {
    /// What is taken, by attempts alone.
    pub(super) fn unmask(&mut self) {
        for share in std::mem::take(&mut self.masked) {
            let Some(taken) = self.used.devices.get_mut(&share.device) else { continue };
            taken.milli = taken.milli.saturating_sub(share.milli);
            taken.memory = taken.memory.saturating_sub(share.memory);
            if taken.milli == 0 {
                self.used.devices.remove(&share.device);
            }
        }
    }
}

impl View {
    pub(super) fn learn_devices(&mut self, devices: Vec<(String, Option<Quarantine>)>) {
        for (uuid, quarantine) in devices {
            // Every end on a device comes by here; mostly nothing has changed that a plan would see.
            if self.sick.get(&uuid) == quarantine.as_ref() {
                continue;
            }
            match quarantine {
                Some(quarantine) => self.sick.insert(uuid.clone(), quarantine),
                None => self.sick.remove(&uuid),
            };
            let has = |w: &&WorkerId| self.workers[*w].worker.spec.devices.iter().any(|d| d.uuid == uuid);
            let ids: Vec<WorkerId> = self.workers.keys().filter(has).copied().collect();
            ids.into_iter().for_each(|id| self.mask(id));
        }
    }

    /// Takes the worker's devices that are out of service off what is free of it.
    pub(super) fn mask(&mut self, id: WorkerId) {
        let Some(view) = self.workers.get_mut(&id) else { return };
        self.touched.insert(id);
        view.unmask();
        if self.sick.is_empty() {
            return;
        }
        let devices = (0_u16..).zip(&view.worker.spec.devices);
        let sick = devices.filter(|(_, d)| self.sick.contains_key(&d.uuid));
        let rest = sick.map(|(device, d)| {
            let taken = view.used.device(device);
            let milli = WHOLE.saturating_sub(taken.milli);
            Share { device, milli, memory: d.memory.saturating_sub(taken.memory) }
        });
        view.masked = rest.collect();
        for share in &view.masked {
            let taken = view.used.devices.entry(share.device).or_default();
            taken.milli += share.milli;
            taken.memory = taken.memory.saturating_add(share.memory);
        }
    }

    /// The worker's devices that are out of service, by UUID.
    pub(crate) fn out_of_service(&self, id: WorkerId) -> impl Iterator<Item = (&str, &Quarantine)> {
        let devices = self.workers.get(&id).filter(|_| !self.sick.is_empty()).map(|w| &w.worker.spec.devices);
        let devices = devices.into_iter().flatten();
        devices.filter_map(|d| self.sick.get(&d.uuid).map(|quarantine| (d.uuid.as_str(), quarantine)))
    }

    pub(super) fn learn_breakers(&mut self, breakers: Vec<(BreakerKey, Option<Breaker>)>) {
        for (key, breaker) in breakers {
            match breaker {
                Some(breaker) => self.breakers.insert(key, breaker),
                None => self.breakers.remove(&key),
            };
        }
        self.trip();
    }

    /// Looks which breakers hold something back at this tick; returns whether one of them does not any more.
    pub(super) fn trip(&mut self) -> bool {
        if self.breakers.is_empty() && self.tripped.is_empty() {
            return false;
        }
        let closed = self.breakers.iter().filter(|(_, b)| !b.gate(self.tick).lets_pass());
        let now = closed.map(|(key, _)| *key).collect();
        let before = std::mem::replace(&mut self.tripped, now);
        for key in before.union(&self.tripped) {
            if let BreakerKey::Worker(id) = key
                && let Some(worker) = self.workers.get_mut(id)
            {
                worker.tripped = self.tripped.contains(key);
                self.altered.insert(*id);
            }
        }
        !before.is_subset(&self.tripped)
    }

    /// How many indices of the task its command's breaker lets pass at once.
    pub(super) fn command_room(&self, id: JobId, no: TaskNo) -> u32 {
        if !self.breakers.keys().any(|key| matches!(key, BreakerKey::Command(_))) {
            return u32::MAX;
        }
        let breaker = self.jobs.get(&id).and_then(|job| self.breakers.get(&command_key(&job.spec, no)));
        match breaker.map(|b| b.gate(self.tick)) {
            None | Some(Gate::Closed) => u32::MAX,
            Some(Gate::HalfOpen) => 1,
            Some(Gate::Open(_) | Gate::Probing(_)) => 0,
        }
    }
}
