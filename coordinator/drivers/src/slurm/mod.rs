//! Workers as jobs of a Slurm cluster that is there already, one job a worker, as HyperQueue's automatic allocation does it.
//!
//! Slurm has no group to describe: the jobs that wait or run under our name are the group, and how many they are is what is desired. Each
//! says in its comment which decision it is of (`generation`) and which of its jobs (`number`), so that two leaders that do the same at once
//! end with one job each and not two. Left out: why a job waits (`squeue` tells), and accounting.

mod config;
mod jobs;
mod refusals;
mod script;

pub use config::SlurmConfig;

use crate::process::{self, Cut, Run};
use crate::{Driver, DriverError, Group, Instance, Phase};
use futures::future::BoxFuture;
use jobs::{Job, JobState, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one call of a Slurm program may take: they wait 10 s for the controller (`MessageTimeout`) and try a few times by themselves.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// Most jobs that one call submits, one after another; the next call goes on. A controller does some hundred a second for everybody.
const SUBMIT_MAX: usize = 32;
/// Most bytes that a Slurm program may print: some ten thousand jobs.
const STDOUT_MAX: usize = 4 << 20;

/// The driver.
#[derive(Debug)]
pub struct Slurm {
    pool: String,
    /// What errors call the group.
    group: String,
    job_name: String,
    sbatch: PathBuf,
    squeue: PathBuf,
    scancel: PathBuf,
    /// Of sbatch, without the comment.
    args: Vec<String>,
    script: String,
    conf: Option<OsString>,
}

impl Slurm {
    /// # Errors
    /// [`DriverError::Unusable`]: a program that is not there, or settings that make no job.
    pub fn open(config: &SlurmConfig, pool: &str) -> Result<Self, DriverError> {
        let unusable =
            |reason| DriverError::Unusable { what: format!("driver slurm of pool {pool}"), reason };
        config.check().map_err(|error| unusable(error.to_string()))?;
        let program = |path: &Path| process::find(path).map_err(|error| unusable(error.to_string()));
        let job_name = config.job_name(pool);
        let group = match config.partition.as_str() {
            "" => format!("slurm jobs {job_name}"),
            partition => format!("slurm jobs {job_name} in partition {partition}"),
        };
        Ok(Self {
            pool: pool.to_owned(),
            group,
            sbatch: program(&config.sbatch)?,
            squeue: program(&config.squeue)?,
            scancel: program(&config.scancel)?,
            args: script::args(config, &job_name),
            script: script::script(config, pool),
            conf: config
                .slurm_conf
                .clone()
                .map(PathBuf::into_os_string)
                .or_else(|| std::env::var_os("SLURM_CONF")),
            job_name,
        })
    }

    /// Those of our user under our name that have not ended.
    async fn jobs(&self) -> Result<Vec<Job>, DriverError> {
        let name = format!("--name={}", self.job_name);
        // Of hidden partitions too: jobs that are not seen would be submitted again and again.
        let args = ["--noheader", "--all", "--me", &name, &format!("--format={}", jobs::FORMAT)];
        let text = self.call("squeue", &self.squeue, process::words(args), "").await?;
        jobs::parse(&text).map_err(|error| DriverError::Garbled {
            what: format!("{}: squeue", self.group),
            reason: error.to_string(),
        })
    }

    async fn submit(&self, tag: Tag) -> Result<(), DriverError> {
        let mut args = process::words(&self.args);
        args.push(format!("--comment={tag}").into());
        let answer = self.call("sbatch", &self.sbatch, args, &self.script).await?;
        // NUMBER, or NUMBER;CLUSTER.
        let Some(job) = answer.trim().split(';').next().filter(|job| job.parse::<u64>().is_ok()) else {
            let reason = format!("{:?} is no number of a job", process::line(answer.trim()));
            return Err(DriverError::Garbled { what: format!("{}: sbatch", self.group), reason });
        };
        tracing::info!(pool = self.pool, job, %tag, "submitted a worker to Slurm");
        Ok(())
    }

    /// Those that have begun since are left alone.
    async fn cancel_waiting(&self, jobs: &[u64]) -> Result<(), DriverError> {
        self.cancel(jobs, &["--state=PENDING"]).await
    }

    async fn cancel(&self, jobs: &[u64], options: &[&str]) -> Result<(), DriverError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut args = process::words(options);
        args.extend(jobs.iter().map(|job| job.to_string().into()));
        tracing::info!(pool = self.pool, ?jobs, "cancels workers in Slurm");
        match self.call("scancel", &self.scancel, args, "").await {
            Err(DriverError::Refused { reason, .. }) if refusals::is_over(&reason) => Ok(()),
            other => other.map(drop),
        }
    }

    /// 1. Counts what is there. 2. Submits what lacks. 3. Looks whether somebody did the same meanwhile.
    async fn scale(&self, desired: u32, generation: u64) -> Result<(), DriverError> {
        let desired = usize::try_from(desired).unwrap_or(usize::MAX);
        let jobs: Vec<Job> = self.jobs().await?.into_iter().filter(Job::counts).collect();
        if jobs.len() >= desired {
            return self.cancel_waiting(&jobs::newest_waiting(&jobs, jobs.len() - desired)).await;
        }
        let taken: BTreeSet<u32> = jobs
            .iter()
            .filter_map(|job| job.tag.filter(|tag| tag.generation == generation))
            .map(|t| t.number)
            .collect();
        let lacking = (desired - jobs.len()).min(SUBMIT_MAX);
        for number in (1..).filter(|number| !taken.contains(number)).take(lacking) {
            self.submit(Tag { generation, number }).await?;
        }
        let jobs: Vec<Job> = self.jobs().await?.into_iter().filter(Job::counts).collect();
        self.cancel_waiting(&jobs::doubles(&jobs, generation)).await
    }

    async fn call(
        &self,
        name: &str,
        program: &Path,
        args: Vec<OsString>,
        stdin: &str,
    ) -> Result<String, DriverError> {
        let what = || format!("{}: {name}", self.group);
        let mut env = vec![("MUSTER_POOL", OsString::from(&self.pool))];
        env.extend(self.conf.clone().map(|conf| ("SLURM_CONF", conf)));
        let stdin = stdin.as_bytes().to_vec();
        let run = Run { program, args, env, stdin, within: CALL_WITHIN, stdout_max: STDOUT_MAX };
        match process::run(run).await {
            Ok(ended) if ended.status.success() => Ok(String::from_utf8_lossy(&ended.stdout).into_owned()),
            Ok(ended) => Err(refusals::refusal(what(), &ended)),
            Err(Cut::TimedOut) => Err(DriverError::TimedOut { what: what(), seconds: CALL_WITHIN.as_secs() }),
            Err(cut @ Cut::Flood(_)) => Err(DriverError::Garbled { what: what(), reason: cut.to_string() }),
            Err(Cut::Io(error)) => Err(DriverError::Unavailable {
                what: what(),
                reason: format!("cannot run {}: {error}", program.display()),
            }),
        }
    }
}

