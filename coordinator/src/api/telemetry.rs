//! Measurements in the views: any member answers, and asks the one that leads.

use super::error::ApiError;
use super::service::Service;
use muster_core::model::ids::WorkerId;
use muster_core::model::telemetry::Telemetry;
use muster_core::view_doc::{GpuSampleDoc, MachineDoc, WorkerDoc};
use muster_proto::convert::unpack;
use muster_proto::member::TelemetryRequest;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A leader that does not answer in this time leaves the measurements out: they are not worth waiting for.
const WITHIN: Duration = Duration::from_secs(1);

impl Service {
    /// What is known of each worker. Empty, not an error, while there is no leader or it does not answer.
    pub async fn telemetry(&self) -> BTreeMap<WorkerId, Telemetry> {
        let leader = self.forward.leadership().borrow().leader.clone();
        let Some((id, address)) = leader.filter(|(id, _)| *id != self.forward.member()) else {
            return self.telemetries.fresh(Instant::now()).into_iter().collect();
        };
        match tokio::time::timeout(WITHIN, self.ask_telemetry(&address)).await {
            Ok(Ok(all)) => all.into_iter().collect(),
            Ok(Err(error)) => {
                tracing::debug!(leader = id, %error, "no measurements");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        }
    }

    async fn ask_telemetry(&self, address: &str) -> Result<Vec<(WorkerId, Telemetry)>, ApiError> {
        let unreachable = |error: &dyn std::fmt::Display| ApiError::NoLeader(error.to_string());
        let mut peer = self.forward.peers().at(address).map_err(|error| unreachable(&error))?;
        let reply =
            peer.telemetry(TelemetryRequest {}).await.map_err(|status| unreachable(&status.message()))?;
        let (mut parts, mut all) = (reply.into_inner(), Vec::new());
        while let Some(part) = parts.message().await.map_err(|status| unreachable(&status.message()))? {
            all.extend(unpack::<Vec<_>>(&part.telemetry)?);
        }
        Ok(all)
    }

    /// Fills in what was measured.
    pub async fn measured(&self, workers: &mut [WorkerDoc]) {
        if workers.is_empty() {
            return;
        }
        let all = self.telemetry().await;
        for worker in workers {
            let Some(telemetry) = all.get(&WorkerId(worker.id)) else { continue };
            worker.machine = Some(MachineDoc::of(telemetry));
            for gpu in &mut worker.gpus {
                gpu.sample = GpuSampleDoc::of(telemetry, &gpu.uuid);
            }
        }
    }
}
