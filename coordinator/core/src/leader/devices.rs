//! Devices, from the leader's side: what their workers saw is judged and proposed, and those that may return by themselves are looked at
//! again.

use super::instruction::Instruction;
use super::io::SessionId;
use super::step::Leader;
use crate::command::Command;
use crate::model::device_event::{DeviceEvent, Returns};
use crate::model::device_record::RETURN_AFTER_MS;
use crate::model::ids::WorkerId;

/// A worker is asked this often to look at its devices again, ms.
const PROBE_EVERY_MS: u64 = 15_000;
/// Events of one worker that wait to be proposed; it says again what was not settled.
const EVENTS_MAX: usize = 256;

impl Leader {
    /// What a worker saw. What is durable already is settled, the rest is judged.
    pub(super) fn device_events_came(&mut self, session: SessionId, events: Vec<DeviceEvent>) {
        let Some(from) = self.sessions.get(&session) else { return };
        let worker = from.worker;
        // The numbers of an older incarnation say nothing to this one's.
        if !self.is_current(worker, &from.incarnation) {
            return;
        }
        let Some(view) = self.view.workers.get(&worker).filter(|_| self.term.is_some()) else { return };
        let seen = view.worker.events_seen;
        if events.iter().any(|event| event.seq <= seen) {
            self.outbox.entry(session).or_default().push(Instruction::EventsSettled { seq: seen });
        }
        let waiting = self.device_events.entry(worker).or_default();
        let last = waiting.last().map_or(seen, |judged| judged.event.seq);
        for event in events.into_iter().filter(|event| event.seq > last) {
            if waiting.len() < EVENTS_MAX {
                waiting.push(self.health.judge(event));
            }
        }
        if waiting.is_empty() {
            self.device_events.remove(&worker);
        }
    }

    /// Somebody makes a device sick on purpose: its worker says so on the way that every event takes.
    pub(super) fn drill_came(&mut self, worker: WorkerId, event: DeviceEvent) {
        if let Some(session) = self.by_worker.get(&worker).filter(|_| self.term.is_some()) {
            self.outbox.entry(*session).or_default().push(Instruction::Drill(event));
        }
    }

    /// The commands that write down what was judged. Should the proposal be lost, the worker says it again.
    pub(super) fn take_device_events(&mut self) -> Vec<Command> {
        let waiting = std::mem::take(&mut self.device_events);
        let command = |(worker, events)| {
            let incarnation = self.view.workers.get(&worker)?.worker.incarnation.clone();
            Some(Command::DeviceEvents { worker, incarnation, events })
        };
        waiting.into_iter().filter_map(command).collect()
    }

    /// The worker's row changed: what was written of its devices need not be said again.
    pub(super) fn settle_events(&mut self, worker: WorkerId) {
        let Some(seq) = self.view.workers.get(&worker).map(|w| w.worker.events_seen) else { return };
        if let Some(session) = self.by_worker.get(&worker).filter(|_| seq > 0) {
            self.outbox.entry(*session).or_default().push(Instruction::EventsSettled { seq });
        }
    }

    /// Asks a worker that was just heard to look again at those of its devices that a look may return.
    pub(super) fn ask_again(&mut self, now: u64, session: SessionId, worker: WorkerId) {
        let tick = self.tick(now);
        let may_return = self.view.out_of_service(worker).filter(|(_, quarantine)| {
            quarantine.returns == Returns::Probe && tick.since(quarantine.since.tick) >= RETURN_AFTER_MS
        });
        let uuids: Vec<String> = may_return.map(|(uuid, _)| uuid.to_owned()).collect();
        let due = self.probed.get(&worker).is_none_or(|at| now >= at + PROBE_EVERY_MS);
        if !uuids.is_empty() && due {
            self.probed.insert(worker, now);
            self.outbox.entry(session).or_default().push(Instruction::Probe { uuids });
        }
    }
}
