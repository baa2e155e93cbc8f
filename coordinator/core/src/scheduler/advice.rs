//! What is to be said of a task's saves, from what was measured: whether one fits the notice that its machines give, and how often to save.
//! Read from the state, so that any member answers.

use super::feasible::fits_empty;
use super::obstacle::broken_constraint;
use crate::model::attempt::TERM_TO_KILL_MS;
use crate::model::ids::TaskNo;
use crate::model::job_spec::{CheckpointSpec, StopSpec};
use crate::model::time::Tick;
use crate::model::worker::{Worker, WorkerState};
use crate::spec::Expressions;
use crate::spot::{effective_every, interval_ms};
use crate::state::{Job, State};

/// Newest checkpoints of an array's indices that are looked at.
const INDICES_MAX: usize = 1_000;

/// Sentences, none where nothing was measured or all is well.
#[must_use]
pub fn advice(state: &State, job: &Job, no: TaskNo, now: Tick) -> Vec<String> {
    let Some(save_ms) = save_ms(state, job, no) else { return Vec::new() };
    let common = job.common(no);
    // 1. The workers that it may run on.
    let mut expressions = Expressions::new();
    let may_run = |worker: &&Worker| {
        worker.state != WorkerState::Lost
            && fits_empty(&common.resources, &worker.spec)
            && broken_constraint(&worker.spec, common, &mut expressions).is_none()
    };
    let workers: Vec<&Worker> = state.workers().filter(may_run).collect();
    let mut said = Vec::new();
    // 2. Whether a save fits what they give, and what the task itself gives.
    let gives = workers.iter().filter_map(|w| Some((w.spec.notice_ms?, w.spec.pool.as_str())));
    if let Some((notice_ms, pool)) = gives.min().filter(|(ms, _)| save_ms + TERM_TO_KILL_MS > *ms) {
        said.push(format!("saving takes {}; pool {pool} gives {} of notice", span(save_ms), span(notice_ms)));
    }
    let StopSpec { grace_ms, .. } = common.stop;
    if save_ms > grace_ms {
        said.push(format!(
            "saving takes {}; its grace is {}: raise checkpoint.grace",
            span(save_ms),
            span(grace_ms)
        ));
    }
    // 3. How often to save.
    let lasts = workers.iter().filter_map(|w| {
        let pool = w.spec.pool.as_str();
        Some((state.pools().get(pool)?.mtbf_ms(now)?, pool))
    });
    if let Some((mtbf_ms, pool)) = lasts.min() {
        let every_ms = common.checkpoint.as_deref().and_then(|CheckpointSpec { every_ms, .. }| *every_ms);
        let ranks = common.gang.as_ref().map_or(1, |gang| gang.max);
        let best = interval_ms(save_ms, mtbf_ms / u64::from(ranks.max(1)));
        let why =
            format!("saving takes {} and a worker of pool {pool} lasts {}", span(save_ms), span(mtbf_ms));
        match (every_ms, effective_every(every_ms, Some(save_ms), Some(mtbf_ms), ranks)) {
            (Some(every), Some(asked)) if asked < every => {
                said.push(format!(
                    "{why}: it is asked to save every {}, not every {}",
                    span(asked),
                    span(every)
                ));
            }
            (Some(_), _) => {}
            (None, _) => said.push(format!("{why}: saving every {} loses least", span(best))),
        }
    }
    said
}

/// What the slowest of the newest saves of its indices took, ms.
fn save_ms(state: &State, job: &Job, no: TaskNo) -> Option<u64> {
    let newest = state.newest_checkpoints(job.id, no).take(INDICES_MAX);
    newest.map(|checkpoint| checkpoint.took_ms).max()
}

/// A length of time for people: two units at most.
fn span(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if (seconds / 60).is_multiple_of(60) => format!("{} h", seconds / 3_600),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}
