//! `muster run -- CMD…`: submits one command, streams its output, returns its exit code.
//!
//! No workdir is shipped unless `--workdir DIR` says so: the command starts in an empty scratch directory of its worker.

use crate::args::Global;
use crate::client::watch::Ended;
use crate::client::{Client, follow, request_id, ship, submit, user, watch};
use crate::failure::{Done, Failure};
use crate::output;
use muster_core::spec;
use muster_proto::api::{LogsRequest, Mutation};
use std::path::PathBuf;

/// Runs one command on the cluster, streams its output and returns its exit code. Ctrl-C cancels it.
///
/// The command starts in an empty scratch directory; `--workdir DIR` ships a directory with it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster run -- sh -c 'echo hi; exit 7'\n  muster run --gpus 2 --time 2h --workdir . -- python train.py\n  muster run --array 0-99%10 -- sh -c 'echo $MUSTER_INDEX'"
)]
pub struct Args {
    /// The job's name.
    #[arg(long)]
    name: Option<String>,
    /// The queue it waits in.
    #[arg(long)]
    queue: Option<String>,
    /// 0 to 100; 50 when unsaid.
    #[arg(long)]
    priority: Option<String>,
    /// CPUs, e.g. 4 or 0.5.
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Memory, e.g. 16GiB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Disk, e.g. 100GiB.
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    /// GPUs, e.g. 2 or 2xH100.
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
    /// Many alike: 0-99, or 0-99%10 for ten at once.
    #[arg(long, value_name = "RANGE")]
    array: Option<String>,
    /// Workers that it needs at once, all or none.
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// The longest it may run, e.g. 2h.
    #[arg(long, value_name = "DURATION")]
    time: Option<String>,
    /// A variable of its environment; K alone takes the value from here.
    #[arg(long = "env", short, value_name = "K=V")]
    env: Vec<String>,
    /// A label of the job.
    #[arg(long = "label", value_name = "K=V")]
    labels: Vec<String>,
    /// A condition on workers, e.g. "worker.labels.zone == 'eu1'".
    #[arg(long, value_name = "CEL")]
    constraint: Vec<String>,
    /// Attempts that its own failures may use up.
    #[arg(long, value_name = "N")]
    attempts: Option<String>,
    /// An image to run it in.
    #[arg(long, value_name = "IMAGE")]
    container: Option<String>,
    /// A directory that is shipped with it; without it none is.
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The same id and payload give the same job.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// The command and its arguments, executed as they are: no shell.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Args {
    /// # Errors
    /// Everything that is not the job's own end: exit code 125.
    pub async fn run(self, global: &Global) -> Done {
        self.submit_and_follow(global).await.map_err(Failure::without_job_code)
    }

    async fn submit_and_follow(mut self, global: &Global) -> Done {
        let dir = self.workdir.take();
        let id = request_id(self.request_id.as_deref());
        let array = self.array.is_some();
        let file = self.job()?;
        for warning in &spec::check(&file, None)?.warnings {
            output::talk(&format!("warning: {}: {}", warning.field, warning.message));
        }
        let mut client = Client::new(global)?;
        let workdir = match &dir {
            Some(dir) => Some(ship::workdir(&mut client, dir, &[]).await?),
            None => None,
        };
        let job = submit::submit(&mut client, &file.to_json(), workdir, &id, false).await?.job;
        let ended = tokio::select! {
            ended = stream(&mut client, job, array) => ended?,
            () = interrupted() => {
                output::talk(&format!("cancelling job {job}; Ctrl-C again leaves it to itself"));
                let mut client = Client::new(global)?;
                let cancel = Mutation { request_id: request_id(None), target: job.to_string(), user: user() };
                client.call(async |api| api.cancel(cancel.clone()).await).await?;
                tokio::select! {
                    ended = watch::until_final(&mut client, job, |_| ()) => { ended?; }
                    () = interrupted() => {}
                }
                return Ok(130);
            }
        };
        if ended.code != 0 {
            output::talk(&format!("job {job} {} (exit code {})", ended.state, ended.code));
        }
        Ok(ended.code)
    }

    fn job(self) -> Result<spec::JobFile, Failure> {
        let env = self.env.into_iter().map(|pair| {
            if pair.contains('=') {
                pair
            } else {
                format!("{pair}={}", std::env::var(&pair).unwrap_or_default())
            }
        });
        let options = spec::RunOptions {
            name: self.name,
            queue: self.queue,
            priority: self.priority,
            cpus: self.cpus,
            memory: self.memory,
            disk: self.disk,
            gpus: self.gpus,
            array: self.array,
            workers: self.workers,
            time: self.time,
            env: env.collect(),
            label: self.labels,
            constraint: self.constraint,
            attempts: self.attempts,
            container: self.container,
            ..spec::RunOptions::default()
        };
        Ok(options.job(spec::RunFile::Exec(self.command))?)
    }
}

async fn stream(client: &mut Client, job: u64, array: bool) -> Result<Ended, Failure> {
    let request = LogsRequest { job, follow: true, both: true, ..LogsRequest::default() };
    let mut printer = follow::Printer::new(false, array && follow::Printer::for_people());
    match follow::follow(client, request, &mut printer).await? {
        Some(ended) => Ok(ended),
        None => watch::until_final(client, job, |_| ()).await,
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
