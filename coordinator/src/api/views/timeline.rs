//! What happened to a job, as sentences in the order of time.

use super::jobs::ATTEMPTS_MAX;
use super::words::time;
use muster_core::state::Job;
use muster_core::view_doc::{TaskDoc, TimelineDoc};

pub(super) fn timeline(job: &Job, tasks: &[TaskDoc]) -> Vec<TimelineDoc> {
    let entry = |time: &str, event: &str, text: String| TimelineDoc {
        time: time.to_owned(),
        event: event.to_owned(),
        text,
    };
    let mut all = vec![entry(&time(job.submitted), "job_submitted", format!("{} submitted it", job.user))];
    for task in tasks {
        for attempt in &task.attempts {
            let name = match attempt.index {
                Some(index) => format!("{}[{index}]#{}", task.name, attempt.number),
                None => format!("{}#{}", task.name, attempt.number),
            };
            if let Some(started) = &attempt.started {
                all.push(entry(started, "attempt_started", format!("{name} started on {}", attempt.worker)));
            }
            if let Some(ended) = &attempt.ended {
                let cause = attempt.cause.as_deref().unwrap_or_default();
                all.push(entry(ended, "attempt_ended", format!("{name} {}: {cause}", attempt.state)));
            }
        }
    }
    if let Some(ended) = job.ended {
        all.push(entry(&time(ended), "job_ended", format!("it {}", job.state().as_str())));
    }
    // RFC 3339 in UTC with a fixed number of digits sorts as text.
    all.sort_by(|a, b| a.time.cmp(&b.time));
    let extra = all.len().saturating_sub(ATTEMPTS_MAX);
    all.drain(..extra);
    all
}
