//! Devices: how they are and who has them; out of service and back.

use super::error::ApiError;
use super::service::{Service, changed};
use super::views::{attempt_name, time};
use muster_core::command::{Command, Request};
use muster_core::model::breaker::{Breaker, BreakerKey, Gate};
use muster_core::model::device_event::Returns;
use muster_core::model::device_record::{DeviceNote, DeviceRecord};
use muster_core::model::ids::WorkerId;
use muster_core::model::telemetry::Telemetry;
use muster_core::model::time::Tick;
use muster_core::model::worker::{Device, Worker};
use muster_core::state::State;
use muster_core::view_doc::{BreakerDoc, DeviceDoc, DeviceNoteDoc, DevicesDoc, GpuSampleDoc, HolderDoc};
use std::collections::BTreeMap;

/// Attempts that hold a part of each device of a worker, by the device's number.
pub(super) fn holders(state: &State, worker: WorkerId) -> BTreeMap<u16, Vec<HolderDoc>> {
    let mut all: BTreeMap<u16, Vec<HolderDoc>> = BTreeMap::new();
    for token in state.tokens_of(worker) {
        let Some(attempt) = state.attempt(token) else { continue };
        let Some((_, seat)) = attempt.seat_on(worker) else { continue };
        let (at, number) = (attempt.at, attempt.number);
        let name = state
            .job(at.job)
            .map_or_else(String::new, |job| attempt_name(&job.spec, at.job, at.task, at.index, number));
        for share in &seat.devices {
            all.entry(share.device).or_default().push(HolderDoc {
                attempt: name.clone(),
                job: at.job.0,
                milli: u32::from(share.milli),
                memory: share.memory,
            });
        }
    }
    all
}

/// The breaker of a worker, unless it is closed.
pub(super) fn breaker_doc(state: &State, worker: WorkerId) -> Option<BreakerDoc> {
    let breaker: &Breaker = state.breakers().get(&BreakerKey::Worker(worker))?;
    let now: Tick = state.tick();
    let (word, probe_in) = match breaker.gate(now) {
        Gate::Closed => return None,
        Gate::Open(until) => ("open", until.since(now).div_ceil(1000)),
        Gate::HalfOpen => ("half_open", 0),
        Gate::Probing(_) => ("probing", 0),
    };
    Some(BreakerDoc {
        state: word.to_owned(),
        reason: breaker.reason.clone(),
        since: time(breaker.since),
        probe_in,
    })
}

fn of_worker(worker: &Worker, number: u16, device: &Device) -> DeviceDoc {
    DeviceDoc {
        uuid: device.uuid.clone(),
        worker: worker.spec.name.clone(),
        index: Some(u32::from(number)),
        model: device.model.clone(),
        memory: device.memory,
        simulated: device.simulated,
        health: "healthy".to_owned(),
        ..DeviceDoc::default()
    }
}

fn add_record(doc: &mut DeviceDoc, record: &DeviceRecord) {
    if let Some(quarantine) = record.quarantine() {
        "quarantined".clone_into(&mut doc.health);
        doc.reason = Some(quarantine.reason.clone());
        doc.since = Some(time(quarantine.since));
        doc.returns_by_itself = quarantine.returns == Returns::Probe;
    }
    doc.ends.clone_from(&record.ends);
    doc.faults = record.faults;
}

fn note_doc(state: &State, note: &DeviceNote) -> DeviceNoteDoc {
    let attempt = |(at, number): &(muster_core::model::ids::IndexRef, u32)| match state.job(at.job) {
        Some(job) => attempt_name(&job.spec, at.job, at.task, at.index, *number),
        // A job that has left memory has left its task's name behind.
        None => at.job.to_string(),
    };
    DeviceNoteDoc {
        time: time(note.at),
        event: note.what.clone(),
        text: note.text.clone(),
        attempts: note.held.iter().map(attempt).collect(),
    }
}

