//! `muster explain ID`: why it waits.

use super::plural;
use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_core::view_doc::{BlockerDoc, ExplainDoc, TaskExplainDoc};
use muster_proto::api::GetRequest;
use std::fmt::Write;

/// Says why a job, a task or an index waits: what is in the way, who holds it, and the smallest change that would start it now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster explain 42\n  muster explain 42.train[7] --output json")]
pub struct Args {
    /// 42, 42.train or 42.train[7].
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such job; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let ask = GetRequest { id: self.id.clone() };
        let (json, doc) = client.document::<ExplainDoc>(async |api| api.explain(ask.clone()).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&text(&doc))?;
        }
        Ok(DONE)
    }
}

fn text(doc: &ExplainDoc) -> String {
    let mut out = format!("{} is {}\n", doc.id, doc.state);
    if doc.tasks.is_empty() {
        out.push_str("nothing of it waits\n");
    }
    for task in &doc.tasks {
        of_task(&mut out, task);
    }
    out
}

fn of_task(out: &mut String, task: &TaskExplainDoc) {
    let _ = write!(out, "\ntask {} is {}", task.task, task.state);
    if let Some(position) = task.position {
        let _ = write!(out, ", number {position} in the queue");
    }
    out.push('\n');
    for blocker in &task.blockers {
        let _ = writeln!(out, "  {}", line(blocker, task.workers));
    }
    if task.blockers.is_empty() && task.fitting_workers > 0 {
        let _ = writeln!(out, "  {} would take it now", plural(task.fitting_workers, "worker"));
    }
    for note in &task.notes {
        let _ = writeln!(out, "note: {note}");
    }
    if let Some(change) = &task.smallest_change {
        let _ = writeln!(out, "hint: {change}");
    }
    if task.position.is_some() {
        out.push_str("when it starts is not estimated: how long work takes is not known yet\n");
    }
}

fn line(blocker: &BlockerDoc, workers: u64) -> String {
    let mut line = if workers > 0 {
        format!("{} of {}: ", blocker.count, plural(workers, "worker"))
    } else {
        String::new()
    };
    line.push_str(&blocker.reason);
    if !blocker.holders.is_empty() {
        let ids: Vec<String> = blocker.holders.iter().map(u64::to_string).collect();
        let _ = write!(line, " (held by {} {})", if ids.len() == 1 { "job" } else { "jobs" }, ids.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_for_gpus() {
        let blocker = |reason: &str, count, holders: &[u64]| BlockerDoc {
            reason: reason.into(),
            count,
            holders: holders.to_vec(),
        };
        let task = TaskExplainDoc {
            task: "train".into(),
            state: "ready".into(),
            blockers: vec![
                blocker("other work has what it needs", 2, &[3, 7]),
                blocker("it has no GPU", 1, &[]),
            ],
            position: Some(4),
            workers: 3,
            smallest_change: Some("ask for 2 GPUs: worker w1 has room for that now".into()),
            ..TaskExplainDoc::default()
        };
        let doc = ExplainDoc {
            id: "9".into(),
            state: "pending".into(),
            tasks: vec![task],
            ..ExplainDoc::default()
        };
        let expected = "\
9 is pending

task train is ready, number 4 in the queue
  2 of 3 workers: other work has what it needs (held by jobs 3, 7)
  1 of 3 workers: it has no GPU
hint: ask for 2 GPUs: worker w1 has room for that now
when it starts is not estimated: how long work takes is not known yet
";
        assert_eq!(text(&doc), expected);
    }
}
