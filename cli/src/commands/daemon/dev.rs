//! `muster dev`: one member and its workers in this process, for one machine and one person.
//!
//! Only shims are children, in their own sessions: a SIGKILL of this process frees port and databases, and a start in the same directory
//! adopts what still runs. Ctrl-C drains for 10 s and stops the tasks; a second one leaves them to the next start.

use super::death::die;
use super::notice::NoticeArgs;
use super::{Ending, block_on, ending, warn};
use crate::client::{Client, request_id, user};
use crate::config::coordinator::socket;
use crate::config::layers::{Merged, merge};
use crate::config::log;
use crate::config::notice::{self, NoticeSection};
use crate::context::{self, Context};
use crate::failure::{DONE, Done, Failure};
use crate::output;
use muster_coordinator::config::{CoordinatorConfig, StoreConfig};
use muster_core::model::notice::NoticeSource;
use muster_core::model::size::Size;
use muster_core::view_doc::WorkersDoc;
use muster_proto::api::{DrainRequest, ListRequest};
use muster_worker::notice::NoticeConfig;
use muster_worker::{Shutdown, WorkerConfig, WorkerError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The context that it writes.
const CONTEXT: &str = "dev";
/// Why its workers are drained at the end; the next start undoes drains of this reason alone.
const REASON: &str = "muster dev stops";
/// How long tasks may go on after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(10);
/// And then to end: their grace, SIGTERM and SIGKILL.
const STOP: Duration = Duration::from_secs(4);
/// How long the first prompt waits for the workers.
const WORKERS_WITHIN: Duration = Duration::from_secs(10);

/// Runs a cluster on this machine: one member and its workers in this process, on loopback.
///
/// Writes the context `dev` (mode 0600), so that every other verb works in another terminal without flags. The dashboard comes with a
/// later version.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster dev\n  muster dev --data-dir /tmp/m --workers 2 --gpus 8xH100-80GB\nthen, in another terminal:\n  muster run -- echo hello"
)]
pub struct Args {
    /// Where everything lies; the same directory goes on where it was.
    #[arg(long, value_name = "DIR", default_value = "./.muster")]
    data_dir: PathBuf,
    /// The one port; loopback only.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    listen: String,
    /// How many workers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=256))]
    workers: u16,
    /// CPUs that each worker offers; may exceed the machine's.
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory that each worker offers; may exceed the machine's.
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Simulated GPUs of each worker, e.g. 8xH100-80GB; marked as such everywhere.
    #[arg(long, value_name = "SPEC")]
    gpus: Option<String>,
    /// Workers say that they are spot machines.
    #[arg(long)]
    spot: bool,
    /// What is logged: error, warn, info, debug, trace, or directives.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(flatten)]
    notice: NoticeArgs, // last: its heading would be that of what follows
}

impl Args {
    /// # Errors
    /// A port or directory in use by another; a member or worker that cannot start or go on.
    pub fn run(self) -> Done {
        let listen = socket(&self.listen)?;
        if !listen.ip().is_loopback() {
            return Err(Failure::new(
                "BAD_CONFIG",
                format!("`muster dev` listens on loopback only, not on {listen}"),
            )
            .hint("use `muster coordinator` and `muster worker` with TLS beyond this machine"));
        }
        let notice = self.notice()?;
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.data_dir)
            .map_err(|e| Failure::io("create", &self.data_dir, &e))?;
        let dir = self.data_dir.canonicalize().map_err(|e| Failure::io("use", &self.data_dir, &e))?;
        let member = CoordinatorConfig {
            data_dir: dir.join("member"),
            listen,
            bootstrap: true,
            staging: true,
            store: StoreConfig {
                url: Some(format!("file://{}", dir.join("store").display())),
                ..StoreConfig::default()
            },
            ..CoordinatorConfig::default()
        };
        let store = dir.join("store");
        std::fs::create_dir_all(&store).map_err(|e| Failure::io("create", &store, &e))?;
        log::start(self.log_level.as_deref(), "warn");
        block_on(self.serve(member, notice, &dir))
    }

    /// The notice sources of every worker, by flags and environment. Nobody takes this machine away unless it is said who: without
    /// sources none is looked for.
    fn notice(&self) -> Result<NoticeConfig, Failure> {
        let ours = std::env::vars().filter(|(name, _)| name.starts_with("MUSTER_NOTICE_"));
        let Merged { settings: NoticeSection { mut notice }, warnings } =
            merge::<NoticeSection>(None, &notice::KEYS, &self.notice.flags(), ours)?;
        warn(&warnings);
        let sources =
            notice.sources.get_or_insert_with(|| notice.file.iter().map(|_| NoticeSource::File).collect());
        if sources.contains(&NoticeSource::Sigterm) {
            return Err(Failure::new(
                "BAD_CONFIG",
                "`muster dev` cannot have the notice source `sigterm`: the signal ends it",
            )
            .hint("use `file` with --notice-file '/tmp/{worker}.notice'"));
        }
        Ok(notice)
    }

    fn worker(&self, number: u16, dir: &Path, member: &str, notice: &NoticeConfig) -> WorkerConfig {
        let name = format!("w{number}");
        WorkerConfig {
            data_dir: dir.join("workers").join(&name),
            name: Some(name),
            join: vec![member.to_owned()],
            join_token_file: Some(dir.join("member/join-token")),
            gpus: self.gpus.clone(),
            cpus: self.cpus,
            memory: self.memory,
            spot: self.spot,
            notice: notice.clone(),
            ..WorkerConfig::default()
        }
    }

    async fn serve(self, config: CoordinatorConfig, notice: NoticeConfig, dir: &Path) -> Done {
        // 1. What cannot work is said before anything starts.
        for number in 1..=self.workers {
            let config = self.worker(number, dir, "127.0.0.1:1", &notice);
            config
                .validate()
                .map_err(|error| Failure::new("BAD_CONFIG", error.to_string()).hint(error.hint()))?;
        }
        // 2. The member, and the context by which others find it.
        let mut running = tokio::select! {
            running = muster_coordinator::start(config) => running?,
            _ = ending() => return Ok(DONE),
        };
        running.ready().await;
        let address = running.address.to_string();
        let context =
            Context { addresses: vec![address.clone()], token: running.user_token.clone(), tls: None };
        context::put(CONTEXT, context.clone())?;
        let mut client = Client::of(context);
        undrain(&mut client).await?;
        // 3. The workers.
        let (stop, stopping) = watch::channel(None);
        let mut workers = JoinSet::new();
        for number in 1..=self.workers {
            let config = self.worker(number, dir, &address, &notice);
            let mut stopping = stopping.clone();
            workers.spawn(async move {
                let shutdown = async move {
                    match stopping.wait_for(Option::is_some).await {
                        Ok(how) => how.unwrap_or(Shutdown::LeaveTasks),
                        Err(_) => Shutdown::LeaveTasks,
                    }
                };
                muster_worker::run(config, shutdown).await
            });
        }
        await_ready(&mut client, usize::from(self.workers), &mut workers).await?;
        output::data(&format!("address: {address}"))?;
        output::talk(&format!(
            "{} in {}; context `{CONTEXT}` is current; the dashboard comes with a later version",
            crate::commands::job::plural(self.workers.into(), "worker"),
            dir.display()
        ));
        output::talk("try `muster run -- echo hello` in another terminal; Ctrl-C here drains and stops");
        // 4. Until it is told to end, or something fails.
        let death = running.asked_to_die();
        let failed = tokio::select! {
            how = ending() => {
                let how = if how == Ending::Interrupt { drain(&mut client).await } else { Shutdown::LeaveTasks };
                let _ = stop.send(Some(how));
                None
            }
            away = death => return Err(die(away)),
            error = running.failed() => Some(Failure::from(error)),
            Some(ended) = workers.join_next() => Some(worker_failure(ended)),
        };
        // 5. Workers first: their last reports want a member.
        if failed.is_some() {
            let _ = stop.send(Some(Shutdown::LeaveTasks));
        }
        let all = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            output::talk("warning: a worker did not end in time; its tasks are left to the next start");
        }
        running.stop().await;
        failed.map_or(Ok(DONE), Err)
    }
}

