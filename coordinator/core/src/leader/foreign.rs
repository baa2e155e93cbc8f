//! Foreign processes: something computes on a device of which nothing is granted. Such a device is given only when there is no other.

use super::step::Leader;
use crate::model::ids::WorkerId;
use std::collections::BTreeSet;

impl Leader {
    /// A worker measured. What is seen once may be the end of a task of ours; what is seen twice in a row, with nothing of ours on the
    /// device either time, is somebody else's.
    pub(super) fn measured(&mut self, worker: WorkerId, computing: Vec<String>) {
        let Some(view) = self.view.workers.get(&worker).filter(|_| self.term.is_some()) else { return };
        let devices = (0_u16..).zip(&view.worker.spec.devices);
        let idle = |number: &u16| view.used.device(*number).milli == 0;
        let seen: BTreeSet<u16> = devices
            .filter(|(number, device)| computing.contains(&device.uuid) && idle(number))
            .map(|(number, _)| number)
            .collect();
        let before = match seen.is_empty() {
            true => self.computing.remove(&worker),
            false => self.computing.insert(worker, seen.clone()),
        };
        let before = before.unwrap_or_default();
        // One that is in use by now stays what it was: nothing can be told of it.
        let busy = view.used.foreign.iter().copied().filter(|number| !idle(number));
        let foreign: BTreeSet<u16> = seen.intersection(&before).copied().chain(busy).collect();
        self.must_plan |= foreign != view.used.foreign;
        self.view.set_foreign(worker, foreign);
    }
}
