//! What happens to devices: quarantine, return, and their history over jobs. Only the device is taken, never its machine.
//!
//! An attempt that holds a device which goes out of service is asked to stop, and ends as `device(…)` when its processes are gone: until
//! then its index, its other devices and its amounts are not free (I3, I4).

use super::{Answer, Apply};
use crate::command::Placement;
use crate::event::Event;
use crate::model::attempt::{Attempt, Cause, StopReason};
use crate::model::device_event::{DeviceEventKind, Fault, Judged, Returns, Verdict, cut};
use crate::model::device_record::{DeviceHealth, DeviceNote, DeviceRecord, Quarantine, RETURN_AFTER_MS};
use crate::model::ids::{IndexRef, Token, WorkerId};
use crate::model::placement::Share;
use crate::model::worker::{Incarnation, Worker};
use crate::reply::{Rejection, Reply};
use crate::state::rows::Key;

impl Apply<'_> {
    /// What a worker saw. It repeats what was not acknowledged, so that what was heard already is passed over.
    pub(super) fn device_events(
        &mut self,
        id: WorkerId,
        incarnation: &Incarnation,
        events: &[Judged],
    ) -> Answer {
        let worker = self.state.workers.get(&id).ok_or(Rejection::NoWorker(id))?;
        if worker.incarnation != *incarnation {
            return Err(Rejection::OldIncarnation { got: incarnation.0.clone() });
        }
        let mut seen = worker.events_seen;
        for judged in events {
            if judged.event.seq > seen {
                seen = judged.event.seq;
                self.device_event(id, judged);
            }
        }
        if let Some(worker) = self.state.workers.get_mut(&id) {
            worker.events_seen = seen;
        }
        self.touch(Key::Worker(id));
        Ok(Reply::Done)
    }

    fn device_event(&mut self, id: WorkerId, judged: &Judged) {
        let uuid = &judged.event.uuid;
        // A device that the worker never named is none of ours.
        let named = self.state.workers[&id].spec.devices.iter().any(|d| d.uuid == *uuid);
        if !named && self.state.devices.get(uuid).is_none_or(|d| d.worker != id) {
            return;
        }
        let what = judged.event.kind.fault().map_or_else(|| "recovered".to_owned(), |f| f.to_string());
        let what =
            if matches!(judged.event.kind, DeviceEventKind::Xid(_)) { format!("xid {what}") } else { what };
        let detail = &judged.event.detail;
        let text =
            if detail.is_empty() { judged.text.clone() } else { format!("{} ({detail})", judged.text) };
        match &judged.verdict {
            Verdict::Note => self.note_device(id, uuid, what, text),
            Verdict::Recover => {
                self.note_device(id, uuid, what, text);
                let now = self.stamp.tick;
                let record = self.device_mut(id, uuid);
                let old = |q: &Quarantine| now.since(q.since.tick) >= RETURN_AFTER_MS;
                if record.quarantine().is_some_and(|q| q.returns == Returns::Probe && old(q)) {
                    record.health = DeviceHealth::Healthy;
                    self.count_devices(id);
                }
            }
            Verdict::Quarantine { fault, returns } => {
                self.note_device(id, uuid, what, text.clone());
                self.quarantine(id, uuid, *fault, *returns, &text);
            }
        }
    }

    /// The worker, started again, does not name it any more.
    pub(super) fn device_vanished(&mut self, id: WorkerId, uuid: &str) {
        let text = "its worker was started again and does not find it";
        self.note_device(id, uuid, Fault::LostFromBus.to_string(), text.to_owned());
        self.quarantine(id, uuid, Fault::LostFromBus, Returns::Operator, text);
    }

    /// By an operator.
    pub(super) fn quarantine_device(&mut self, uuid: &str, reason: &str) -> Answer {
        let id = self.worker_of(uuid)?;
        self.note_device(id, uuid, "quarantined".to_owned(), reason.to_owned());
        let evicted = self.quarantine(id, uuid, Fault::Operator, Returns::Operator, reason);
        Ok(Reply::Changed { indices: evicted })
    }

    /// By an operator, who has mended it or knows better.
    pub(super) fn return_device(&mut self, uuid: &str, reason: &str) -> Answer {
        let id = self.worker_of(uuid)?;
        let was_out = self.state.is_quarantined(uuid);
        if was_out {
            self.note_device(id, uuid, "returned".to_owned(), reason.to_owned());
            self.device_mut(id, uuid).health = DeviceHealth::Healthy;
            self.count_devices(id);
        }
        Ok(Reply::Changed { indices: u64::from(was_out) })
    }

    /// The worker whose device this is or was.
    fn worker_of(&self, uuid: &str) -> Result<WorkerId, Rejection> {
        let has = |w: &&Worker| w.spec.devices.iter().any(|d| d.uuid == uuid);
        let here = self.state.workers.values().find(has).map(|w| w.id);
        here.or_else(|| self.state.devices.get(uuid).map(|d| d.worker))
            .ok_or_else(|| Rejection::NoDevice(uuid.to_owned()))
    }

    /// Takes it out of service and asks what holds it to stop; returns how many attempts that is. What only a hand may end is not made
    /// easier by a later, milder event.
    fn quarantine(&mut self, id: WorkerId, uuid: &str, fault: Fault, returns: Returns, reason: &str) -> u64 {
        let since = self.stamp;
        let record = self.device_mut(id, uuid);
        let is_harder = record.quarantine().is_some_and(|q| q.returns == Returns::Operator);
        if !is_harder {
            let reason = cut(reason).to_owned();
            record.health = DeviceHealth::Quarantined(Quarantine { fault, reason, since, returns });
            self.count_devices(id);
        }
        // Whose process stayed on the device has ended by itself: its own end is its cause.
        if fault == Fault::NotClean {
            return 0;
        }
        let mut evicted = 0;
        for token in self.holders(id, uuid) {
            // A rank that failed a moment ago most likely did so for this.
            if let Some(attempt) = self.state.live.get_mut(&token)
                && attempt.failed.as_ref().is_some_and(Cause::is_charged)
            {
                attempt.failed = Some(Cause::Device(fault));
                self.touched.add(Key::Live(token));
            }
            evicted += u64::from(self.stop_attempt(token, StopReason::Device(fault)));
        }
        self.events.push(Event::WorkerChanged { worker: id });
        evicted
    }

    /// Whether none of the devices is out of service.
    pub(super) fn in_service(&self, placement: &Placement) -> bool {
        if self.state.devices.is_empty() {
            return true;
        }
        placement.seats.iter().all(|seat| {
            let devices = self.state.workers.get(&seat.worker).map(|w| &w.spec.devices);
            let uuid = |share: &Share| devices?.get(usize::from(share.device)).map(|d| d.uuid.as_str());
            seat.devices.iter().all(|share| uuid(share).is_some_and(|uuid| !self.state.is_quarantined(uuid)))
        })
    }

    fn note_device(&mut self, id: WorkerId, uuid: &str, what: String, text: String) {
        let held = self.holders(id, uuid).into_iter().filter_map(|t| self.state.live.get(&t));
        let held: Vec<(IndexRef, u32)> = held.map(|a| (a.at, a.number)).collect();
        let note = DeviceNote { at: self.stamp, what, text: cut(&text).to_owned(), held };
        self.device_mut(id, uuid).note(note);
    }

    /// The record, to write.
    fn device_mut(&mut self, id: WorkerId, uuid: &str) -> &mut DeviceRecord {
        self.touch(Key::Device(uuid.to_owned()));
        let device = self.state.workers.get(&id).and_then(|w| w.spec.devices.iter().find(|d| d.uuid == uuid));
        let model = device.map_or_else(String::new, |d| d.model.clone());
        let record =
            self.state.devices.entry(uuid.to_owned()).or_insert_with(|| DeviceRecord::new(id, model.clone()));
        record.worker = id;
        if !model.is_empty() {
            record.model = model;
        }
        record
    }

    /// Live attempts of this incarnation that hold the device.
    fn holders(&self, id: WorkerId, uuid: &str) -> Vec<Token> {
        let Some(worker) = self.state.workers.get(&id) else { return Vec::new() };
        let Some(number) = worker.spec.devices.iter().position(|d| d.uuid == uuid) else { return Vec::new() };
        let number = number as u16;
        let own = self.state.tokens_of(id).into_iter().filter(|t| *t > worker.former);
        own.filter(|t| {
            let seat = self.state.live[t].seat_on(id);
            seat.is_some_and(|(_, seat)| seat.devices.iter().any(|share| share.device == number))
        })
        .collect()
    }

    /// An attempt ended: every device that it held remembers how.
    pub(super) fn count_end(&mut self, attempt: &Attempt, cause: &Cause) {
        for seat in &attempt.seats {
            let id = seat.worker;
            for share in &seat.devices {
                let device = self.state.workers.get(&id).filter(|w| attempt.token > w.former);
                let device = device.and_then(|w| w.spec.devices.get(usize::from(share.device)));
                let Some(uuid) = device.map(|d| d.uuid.clone()) else { continue };
                let record = self.device_mut(id, &uuid);
                let is_at_fault = matches!(cause, Cause::Device(_)) && record.quarantine().is_some();
                record.faults += u64::from(is_at_fault);
                *record.ends.entry(word(cause)).or_default() += 1;
            }
        }
    }
}

/// What is counted of an end: not which code or signal it was.
fn word(cause: &Cause) -> String {
    if *cause == Cause::Exit(0) {
        return "succeeded".to_owned();
    }
    let text = cause.to_string();
    text.split('(').next().unwrap_or_default().to_owned()
}
