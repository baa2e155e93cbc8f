//! Workers and their devices, as documents.

use super::super::devices::breaker_doc;
use super::super::error::ApiError;
use super::super::service::Service;
use super::words::{attempt_name, attempt_state, devices, time};
use muster_core::model::notice::Noticed;
use muster_core::model::placement::Share;
use muster_core::model::time::{Stamp, Tick, Wall};
use muster_core::model::worker::Worker;
use muster_core::state::State;
use muster_core::view_doc::{GpuDoc, LeaseDoc, LinkDoc, NoticeDoc, WorkerDoc, WorkersDoc};
use std::collections::BTreeMap;

fn worker_doc(state: &State, worker: &Worker) -> WorkerDoc {
    let spec = &worker.spec;
    let used = state.used(worker.id);
    let mut holders = BTreeMap::new();
    let mut leases = Vec::new();
    for token in state.tokens_of(worker.id) {
        let Some(attempt) = state.attempt(token) else { continue };
        let name = state.job(attempt.at.job).map_or_else(String::new, |job| {
            attempt_name(&job.spec, job.id, attempt.at.task, attempt.at.index, attempt.number)
        });
        let held: &[Share] = attempt.seat_on(worker.id).map_or(&[], |(_, seat)| &seat.devices);
        for share in held {
            let holder: &mut String = holders.entry(share.device).or_default();
            // A device in parts has several.
            if !holder.is_empty() {
                holder.push_str(", ");
            }
            holder.push_str(&name);
        }
        leases.push(LeaseDoc {
            attempt: name,
            job: attempt.at.job.0,
            token: token.0,
            state: attempt_state(attempt.state).to_owned(),
            devices: devices(Some(worker), held),
        });
    }
    let gpu = |(number, device): (usize, &muster_core::model::worker::Device)| GpuDoc {
        uuid: device.uuid.clone(),
        model: device.model.clone(),
        memory: device.memory,
        compute_capability: match device.compute_capability {
            0 => String::new(),
            both => format!("{}.{}", both / 10, both % 10),
        },
        simulated: device.simulated,
        numa: device.numa.map(u32::from),
        links: device
            .links
            .iter()
            .map(|link| LinkDoc {
                peer: u32::from(link.peer),
                class: link.class.as_str().to_owned(),
                lanes: u32::from(link.lanes),
            })
            .collect(),
        mig: device.mig.clone(),
        health: if state.is_quarantined(&device.uuid) { "quarantined" } else { "healthy" }.to_owned(),
        reason: state
            .devices()
            .get(&device.uuid)
            .and_then(|d| d.quarantine())
            .map(|quarantine| quarantine.reason.clone()),
        held_by: u16::try_from(number).ok().and_then(|number| holders.get(&number).cloned()),
        sample: None,
    };
    WorkerDoc {
        id: worker.id.0,
        name: spec.name.clone(),
        state: worker.state.as_str().to_owned(),
        pool: spec.pool.clone(),
        spot: spec.spot,
        labels: spec.labels.clone(),
        cpu_milli: spec.cpu_milli,
        cpus: spec.cpu_milli / 1_000,
        memory: spec.memory,
        disk: spec.disk,
        gpus: spec.devices.iter().enumerate().map(gpu).collect(),
        isolation: spec.isolation.clone(),
        leases,
        used_cpu_milli: used.cpu_milli,
        used_memory: used.memory,
        used_disk: used.disk,
        used_gpus: used.devices.len() as u64,
        version: spec.version.clone(),
        host: spec.host.clone(),
        drain_reason: worker.drain.as_ref().map(|drain| drain.reason.clone()),
        notice: worker.notice.as_ref().map(notice_doc),
        notice_sources: spec.notices.iter().map(|source| source.as_str().to_owned()).collect(),
        notice_seconds: spec.notice_ms.map(|ms| ms as f64 / 1_000.0),
        breaker: breaker_doc(state, worker.id),
        drill: None,
        joined: time(worker.joined),
        changed: time(worker.changed),
        machine: None,
    }
}

fn notice_doc(noticed: &Noticed) -> NoticeDoc {
    let Noticed { notice, since, deadline } = noticed;
    let at = |tick: Tick| {
        let ms = i64::try_from(tick.since(since.tick)).unwrap_or(i64::MAX);
        Stamp { wall: Wall(since.wall.0.saturating_add(ms)), tick }
    };
    NoticeDoc {
        kind: notice.kind.as_str().to_owned(),
        source: notice.source.as_str().to_owned(),
        detail: notice.detail.clone(),
        drill: notice.drill,
        since: time(*since),
        deadline: deadline.map(|tick| time(at(tick))),
    }
}

impl Service {
    /// `muster workers`.
    ///
    /// # Errors
    /// No leader.
    pub async fn list_workers(&self) -> Result<WorkersDoc, ApiError> {
        self.forward.catch_up().await?;
        let mut workers: Vec<WorkerDoc> =
            self.forward.read(|state| state.workers().map(|worker| worker_doc(state, worker)).collect());
        self.measured(&mut workers).await;
        Ok(WorkersDoc { workers })
    }

    /// `muster worker show`.
    ///
    /// # Errors
    /// No such worker, no leader.
    pub async fn get_worker(&self, text: &str) -> Result<WorkerDoc, ApiError> {
        let id = self.worker(text).await?;
        let mut worker = self
            .forward
            .read(|state| state.worker(id).map(|worker| worker_doc(state, worker)))
            .ok_or_else(|| ApiError::NoWorker(text.to_owned()))?;
        self.measured(std::slice::from_mut(&mut worker)).await;
        Ok(worker)
    }
}
