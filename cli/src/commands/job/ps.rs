//! `muster ps`: jobs, finished ones too, newest first.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::model::duration::Millis;
use muster_core::view_doc::{JobsDoc, parse_rfc3339};
use muster_proto::api::ListJobsRequest;

/// Jobs of one answer.
const PAGE: u32 = 1000;

/// Lists jobs, finished ones too, newest first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster ps --state running,pending --queue research\n  muster ps --since 2h --output json"
)]
pub struct Args {
    /// Only jobs in one of these states: pending, running, succeeded, failed, cancelled, held.
    #[arg(long, value_delimiter = ',', value_parser = ["pending", "running", "succeeded", "failed", "cancelled", "held"])]
    state: Vec<String>,
    /// Only this queue.
    #[arg(long)]
    queue: Option<String>,
    /// Only this user's.
    #[arg(long)]
    user: Option<String>,
    /// Only jobs with this label; repeated, with all of them.
    #[arg(long, value_name = "K=V")]
    label: Vec<String>,
    /// Only jobs submitted since: a duration such as 2h, or a time such as 2026-11-23T11:05:00Z.
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// A filter that means nothing; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut request = ListJobsRequest {
            states: self.state.clone(),
            queue: self.queue.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            labels: self.label.clone(),
            since_ms: self.since.as_deref().map(|text| since(text, time::now_ms())).transpose()?,
            limit: 0,
            before: 0,
        };
        if let Some(bad) = self.label.iter().find(|label| !label.contains('=')) {
            return Err(Failure::usage(format!("`{bad}` is no label")).hint("write --label team=vision"));
        }
        let mut client = Client::new(global)?;
        let mut jobs = JobsDoc::default();
        // One page is printed as it was received; of several, the fields that this version knows.
        let mut pages = Vec::new();
        while jobs.jobs.len() < self.limit {
            request.limit = u32::try_from(self.limit - jobs.jobs.len()).unwrap_or(PAGE).min(PAGE);
            let (json, page) =
                client.document::<JobsDoc>(async |api| api.list_jobs(request.clone()).await).await?;
            let Some(last) = page.jobs.last() else { break };
            let short = page.jobs.len() < request.limit as usize;
            // A member that ignores `before` must not keep us here.
            if request.before != 0 && last.id >= request.before {
                break;
            }
            request.before = last.id;
            pages.push(json);
            jobs.jobs.extend(page.jobs);
            if short {
                break;
            }
        }
        if self.output.is_json() {
            match pages.as_slice() {
                [page] => output::document(page)?,
                _ => output::document(&serde_json::to_string(&jobs).unwrap_or_default())?,
            }
        } else {
            output::data(&table(&jobs, time::now_ms()))?;
        }
        Ok(DONE)
    }
}

fn since(text: &str, now_ms: i64) -> Result<i64, Failure> {
    if let Ok(ms) = parse_rfc3339(text) {
        return Ok(ms);
    }
    match Millis::parse(text) {
        Ok(Millis(ms)) => Ok(now_ms - i64::try_from(ms).unwrap_or(i64::MAX)),
        Err(error) => Err(Failure::usage(format!("--since: {error}"))
            .hint("a duration such as 2h, or a time such as 2026-11-23T11:05:00Z")),
    }
}

fn table(jobs: &JobsDoc, now_ms: i64) -> String {
    let mut table = Table::new(&[
        ">ID", "NAME", "STATE", "QUEUE", "USER", ">DONE", ">RUNNING", ">FAILED", ">AGE", ">TOOK",
    ]);
    for job in &jobs.jobs {
        table.row([
            job.id.to_string(),
            job.name.clone(),
            job.state.clone(),
            job.queue.clone(),
            job.user.clone(),
            format!("{}/{}", job.tasks.finished(), job.tasks.total),
            job.tasks.live().to_string(),
            job.tasks.failed.to_string(),
            time::ago(&job.submitted, now_ms),
            time::took(job.started.as_deref(), job.ended.as_deref(), now_ms),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_durations_and_times() {
        assert_eq!(since("2h", 10_000_000).unwrap(), 2_800_000);
        assert_eq!(since("1970-01-01T00:00:01Z", 0).unwrap(), 1000);
        assert_eq!(since("yesterday", 0).unwrap_err().exit, crate::failure::USAGE);
    }
}
