//! What workers measured last, in the memory of the member that leads. It never enters the log: a new leader knows it again when each worker
//! has sent the next measurement, some seconds later, and until then it is unknown.

use muster_core::model::ids::WorkerId;
use muster_core::model::telemetry::{DeviceSample, Telemetry};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A measurement older than this says nothing of now: workers send one every five seconds.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// The last measurement of each worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Telemetries(Arc<Mutex<BTreeMap<WorkerId, (Instant, Telemetry)>>>);

impl Telemetries {
    /// A worker measured. Returns what was seen to compute or not, while there is any such device and once when there is none any more.
    pub fn record(&self, worker: WorkerId, telemetry: Telemetry) -> Option<Looked> {
        let now = Looked::of(&telemetry);
        let before = self.0.lock().insert(worker, (Instant::now(), telemetry));
        let did = before.is_some_and(|(_, before)| Looked::of(&before) != Looked::default());
        (did || now != Looked::default()).then_some(now)
    }

    /// All that is fresh at `now`; what is not is dropped.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Vec<(WorkerId, Telemetry)> {
        let mut all = self.0.lock();
        all.retain(|_, (at, _)| now.saturating_duration_since(*at) < GOOD_FOR);
        all.iter().map(|(worker, (_, telemetry))| (*worker, telemetry.clone())).collect()
    }
}

/// What a measurement says of who uses the devices, by UUID. In neither list: it cannot be said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Looked {
    /// Something computes on them.
    pub computing: Vec<String>,
    /// The driver answers for them, no process is there, and they do nothing.
    pub empty: Vec<String>,
}

impl Looked {
    fn of(telemetry: &Telemetry) -> Self {
        let uuids = |pick: &dyn Fn(&DeviceSample) -> bool| {
            telemetry.devices.iter().filter(|device| pick(device)).map(|device| device.uuid.clone()).collect()
        };
        // A list of processes that could not be read is empty too: so the rest of the answer has to be there.
        let answers = |d: &DeviceSample| d.unhealthy.is_none() && d.memory_used.is_some();
        let rests = |d: &DeviceSample| d.processes.is_empty() && d.utilization_permille.unwrap_or(0) == 0;
        Self {
            computing: uuids(&|device| !device.processes.is_empty()),
            empty: uuids(&|device| answers(device) && rests(device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::model::telemetry::DeviceProcess;

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
        let there = Some(Looked { computing: vec!["GPU-a".to_owned()], empty: Vec::new() });
        assert_eq!([measured(&[]), measured(&[7]), measured(&[7])], [None, there.clone(), there]);
        assert_eq!([measured(&[]), measured(&[])], [Some(Looked::default()), None]);
    }

    #[test]
    fn a_device_is_empty_only_when_the_driver_says_so() {
        let sample = |memory_used, utilization_permille, unhealthy: Option<&str>| DeviceSample {
            uuid: "GPU-a".to_owned(),
            memory_used,
            utilization_permille,
            unhealthy: unhealthy.map(str::to_owned),
            ..DeviceSample::default()
        };
        let is_empty = |device| {
            !Looked::of(&Telemetry { devices: vec![device], ..Telemetry::default() }).empty.is_empty()
        };
        assert!(is_empty(sample(Some(0), Some(0), None)) && is_empty(sample(Some(9), None, None)));
        assert!(!is_empty(sample(None, None, None)), "a simulated one, or one that does not answer");
        assert!(!is_empty(sample(Some(0), Some(3), None)) && !is_empty(sample(Some(0), None, Some("lost"))));
    }
}
