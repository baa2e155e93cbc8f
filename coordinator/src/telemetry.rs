//! What workers measured last, in the memory of the member that leads. It never enters the log: a new leader knows it again when each worker
//! has sent the next measurement, some seconds later, and until then it is unknown.

use muster_core::model::ids::WorkerId;
use muster_core::model::telemetry::Telemetry;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A measurement older than this says nothing of now: workers send one every five seconds.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// The last measurement of each worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Telemetries(Arc<Mutex<BTreeMap<WorkerId, (Instant, Telemetry)>>>);

impl Telemetries {
    /// A worker measured. Returns the devices on which something computes, while there are any and once when there are none any more.
    pub fn record(&self, worker: WorkerId, telemetry: Telemetry) -> Option<Vec<String>> {
        let now = computing(&telemetry);
        let before = self.0.lock().insert(worker, (Instant::now(), telemetry));
        let did = before.is_some_and(|(_, before)| !computing(&before).is_empty());
        (did || !now.is_empty()).then_some(now)
    }

    /// All that is fresh at `now`; what is not is dropped.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Vec<(WorkerId, Telemetry)> {
        let mut all = self.0.lock();
        all.retain(|_, (at, _)| now.saturating_duration_since(*at) < GOOD_FOR);
        all.iter().map(|(worker, (_, telemetry))| (*worker, telemetry.clone())).collect()
    }
}

fn computing(telemetry: &Telemetry) -> Vec<String> {
    let busy = telemetry.devices.iter().filter(|device| !device.processes.is_empty());
    busy.map(|device| device.uuid.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::telemetry::{DeviceProcess, DeviceSample};

    #[test]
    fn the_last_of_each_worker_is_kept_until_it_is_old() {
        let table = Telemetries::default();
        let measured = |at| Telemetry { at, ..Telemetry::default() };
        let record = |worker, at| {
            table.record(WorkerId(worker), measured(at));
        };
        record(1, 1);
        record(2, 2);
        record(1, 3);
        let now = Instant::now();
        assert_eq!(table.fresh(now), [(WorkerId(1), measured(3)), (WorkerId(2), measured(2))]);
        assert_eq!(table.fresh(now + GOOD_FOR), []);
        assert_eq!(table.fresh(now), []);
    }

    #[test]
    fn what_computes_is_told_until_nothing_does() {
        let table = Telemetries::default();
        let measured = |pids: &[u32]| {
            let processes = pids.iter().map(|pid| DeviceProcess { pid: *pid, memory: None }).collect();
            let device = DeviceSample { uuid: "GPU-a".to_owned(), processes, ..DeviceSample::default() };
            table.record(WorkerId(1), Telemetry { devices: vec![device], ..Telemetry::default() })
        };
        let there = Some(vec!["GPU-a".to_owned()]);
        assert_eq!([measured(&[]), measured(&[7]), measured(&[7])], [None, there.clone(), there]);
        assert_eq!([measured(&[]), measured(&[])], [Some(Vec::new()), None]);
    }
}
