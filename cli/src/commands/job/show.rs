//! `muster show ID`: one job, task, index or attempt, with its timeline.

use super::{get, plural};
use crate::args::Global;
use crate::client::Client;
use crate::client::mutate::target;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::{AttemptDoc, CountsDoc, JobDoc, TaskDoc};
use std::fmt::Write;

/// Lines of the timeline that people are shown; `--output json` has all.
const TIMELINE_LINES: usize = 30;

/// Shows one job, task, index or attempt with its timeline.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster show 42\n  muster show 42.train[7] --output json")]
pub struct Args {
    /// 42 is a job, 42.train a task, 42.train[7] an index, 42.train[7]#2 an attempt.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing of that name; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let name = target(&self.id)?;
        let (json, job) = get(&mut Client::new(global)?, name.job).await?;
        let Some(wanted) = &name.task else {
            if self.output.is_json() {
                output::document(&json)?;
            } else {
                output::data(&job_text(&job, time::now_ms()))?;
            }
            return Ok(DONE);
        };
        let mut task = find_task(&job, wanted)?.clone();
        if name.index.is_some() || name.attempt.is_some() {
            task.attempts.retain(|a| {
                name.index.is_none_or(|index| a.index == Some(index))
                    && name.attempt.is_none_or(|n| a.number == n)
            });
            if task.attempts.is_empty() {
                return Err(Failure::new("NOT_FOUND", format!("{} has no attempt to show", self.id))
                    .hint(format!("muster show {}.{wanted}", job.id)));
            }
        }
        if self.output.is_json() {
            output::document(&serde_json::to_string(&task).unwrap_or_default())?;
        } else {
            output::data(&task_text(&job, &task, time::now_ms()))?;
        }
        Ok(DONE)
    }
}

/// The task called `name`.
///
/// # Errors
/// The job has none; the hint names those it has.
pub fn find_task<'a>(job: &'a JobDoc, name: &str) -> Result<&'a TaskDoc, Failure> {
    job.tasks.iter().find(|task| task.name == name).ok_or_else(|| {
        let known: Vec<&str> = job.tasks.iter().take(20).map(|t| t.name.as_str()).collect();
        Failure::new("NOT_FOUND", format!("job {} has no task `{name}`", job.id))
            .hint(format!("its tasks: {}", known.join(", ")))
    })
}

