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
    /// A worker measured.
    pub fn record(&self, worker: WorkerId, telemetry: Telemetry) {
        self.0.lock().insert(worker, (Instant::now(), telemetry));
    }

    /// All that is fresh at `now`; what is not is dropped.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Vec<(WorkerId, Telemetry)> {
        let mut all = self.0.lock();
        all.retain(|_, (at, _)| now.saturating_duration_since(*at) < GOOD_FOR);
        all.iter().map(|(worker, (_, telemetry))| (*worker, telemetry.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_worker_is_kept_until_it_is_old() {
        let table = Telemetries::default();
        let measured = |at| Telemetry { at, ..Telemetry::default() };
        let record = |worker, at| table.record(WorkerId(worker), measured(at));
        record(1, 1);
        record(2, 2);
        record(1, 3);
        let now = Instant::now();
        assert_eq!(table.fresh(now), [(WorkerId(1), measured(3)), (WorkerId(2), measured(2))]);
        assert_eq!(table.fresh(now + GOOD_FOR), []);
        assert_eq!(table.fresh(now), []);
    }
}
