//! `muster worker`: one machine's agent. Its end leaves its tasks running; the next start adopts them.

use super::notice::NoticeArgs;
use super::{ConfigArgs, Ending, Flag, StoreArgs, TlsArgs, block_on, chain, ending, warn};
use crate::config::layers::{Merged, merge};
use crate::config::worker::{KEYS, WorkerFile};
use crate::config::{log, notice};
use crate::failure::{DONE, Done, Failure};
use crate::output;
use muster_core::model::notice::NoticeSource;
use muster_worker::{Shutdown, WorkerError};

/// The daemon's settings as flags.
#[derive(Debug, clap::Args)]
#[group(skip)] // flattened into `worker`, whose own group has the name
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where identity, journal, attempts and cache lie; made when absent.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Unique in the cluster [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// Members, separated by commas; any of them will do.
    #[arg(long, value_name = "ADDR,…")]
    join: Vec<String>,
    /// The file with the join token; not needed once joined.
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<String>,
    /// The class of machine [default: default].
    #[arg(long)]
    pool: Option<String>,
    /// Where other workers reach this one, for tasks of several workers [default: how it reaches the members].
    #[arg(long, value_name = "ADDR")]
    address: Option<String>,
    /// A label, for constraints.
    #[arg(long = "label", value_name = "K=V")]
    labels: Vec<String>,
    /// The provider may take this machine back.
    #[arg(long)]
    spot: bool,
    /// CPUs to offer; may exceed the machine's.
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Memory to offer, e.g. 64GiB; may exceed the machine's.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Disk to offer.
    #[arg(long, value_name = "SIZE")]
    disk: Option<String>,
    /// Simulated GPUs, e.g. 8xH100-80GB; marked as such everywhere.
    #[arg(long, value_name = "SPEC")]
    gpus: Option<String>,
    /// A variable of this environment that tasks get.
    #[arg(long = "env", value_name = "NAME")]
    env: Vec<String>,
    /// Most bytes of cached workdirs and inputs.
    #[arg(long, value_name = "SIZE")]
    cache: Option<String>,
    /// Most bytes of each captured stream on this machine.
    #[arg(long, value_name = "SIZE")]
    log_cap: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    notice: NoticeArgs, // last: its heading would be that of what follows
}

impl Args {
    /// # Errors
    /// A bad configuration, before anything is opened; a worker that cannot start or go on.
    pub fn run(self) -> Done {
        let keys = [&KEYS[..], &notice::KEYS].concat();
        let Merged { settings, warnings } =
            merge::<WorkerFile>(self.config.config.as_deref(), &keys, &self.flags(), std::env::vars())?;
        warn(&warnings);
        let config = settings.check()?;
        if self.config.check_config {
            output::talk("the configuration is sound");
            return Ok(DONE);
        }
        log::start(settings.log.level.as_deref(), "info");
        block_on(async {
            let evicts = muster_worker::notice::sources(&config.notice).contains(&NoticeSource::Sigterm);
            let (first, again) = tokio::sync::oneshot::channel();
            let shutdown = async move {
                if ending().await != Ending::Terminate || !evicts {
                    return Shutdown::LeaveTasks;
                }
                let _ = first.send(());
                Shutdown::Evict
            };
            // Who does not want to wait for the tasks says so again: they are left to the next start.
            let impatient = async {
                if again.await.is_err() {
                    std::future::pending::<()>().await;
                }
                ending().await
            };
            tokio::select! {
                ended = muster_worker::run(config, shutdown) => ended?,
                _ = impatient => {}
            }
            Ok(DONE)
        })
    }

    fn flags(&self) -> Vec<Flag> {
        let one = |text: &Option<String>| text.clone().into_iter().collect::<Vec<_>>();
        let mut flags = vec![
            ("worker", "data_dir", one(&self.data_dir)),
            ("worker", "name", one(&self.name)),
            ("worker", "join", self.join.clone()),
            ("worker", "join_token_file", one(&self.join_token_file)),
            ("worker", "pool", one(&self.pool)),
            ("worker", "address", one(&self.address)),
            ("worker", "labels", self.labels.clone()),
            ("worker", "spot", if self.spot { vec!["true".to_owned()] } else { Vec::new() }),
            ("worker", "cpus", one(&self.cpus)),
            ("worker", "memory", one(&self.memory)),
            ("worker", "disk", one(&self.disk)),
            ("worker", "gpus", one(&self.gpus)),
            ("worker", "env", self.env.clone()),
            ("worker", "cache", one(&self.cache)),
            ("worker", "log_cap", one(&self.log_cap)),
        ];
        flags.extend(self.store.flags());
        flags.extend(self.notice.flags());
        flags.extend(self.tls.flags());
        flags
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        let hint = error.hint();
        let failure = Self::new("NO_START", chain(&error));
        if hint.is_empty() { failure } else { failure.hint(hint) }
    }
}
