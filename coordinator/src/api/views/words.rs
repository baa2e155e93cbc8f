//! Words and counts that documents share.

use muster_core::model::attempt::{Attempt, AttemptState};
use muster_core::model::ids::{JobId, TaskNo};
use muster_core::model::job::Counts;
use muster_core::model::job_spec::JobSpec;
use muster_core::model::placement::Share;
use muster_core::model::time::Stamp;
use muster_core::model::worker::Worker;
use muster_core::view_doc::{CountsDoc, rfc3339};

pub(in crate::api) fn time(stamp: Stamp) -> String {
    rfc3339(stamp.wall.0)
}

pub(super) fn counts(counts: &Counts) -> CountsDoc {
    CountsDoc {
        total: counts.total,
        waiting: counts.waiting,
        ready: counts.ready,
        held: counts.held,
        starting: counts.starting,
        running: counts.running,
        stopping: counts.stopping,
        succeeded: counts.succeeded,
        failed: counts.failed,
        skipped: counts.skipped,
        cancelled: counts.cancelled,
    }
}

/// Live indices count as running in the core; the attempts say which of them start or stop.
pub(super) fn split_live<'a>(mut doc: CountsDoc, live: impl Iterator<Item = &'a Attempt>) -> CountsDoc {
    for attempt in live {
        match attempt.state {
            AttemptState::Running => {}
            AttemptState::Starting => {
                doc.running = doc.running.saturating_sub(1);
                doc.starting += 1;
            }
            AttemptState::Stopping => {
                doc.running = doc.running.saturating_sub(1);
                doc.stopping += 1;
            }
        }
    }
    doc
}

pub(super) fn attempt_state(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Starting => "starting",
        AttemptState::Running => "running",
        AttemptState::Stopping => "stopping",
    }
}

pub(super) fn devices(worker: Option<&Worker>, shares: &[Share]) -> Vec<String> {
    let uuid = |share: &Share| {
        worker
            .and_then(|w| w.spec.devices.get(usize::from(share.device)))
            .map_or_else(|| format!("#{}", share.device), |d| d.uuid.clone())
    };
    shares.iter().map(uuid).collect()
}

pub(super) fn user_index(spec: &JobSpec, task: TaskNo, position: u32) -> Option<u32> {
    spec.task(task)?.array()?.index(position)
}

/// `42.train[7]#2`.
pub(in crate::api) fn attempt_name(
    spec: &JobSpec,
    job: JobId,
    task: TaskNo,
    position: u32,
    number: u32,
) -> String {
    let name = spec.task(task).map_or("", |task| &task.name);
    match user_index(spec, task, position) {
        Some(index) => format!("{job}.{name}[{index}]#{number}"),
        None => format!("{job}.{name}#{number}"),
    }
}
