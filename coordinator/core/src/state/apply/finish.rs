//! The end of an attempt: its cause, whether another follows, and what of it goes to history.

use super::Apply;
use crate::event::Event;
use crate::model::artifact::Artifact;
use crate::model::attempt::{Attempt, Cause, EXIT_SAVED, Outcome, StopReason};
use crate::model::ids::{IndexRef, Token, WorkerId};
use crate::model::job::IndexState;
use crate::model::retry::ChargedEnd;
use crate::model::worker::WorkerState;
use crate::state::indices::Indices;
use crate::state::job::{Job, Phase};
use crate::state::restore::block_of;
use crate::state::rows::{History, Key};

/// Attempts in a row that could not be launched, after which the index fails: the reason is likely the user's.
pub const LAUNCHES_MAX: u8 = 3;
/// Attempts in a row that ended `lost` and committed nothing, after which the index is held: it may be what kills its workers.
pub const LOST_MAX: u8 = 3;
/// Attempts in a row that ended `device`, after which the index is held: it may be what breaks its devices.
pub const DEVICE_FAULTS_MAX: u8 = 3;
/// Wait before the next try of a launch, ms, doubled each time.
const LAUNCH_BACKOFF_MS: u64 = 200;

/// What becomes of the index.
struct Next {
    state: IndexState,
    wait_ms: u64,
    reason: Option<String>,
}

impl Apply<'_> {
    /// Ends a live attempt.
    pub(super) fn end(&mut self, token: Token, cause: Cause, artifacts: &[Artifact]) {
        self.count_end_of(token, &cause);
        let Some(attempt) = self.state.unlink(token) else { return };
        self.count_ended(&attempt);
        self.touch(Key::Live(token));
        let at = attempt.at;
        let has_saved = attempt.progress.committed.is_some();
        let cause = if cause == Cause::Exit(EXIT_SAVED) && has_saved { Cause::Saved } else { cause };
        let newest = self.state.checkpoints(at).last().map(|c| c.step);
        let Some(job) = self.state.jobs.get_mut(&at.job) else { return };
        let next = next_of(job, &attempt, &cause, newest);
        let retried = next.state == IndexState::Pending;
        job.lost += u64::from(cause == Cause::Lost);
        job.retried += u64::from(retried);
        if cause == Cause::Lost || retried {
            self.touched.add(Key::Job(at.job));
        }
        let run = job.task_mut(at.task);
        self.touched.add(index_key(at, &run.indices));
        run.indices.set(at.index, next.state);
        if let Some(reason) = &next.reason {
            run.reason = Some(reason.as_str().into());
            self.touched.add(Key::Task(at.job, at.task));
        }
        match next.state {
            IndexState::Succeeded => {
                run.indices.forget(at.index);
                if !artifacts.is_empty() {
                    run.indices.set_artifacts(at.index, artifacts.to_vec());
                    self.touched.add(Key::Artifacts(at.job, at.task, at.index));
                }
            }
            IndexState::Pending => {
                run.indices.remember(at.index).not_before = self.stamp.tick.plus(next.wait_ms);
                self.changes.returned.push(at);
            }
            _ => {}
        }
        let is_over = run.indices.is_over();
        let waits = run.phase == Phase::Waiting;
        if next.state == IndexState::Failed {
            self.note_failure(at.job, &cause);
        }
        let workers: Vec<WorkerId> = attempt.seats.iter().map(|s| s.worker).collect();
        self.count_end(&attempt, &cause);
        self.blame_end(&attempt, &cause);
        self.history(attempt, cause, retried);
        workers.into_iter().for_each(|worker| self.settle_drain(worker));
        if waits {
            // A rerun may have put its task back to waiting while it ran, and the parents may have decided since.
            self.consider(at.job, at.task);
        }
        if is_over {
            self.close_if_done(at.job, at.task);
        }
    }

    fn history(&mut self, attempt: Attempt, cause: Cause, retried: bool) {
        self.events.push(Event::AttemptEnded {
            at: attempt.at,
            number: attempt.number,
            token: attempt.token,
            workers: attempt.seats.iter().map(|s| s.worker).collect(),
            cause: cause.clone(),
            retried,
        });
        self.changes.history.push(History {
            at: attempt.at,
            number: attempt.number,
            token: attempt.token,
            seats: attempt.seats,
            cause,
            placed: attempt.placed,
            started: attempt.started,
            ended: self.stamp,
            retried,
            resumed: attempt.progress.resumed,
            committed: attempt.progress.committed,
            asked: attempt.asked,
        });
    }

    /// A draining worker whose last attempt ended is drained.
    fn settle_drain(&mut self, id: WorkerId) {
        let Some(worker) = self.state.workers.get_mut(&id) else { return };
        if worker.state == WorkerState::Draining
            && self.state.loads.get(&id).is_none_or(|load| load.tokens.is_empty())
        {
            worker.state = WorkerState::Drained;
            worker.changed = self.stamp;
            self.touch(Key::Worker(id));
            self.events.push(Event::WorkerChanged { worker: id });
        }
    }
}

/// The row that an index is stored in.
fn index_key(at: IndexRef, indices: &Indices) -> Key {
    match indices {
        Indices::One(_) => Key::Task(at.job, at.task),
        Indices::Array(_) => Key::Block(at.job, at.task, block_of(at.index)),
    }
}

