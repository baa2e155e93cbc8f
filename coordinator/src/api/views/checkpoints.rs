//! Committed checkpoints, as documents.

use super::super::error::ApiError;
use super::super::service::Service;
use super::words::{time, user_index};
use muster_core::command::Target;
use muster_core::model::checkpoint::Checkpoint;
use muster_core::model::ids::IndexRef;
use muster_core::state::Job;
use muster_core::view_doc::{CheckpointDoc, CheckpointsDoc};
use std::collections::BTreeMap;

/// Checkpoints of one list; the rest is counted.
const CHECKPOINTS_MAX: usize = 10_000;

impl Service {
    /// `muster checkpoint list`: what is kept of a job, a task or an index.
    ///
    /// # Errors
    /// No such job, task or index; no leader.
    pub async fn list_checkpoints(&self, id: &str) -> Result<CheckpointsDoc, ApiError> {
        let Target { job: id, task, index } = self.target(id).await?;
        // 1. Which attempt began where: the ended ones are on disk.
        let history = self.history.clone();
        let ended = tokio::task::spawn_blocking(move || {
            let mut began: BTreeMap<(IndexRef, u64), u32> = BTreeMap::new();
            history.visit(id, task, index, &mut |ended| {
                if let Some(step) = ended.resumed {
                    began.insert((ended.at, step), ended.number);
                }
                true
            })?;
            Ok::<_, std::io::Error>(began)
        });
        let mut began = ended.await.map_err(|error| ApiError::Stopped(error.to_string()))??;
        // 2. What the state has.
        self.forward.read(|state| {
            let job = state.job(id).ok_or(ApiError::NoJob(id.0))?;
            for attempt in state.live_of_job(id) {
                if let Some(step) = attempt.progress.resumed {
                    began.insert((attempt.at, step), attempt.number);
                }
            }
            let kept = state.checkpoints_of(id, task).filter(|(at, _)| index.is_none_or(|i| at.index == i));
            let mut doc = CheckpointsDoc::default();
            for (at, checkpoint) in kept {
                if doc.checkpoints.len() < CHECKPOINTS_MAX {
                    let by = began.get(&(at, checkpoint.step)).copied();
                    doc.checkpoints.push(checkpoint_doc(job, at, checkpoint, by));
                } else {
                    doc.omitted += 1;
                }
            }
            Ok(doc)
        })
    }
}

fn checkpoint_doc(job: &Job, at: IndexRef, kept: &Checkpoint, resumed_by: Option<u32>) -> CheckpointDoc {
    CheckpointDoc {
        job: at.job.0,
        task: job.spec.task(at.task).map_or_else(String::new, |task| task.name.to_string()),
        index: user_index(&job.spec, at.task, at.index),
        step: kept.step,
        attempt: kept.attempt,
        token: kept.token.0,
        size: kept.size(),
        files: kept.parts.iter().map(|part| u64::from(part.files)).sum(),
        ranks: kept.parts.len() as u64,
        committed: time(kept.committed),
        took_seconds: kept.took_ms as f64 / 1_000.0,
        // Another attempt's checkpoint of the same step is the same place to begin from.
        resumed_by,
    }
}