/// All devices: by worker and number, then those that no worker has any more.
fn device_docs(state: &State, measured: &BTreeMap<WorkerId, Telemetry>) -> Vec<DeviceDoc> {
    let mut docs = Vec::new();
    let mut left: BTreeMap<&str, &DeviceRecord> =
        state.devices().iter().map(|(uuid, record)| (uuid.as_str(), record)).collect();
    for worker in state.workers() {
        let mut held = holders(state, worker.id);
        for (number, device) in (0_u16..).zip(&worker.spec.devices) {
            let mut doc = of_worker(worker, number, device);
            doc.holders = held.remove(&number).unwrap_or_default();
            if let Some(record) = left.remove(device.uuid.as_str()) {
                add_record(&mut doc, record);
            }
            doc.sample = measured.get(&worker.id).and_then(|of| GpuSampleDoc::of(of, &doc.uuid));
            docs.push(doc);
        }
    }
    for (uuid, record) in left {
        let mut doc = DeviceDoc {
            uuid: uuid.to_owned(),
            worker: state.worker(record.worker).map_or_else(String::new, |w| w.spec.name.clone()),
            model: record.model.clone(),
            health: "healthy".to_owned(),
            ..DeviceDoc::default()
        };
        add_record(&mut doc, record);
        docs.push(doc);
    }
    docs
}

impl Service {
    /// `muster gpus`.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_devices(&self) -> Result<DevicesDoc, ApiError> {
        self.forward.catch_up().await?;
        let measured = self.telemetry().await;
        Ok(DevicesDoc { devices: self.forward.read(|state| device_docs(state, &measured)) })
    }

    /// `muster gpus show`.
    ///
    /// # Errors
    /// No such device, no leader.
    pub async fn get_device(&self, text: &str) -> Result<DeviceDoc, ApiError> {
        let uuid = self.device(text).await?;
        let measured = self.telemetry().await;
        self.forward.read(|state| {
            let found = device_docs(state, &measured).into_iter().find(|doc| doc.uuid == uuid);
            let mut doc = found.ok_or_else(|| ApiError::NoDevice(text.to_owned()))?;
            if let Some(record) = state.devices().get(&uuid) {
                doc.history = record.notes.iter().map(|note| note_doc(state, note)).collect();
            }
            Ok(doc)
        })
    }

    /// The UUID that this is the beginning of.
    pub(super) async fn device(&self, text: &str) -> Result<String, ApiError> {
        self.forward.catch_up().await?;
        let found: Vec<String> = self.forward.read(|state| {
            let known = state.workers().flat_map(|w| w.spec.devices.iter().map(|d| &d.uuid));
            let mut found: Vec<String> =
                known.chain(state.devices().keys()).filter(|uuid| uuid.starts_with(text)).cloned().collect();
            found.sort();
            found.dedup();
            found
        });
        match found.as_slice() {
            [uuid] => Ok(uuid.clone()),
            _ if found.iter().any(|uuid| uuid == text) => Ok(text.to_owned()),
            [] => Err(ApiError::NoDevice(text.to_owned())),
            several => Err(ApiError::BadRequest(format!(
                "{text:?} is the beginning of {} devices, {} and {} among them: write more of it",
                several.len(),
                several[0],
                several[1]
            ))),
        }
    }

    /// Takes a device out of service; returns how many attempts are evicted for it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn quarantine_device(
        &self,
        request: Request,
        uuid: &str,
        reason: String,
    ) -> Result<u64, ApiError> {
        let uuid = self.device(uuid).await?;
        Ok(changed(&self.forward.one(Command::QuarantineDevice { request, uuid, reason }).await?))
    }

    /// Puts a device back into service; returns 0 when it was there already.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn return_device(&self, request: Request, uuid: &str, reason: String) -> Result<u64, ApiError> {
        let uuid = self.device(uuid).await?;
        Ok(changed(&self.forward.one(Command::ReturnDevice { request, uuid, reason }).await?))
    }
}
