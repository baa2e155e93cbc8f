//! `muster logs ID`: captured output, of running and of ended attempts.

use crate::args::Global;
use crate::client::Client;
use crate::client::follow::{Printer, follow};
use crate::client::mutate::target;
use crate::failure::{DONE, Done, Failure};
use muster_proto::api::LogsRequest;

/// Prints what tasks wrote: their stdout on stdout, their stderr on stderr. Kept after the worker is gone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster logs 42 -f\n  muster logs 42.train[7] --attempt 2 --stderr --tail 50"
)]
pub struct Args {
    /// 42 is a job, 42.train a task, 42.train[7] an index, 42.train[7]#2 an attempt.
    #[arg(value_name = "ID")]
    id: String,
    /// Go on as it grows, over attempts, until the job ends.
    #[arg(long, short)]
    follow: bool,
    /// Only this task.
    #[arg(long, value_name = "T")]
    task: Option<String>,
    /// Only this index of an array.
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Only this attempt; the last when unsaid.
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Only this rank of a gang.
    #[arg(long, value_name = "N")]
    rank: Option<u32>,
    /// Only stderr, on stdout.
    #[arg(long, conflicts_with = "stdout")]
    stderr: bool,
    /// Only stdout.
    #[arg(long)]
    stdout: bool,
    /// Only the last N lines of each stream.
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Begin each line with its task.
    #[arg(long)]
    prefix: bool,
}

impl Args {
    /// # Errors
    /// Nothing of that name; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let name = target(&self.id)?;
        let task = name.task.or(self.task);
        let index = name.index.or(self.index);
        if index.is_some() && task.is_none() {
            return Err(
                Failure::usage("--index needs a task").hint(format!("muster logs {}.TASK[N]", name.job))
            );
        }
        let prefix = self.prefix || (Printer::for_people() && task.is_none());
        let request = LogsRequest {
            job: name.job,
            task,
            index,
            attempt: name.attempt.or(self.attempt),
            follow: self.follow,
            only_stderr: self.stderr,
            tail: self.tail,
            both: !self.stderr && !self.stdout,
            rank: self.rank,
        };
        let mut printer = Printer::new(self.stderr, prefix);
        follow(&mut Client::new(global)?, request, &mut printer).await?;
        Ok(DONE)
    }
}