fn worker_failure(ended: Result<Result<(), WorkerError>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => Failure::new("NO_START", "a worker ended without being asked to"),
        Err(error) => Failure::new("INTERNAL", format!("a worker ended badly: {error}")),
    }
}

/// Waits until all workers are there, or not much longer: a slow disk is no reason to hide the address.
async fn await_ready(
    client: &mut Client,
    count: usize,
    workers: &mut JoinSet<Result<(), WorkerError>>,
) -> Result<(), Failure> {
    let until = Instant::now() + WORKERS_WITHIN;
    while Instant::now() < until {
        let ready = list(client)
            .await?
            .workers
            .iter()
            .filter(|w| w.state == "ready" && is_ours(&w.name, count))
            .count();
        if ready >= count {
            return Ok(());
        }
        tokio::select! {
            () = sleep(Duration::from_millis(10)) => {}
            Some(ended) = workers.join_next() => return Err(worker_failure(ended)),
        }
    }
    output::talk("warning: not all workers are ready yet");
    Ok(())
}

fn is_ours(name: &str, count: usize) -> bool {
    name.strip_prefix('w').and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| (1..=count).contains(&n))
}

async fn list(client: &mut Client) -> Result<WorkersDoc, Failure> {
    Ok(client.document(async |api| api.list_workers(ListRequest {}).await).await?.1)
}

/// Undoes the drains of the last end.
async fn undrain(client: &mut Client) -> Result<(), Failure> {
    for worker in list(client).await?.workers.iter().filter(|w| w.drain_reason.as_deref() == Some(REASON)) {
        let request = DrainRequest {
            request_id: request_id(None),
            worker: worker.name.clone(),
            user: user(),
            ..DrainRequest::default()
        };
        client.call(async |api| api.undrain(request.clone()).await).await?;
    }
    Ok(())
}

/// Lets tasks end, evicts what still runs after [`DRAIN`]. A second signal leaves them.
async fn drain(client: &mut Client) -> Shutdown {
    let busy = async |client: &mut Client| {
        list(client).await.is_ok_and(|doc| doc.workers.iter().any(|w| !w.leases.is_empty()))
    };
    let work = async {
        if !busy(client).await {
            return;
        }
        output::talk(&format!(
            "draining for {} s, then stopping what runs; Ctrl-C again leaves it to the next start",
            DRAIN.as_secs()
        ));
        let Ok(doc) = list(client).await else { return };
        for worker in doc.workers.iter().filter(|w| w.state == "ready") {
            let request = DrainRequest {
                request_id: request_id(None),
                worker: worker.name.clone(),
                deadline_ms: u64::try_from(DRAIN.as_millis()).ok(),
                reason: REASON.to_owned(),
                user: user(),
            };
            let _ = client.call(async |api| api.drain(request.clone()).await).await;
        }
        let until = Instant::now() + DRAIN + STOP;
        while Instant::now() < until && busy(client).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = work => Shutdown::StopTasks,
        _ = ending() => Shutdown::LeaveTasks,
    }
}