impl Driver for Slurm {
    fn kind(&self) -> &'static str {
        "slurm"
    }

    /// Slurm tells no bounds: what it does not start waits.
    fn describe(&self) -> BoxFuture<'_, Result<Option<Group>, DriverError>> {
        Box::pin(async {
            let jobs = self.jobs().await?;
            let desired = jobs.iter().filter(|job| job.counts()).count();
            let desired = u32::try_from(desired).unwrap_or(u32::MAX);
            let instances = jobs.iter().map(Instance::from).collect();
            Ok(Some(Group { desired, min: 0, max: u32::MAX, instances, labels: BTreeMap::new() }))
        })
    }

    /// Up: at most [`SUBMIT_MAX`] jobs a call. Down: jobs that still wait, newest first; those that run stay, however few are wanted.
    fn set_desired(&self, desired: u32, generation: u64) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(self.scale(desired, generation))
    }

    /// Only a job under our name: the number is what a worker says of itself.
    fn terminate<'a>(
        &'a self,
        instance: &'a str,
        _generation: u64,
    ) -> BoxFuture<'a, Result<(), DriverError>> {
        Box::pin(async move {
            let jobs = self.jobs().await?;
            match jobs.iter().find(|job| job.counts() && job.id.to_string() == instance) {
                Some(job) => self.cancel(&[job.id], &[]).await,
                None => Ok(()),
            }
        })
    }
}

impl From<&Job> for Instance {
    fn from(job: &Job) -> Self {
        let phase = match job.state {
            JobState::Waiting | JobState::Starting => Phase::Booting,
            JobState::Running => Phase::InService,
            JobState::Ending => Phase::Going,
        };
        Self { id: job.id.to_string(), phase, protected: false, image: None }
    }
}
