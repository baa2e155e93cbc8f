//! What happened to a job, as sentences in the order of time.

use super::jobs::ATTEMPTS_MAX;
use super::words::{time, user_index};
use muster_core::model::budget::{Scope, usd};
use muster_core::state::{Job, State};
use muster_core::view_doc::{AttemptDoc, TaskDoc, TimelineDoc};

/// Checkpoints that are named: the last ones in the order of the job's indices.
const CHECKPOINTS_MAX: usize = 1_000;

pub(super) fn timeline(state: &State, job: &Job, tasks: &[TaskDoc]) -> Vec<TimelineDoc> {
    let mut all = vec![entry(&time(job.submitted), "job_submitted", format!("{} submitted it", job.user))];
    for task in tasks {
        task.attempts.iter().for_each(|attempt| of_attempt(&mut all, task, attempt));
    }
    of_checkpoints(&mut all, state, job);
    of_budget(&mut all, state, job);
    of_idle(&mut all, state, job);
    if let Some(ended) = job.ended {
        all.push(entry(&time(ended), "job_ended", format!("it {}", job.state().as_str())));
    }
    // RFC 3339 in UTC with a fixed number of digits sorts as text; what came in one moment stays as it is here.
    all.sort_by(|a, b| a.time.cmp(&b.time));
    let extra = all.len().saturating_sub(ATTEMPTS_MAX);
    all.drain(..extra);
    all
}

fn entry(time: &str, event: &str, text: String) -> TimelineDoc {
    TimelineDoc { time: time.to_owned(), event: event.to_owned(), text }
}

fn attempt_name(task: &str, index: Option<u32>, number: u32) -> String {
    match index {
        Some(index) => format!("{task}[{index}]#{number}"),
        None => format!("{task}#{number}"),
    }
}

fn of_attempt(all: &mut Vec<TimelineDoc>, task: &TaskDoc, attempt: &AttemptDoc) {
    let name = attempt_name(&task.name, attempt.index, attempt.number);
    let worker = &attempt.worker;
    if let Some(started) = &attempt.started {
        all.push(entry(started, "attempt_started", format!("{name} started on {worker}")));
        if let Some(step) = attempt.resumed_step {
            all.push(entry(started, "attempt_resumed", format!("{name} resumed at step {step}")));
        }
    }
    let evicted = attempt.cause.as_deref();
    if let Some(asked) = &attempt.asked_to_stop {
        let (event, why) = match evicted {
            Some("evicted(notice)") => ("notice", ": a preemption notice for its machine"),
            Some("evicted(drain)") => ("drain", ": its worker is drained"),
            Some("evicted(idle)" | "timeout(idle)") => ("idle", ": it computes nothing on its GPUs"),
            Some("evicted(budget)") => ("budget", ": what it may cost is spent"),
            _ => ("stop_asked", ""),
        };
        all.push(entry(asked, event, format!("{name} on {worker} is asked to stop{why}")));
    }
    if let Some(ended) = &attempt.ended {
        let cause = evicted.unwrap_or_default();
        all.push(entry(ended, "attempt_ended", format!("{name} {}: {cause}", attempt.state)));
    }
}

/// Live attempts that were found to compute nothing.
fn of_idle(all: &mut Vec<TimelineDoc>, state: &State, job: &Job) {
    for attempt in state.live_of_job(job.id) {
        let Some(found) = state.ledger().idle(attempt.token) else { continue };
        let task = job.spec.task(attempt.at.task).map_or("", |task| &task.name);
        let name =
            attempt_name(task, user_index(&job.spec, attempt.at.task, attempt.at.index), attempt.number);
        all.push(entry(&time(found), "idle", format!("{name} computes nothing on its GPUs")));
    }
}

/// Its own, not its queue's.
fn of_budget(all: &mut Vec<TimelineDoc>, state: &State, job: &Job) {
    let Some(row) = state.ledger().budgets().get(&Scope::Job(job.id)) else { return };
    let (limit, on_exceed) = (usd(row.budget.micro_usd), row.budget.on_exceed.as_str());
    for (percent, at) in &row.alerts {
        let then = if *percent == 100 { format!(": {on_exceed}") } else { String::new() };
        all.push(entry(
            &time(*at),
            "budget",
            format!("{percent} % of its budget of {limit} USD are spent{then}"),
        ));
    }
}

/// Those that are kept: older ones are gone from the state.
fn of_checkpoints(all: &mut Vec<TimelineDoc>, state: &State, job: &Job) {
    for (at, kept) in state.checkpoints_of(job.id, None).take(CHECKPOINTS_MAX) {
        let task = job.spec.task(at.task).map_or("", |task| &task.name);
        let name = attempt_name(task, user_index(&job.spec, at.task, at.index), kept.attempt);
        let text = format!("{name} committed step {}", kept.step);
        all.push(entry(&time(kept.committed), "checkpoint_committed", text));
    }
}
