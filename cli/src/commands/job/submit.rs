//! `muster submit FILE…`: checks a job here with the server's code, ships its workdir, submits it.

use super::plural;
use crate::args::Global;
use crate::client::{Client, follow, request_id, ship, submit, watch};
use crate::failure::{DONE, Done, Failure};
use crate::job_input::{self, InputArgs};
use crate::output::{self, OutputArgs};
use muster_proto::api::LogsRequest;
use serde_json::json;

/// Submits job files (.yaml, .toml, .json) or scripts with #MUSTER directives. Prints the job's id on stdout.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster submit job.yaml --param epochs=3\n  muster submit examples/digits/job.yaml --wait\n  generate-job | muster submit -"
)]
pub struct Args {
    /// Job files or scripts; `-` reads stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    /// Wait for the end and return the job's own exit code.
    #[arg(long)]
    wait: bool,
    /// Print the tasks' output as it grows, then return the job's own exit code.
    #[arg(long, short)]
    follow: bool,
    /// Submit it held: nothing starts before `muster release`.
    #[arg(long)]
    hold: bool,
    /// The same id and payload give the same job, however often it is sent. For one FILE only.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// A file that cannot be read or is not valid, the server's refusal, nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let waits = self.wait || self.follow;
        self.submit(global).await.map_err(|failure| if waits { failure.without_job_code() } else { failure })
    }

    async fn submit(self, global: &Global) -> Done {
        if self.files.len() > 1 && self.request_id.is_some() {
            return Err(
                Failure::usage("one --request-id is for one FILE").hint("submit each file on its own")
            );
        }
        // All files are read and checked before the first is submitted: nothing half-done.
        let loaded = self
            .files
            .iter()
            .map(|file| job_input::load(file, &self.input))
            .collect::<Result<Vec<_>, Failure>>()?;
        let mut client = Client::new(global)?;
        let mut jobs = Vec::with_capacity(loaded.len());
        for job in &loaded {
            job.say_warnings();
            let workdir = match &job.workdir {
                Some(dir) => Some(ship::workdir(&mut client, dir, &job.ignore).await?),
                None => None,
            };
            let id = request_id(self.request_id.as_deref());
            let reply = submit::submit(&mut client, &job.json, workdir, &id, self.hold).await?;
            if self.output.is_json() {
                let document = json!({"job": reply.job, "name": reply.name, "tasks": reply.tasks, "indices": reply.indices, "request_id": id});
                output::data(&document.to_string())?;
            } else {
                output::data(&reply.job.to_string())?;
            }
            output::talk(&format!("submitted job {} ({})", reply.job, plural(reply.tasks.into(), "task")));
            jobs.push(reply.job);
        }
        let mut code = DONE;
        if self.wait || self.follow {
            for job in jobs {
                let ended = self.end_of(&mut client, job).await?;
                output::talk(&format!("job {job} {}", ended.state));
                if code == DONE {
                    code = ended.code;
                }
            }
        }
        Ok(code)
    }

    async fn end_of(&self, client: &mut Client, job: u64) -> Result<watch::Ended, Failure> {
        if self.follow {
            let request = LogsRequest { job, follow: true, both: true, ..LogsRequest::default() };
            let mut printer = follow::Printer::new(self.output.is_json(), follow::Printer::for_people());
            if let Some(ended) = follow::follow(client, request, &mut printer).await? {
                return Ok(ended);
            }
        }
        watch::until_final(client, job, |_| ()).await
    }
}