fn counts(counts: &CountsDoc) -> String {
    let c = counts;
    [
        (c.waiting, "waiting"),
        (c.ready, "ready"),
        (c.held, "held"),
        (c.starting, "starting"),
        (c.running, "running"),
        (c.stopping, "stopping"),
        (c.succeeded, "succeeded"),
        (c.failed, "failed"),
        (c.skipped, "skipped"),
        (c.cancelled, "cancelled"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{n} {word}"))
    .collect::<Vec<_>>()
    .join(", ")
}

fn job_text(job: &JobDoc, now_ms: i64) -> String {
    let mut out = format!("job {} `{}` {}", job.id, job.name, job.state);
    if let Some(code) = job.exit_code {
        let _ = write!(out, " (exit code {code})");
    }
    let _ = write!(
        out,
        "\nqueue {}, priority {}, user {}, submitted {}",
        job.queue, job.priority, job.user, job.submitted
    );
    let took = time::took(job.started.as_deref(), job.ended.as_deref(), now_ms);
    if !took.is_empty() {
        let _ = write!(out, ", {} {took}", if job.ended.is_some() { "took" } else { "runs for" });
    }
    if !job.labels.is_empty() {
        let labels: Vec<String> = job.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let _ = write!(out, "\nlabels {}", labels.join(" "));
    }
    let _ = write!(out, "\n{}: {}\n\n", plural(job.counts.total, "index"), counts(&job.counts));
    let mut table = Table::new(&["TASK", "STATE", ">DONE", ">ATTEMPTS", "LAST", "WORKER", "NEEDS", "REASON"]);
    for task in &job.tasks {
        let last = task.attempts.last();
        table.row([
            task.name.clone(),
            task.state.clone(),
            format!("{}/{}", task.counts.finished(), task.counts.total),
            (task.attempts.len() as u64 + task.attempts_omitted).to_string(),
            last.map(|a| a.cause.clone().unwrap_or_else(|| a.state.clone())).unwrap_or_default(),
            last.map(|a| a.worker.clone()).unwrap_or_default(),
            task.needs.iter().map(|n| n.task.as_str()).collect::<Vec<_>>().join(","),
            task.reason.clone().unwrap_or_default(),
        ]);
    }
    out.push_str(&table.render());
    for task in &job.tasks {
        for note in &task.notes {
            let _ = writeln!(out, "note: {}: {note}", task.name);
        }
    }
    if !job.timeline.is_empty() {
        out.push('\n');
        let omitted = job.timeline.len().saturating_sub(TIMELINE_LINES);
        if omitted > 0 {
            let _ = writeln!(out, "… {omitted} earlier events (`--output json` shows all)");
        }
        for event in &job.timeline[omitted..] {
            let _ = writeln!(out, "{}  {}", event.time, event.text);
        }
    }
    out
}

fn task_text(job: &JobDoc, task: &TaskDoc, now_ms: i64) -> String {
    let mut out = format!("task {}.{} {}", job.id, task.name, task.state);
    if let Some(reason) = &task.reason {
        let _ = write!(out, ": {reason}");
    }
    let _ = writeln!(out, "\n{}", counts(&task.counts));
    if !task.run.is_empty() {
        let _ = writeln!(out, "run {}", task.run.lines().next().unwrap_or_default());
    }
    for note in &task.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for need in &task.needs {
        let _ = writeln!(out, "needs {} {}", need.task, need.when);
    }
    out.push('\n');
    let mut table = Table::new(&[
        "ATTEMPT", "STATE", "CAUSE", "WORKER", "DEVICES", "STARTED", ">TOOK", ">TOKEN", ">RESUMED", ">SAVED",
    ]);
    for attempt in &task.attempts {
        table.row([
            attempt_name(task, attempt),
            attempt.state.clone(),
            attempt.cause.clone().unwrap_or_default(),
            attempt.worker.clone(),
            attempt.devices.join(","),
            attempt.started.clone().unwrap_or_default(),
            time::took(attempt.started.as_deref(), attempt.ended.as_deref(), now_ms),
            attempt.token.to_string(),
            attempt.resumed_step.map(|step| step.to_string()).unwrap_or_default(),
            attempt.checkpoint_step.map(|step| step.to_string()).unwrap_or_default(),
        ]);
        for rank in &attempt.ranks {
            let blank = String::new;
            table.row([
                format!("  rank {}", rank.rank),
                rank.state.clone(),
                blank(),
                rank.worker.clone(),
                rank.devices.join(","),
                blank(),
                blank(),
                blank(),
                blank(),
                blank(),
            ]);
        }
    }
    out.push_str(&table.render());
    if task.attempts_omitted > 0 {
        let _ = writeln!(out, "… and {} more", plural(task.attempts_omitted, "attempt"));
    }
    out
}

fn attempt_name(task: &TaskDoc, attempt: &AttemptDoc) -> String {
    match attempt.index {
        Some(index) => format!("{}[{index}]#{}", task.name, attempt.number),
        None => format!("{}#{}", task.name, attempt.number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_as_sentences_and_columns() {
        let job = JobDoc {
            id: 42,
            name: "digits".into(),
            state: "failed".into(),
            exit_code: Some(7),
            counts: CountsDoc { total: 2, failed: 1, skipped: 1, ..CountsDoc::default() },
            tasks: vec![TaskDoc { name: "train".into(), state: "failed".into(), ..TaskDoc::default() }],
            ..JobDoc::default()
        };
        let text = job_text(&job, 0);
        assert!(text.starts_with("job 42 `digits` failed (exit code 7)\n"), "{text}");
        assert!(text.contains("2 indices: 1 failed, 1 skipped"), "{text}");
        assert_eq!(find_task(&job, "tran").unwrap_err().hint.as_deref(), Some("its tasks: train"));
    }
}