/// What becomes of the index whose attempt ended. `newest`: the step of its newest checkpoint that is kept.
fn next_of(job: &mut Job, attempt: &Attempt, cause: &Cause, newest: Option<u64>) -> Next {
    let plain = |state| Next { state, wait_ms: 0, reason: None };
    match cause {
        Cause::Exit(0) => return plain(IndexState::Succeeded),
        Cause::Cancelled => return plain(IndexState::Cancelled),
        _ => {}
    }
    let at = attempt.at;
    let task = at.task.0 as usize;
    let memory = job.tasks[task].indices.remember(at.index);
    memory.attempts = attempt.number;
    memory.charged += u32::from(cause.is_charged());
    let got_on = attempt.progress.committed.is_some();
    memory.lost = if *cause == Cause::Lost && !got_on { memory.lost + 1 } else { 0 };
    memory.launch = if matches!(cause, Cause::Launch(_)) { memory.launch + 1 } else { 0 };
    memory.device = if matches!(cause, Cause::Device(_)) { memory.device + 1 } else { 0 };
    memory.cause = Some(cause.clone());
    let (charged, lost, launch, device) = (memory.charged, memory.lost, memory.launch, memory.device);
    if job.cancelled {
        return plain(IndexState::Cancelled);
    }
    let retry = &job.spec.common(&job.spec.tasks[task]).retry;
    let again = match cause {
        Cause::Exit(code) => retry.tries_again(ChargedEnd::Exit(*code), charged),
        Cause::Signal(n) => retry.tries_again(ChargedEnd::Signal(*n), charged),
        Cause::Oom => retry.tries_again(ChargedEnd::Oom, charged),
        Cause::Timeout | Cause::Idle => retry.tries_again(ChargedEnd::Timeout, charged),
        Cause::Contract(_) => retry.tries_again(ChargedEnd::Contract, charged),
        Cause::Launch(_) if launch >= LAUNCHES_MAX => false,
        Cause::Launch(_) => {
            return Next {
                state: IndexState::Pending,
                wait_ms: LAUNCH_BACKOFF_MS << (launch - 1),
                reason: None,
            };
        }
        Cause::Lost if lost >= LOST_MAX => {
            let reason = format!(
                "{LOST_MAX} attempts in a row ended lost without progress: release it when that is mended"
            );
            return Next { state: IndexState::Held, wait_ms: 0, reason: Some(reason) };
        }
        Cause::Device(_) if device >= DEVICE_FAULTS_MAX => {
            let reason = format!(
                "{DEVICE_FAULTS_MAX} attempts in a row ended by a fault of a device: release it when that is mended"
            );
            return Next { state: IndexState::Held, wait_ms: 0, reason: Some(reason) };
        }
        Cause::BadCheckpoint { step, reason } => {
            let index = job.spec.tasks[task].array().and_then(|array| array.index(at.index));
            let of = index.map_or_else(String::new, |index| format!("index {index}: "));
            let then = newest.map_or_else(
                || "none is left, so it begins anew".to_owned(),
                |older| format!("it goes on from step {older}"),
            );
            let reason = format!("{of}the checkpoint of step {step} cannot be used ({reason}): {then}");
            return Next { state: IndexState::Pending, wait_ms: 0, reason: Some(reason) };
        }
        Cause::Lost | Cause::Evicted(_) | Cause::Device(_) | Cause::Saved => {
            return plain(IndexState::Pending);
        }
        Cause::Cancelled => false,
    };
    if again {
        Next {
            state: IndexState::Pending,
            wait_ms: retry.backoff.delay_ms(charged, attempt.token.0),
            reason: None,
        }
    } else {
        plain(IndexState::Failed)
    }
}

/// The cause, from what the worker saw and what we had asked. A cancel that was acknowledged first wins over any result (I10);
/// success wins over every other order to stop.
pub(super) fn cause_of(outcome: &Outcome, stop: Option<StopReason>) -> Cause {
    match (stop, outcome) {
        (Some(StopReason::Cancel), _) => Cause::Cancelled,
        (_, Outcome::Exit(0)) => Cause::Exit(0),
        (Some(StopReason::Device(fault)), _) => Cause::Device(fault),
        (Some(StopReason::Timeout), _) => Cause::Timeout,
        (Some(StopReason::IdleTooLong), _) => Cause::Idle,
        (
            Some(
                reason @ (StopReason::Drain
                | StopReason::Hold
                | StopReason::Notice
                | StopReason::Budget
                | StopReason::Idle),
            ),
            _,
        ) => Cause::Evicted(reason),
        (None, Outcome::Exit(code)) => Cause::Exit(*code),
        (None, Outcome::Signal(n)) => Cause::Signal(*n),
        (None, Outcome::Oom) => Cause::Oom,
        (None, Outcome::Launch(reason)) => Cause::Launch(reason.clone()),
        (None, Outcome::ContractOutput(name)) => Cause::Contract(name.clone()),
        (None, Outcome::Fenced) => Cause::Lost,
        (None, Outcome::Evicted) => Cause::Evicted(StopReason::Notice),
        (None, Outcome::BadCheckpoint { step, reason }) => {
            Cause::Launch(format!("checkpoint of step {step}: {reason}"))
        }
    }
}
