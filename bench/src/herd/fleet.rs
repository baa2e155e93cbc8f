//! All workers of the herd: they join, run, go and come back.

use super::tally::{Tally, Worker};
use super::worker::{Config, Connections, Mode, run};
use crate::client::Target;
use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use muster_core::model::worker::WorkerSpec;
use muster_proto::channel::{Bearer, dial_lazy};
use muster_proto::worker::JoinRequest;
use muster_proto::worker::worker_api_client::WorkerApiClient;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// What the first worker has; all others have one slot, so that each runs a task of its own.
pub const BIG_SLOTS: u64 = 16;
/// Workers that ask for their token at once.
const JOINING: usize = 64;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// The workers. They end with it.
pub struct Fleet {
    target: Target,
    connections: Vec<Connections>,
    gate: Gate,
    pub tally: Arc<Tally>,
    pub workers: Vec<Arc<Worker>>,
    modes: Vec<watch::Sender<Mode>>,
    running: JoinSet<()>,
}

impl Fleet {
    /// A fleet without workers. `connections` 0: each session has its own.
    ///
    /// # Errors
    /// No join token; unusable certificates.
    pub fn new(target: &Target, join_token_file: &Path, connections: usize) -> Result<Self> {
        let join_token = std::fs::read_to_string(join_token_file).context("no join token")?;
        let channel = dial_lazy(&target.addresses[0], target.tls.as_ref())?;
        let shared = |_| Connections::shared(&target.addresses, target.tls.as_ref());
        let connections = match connections {
            0 => vec![Connections::Own],
            count => (0..count).map(shared).collect::<Result<_>>()?,
        };
        Ok(Self {
            target: target.clone(),
            connections,
            gate: Gate { channel, token: join_token.trim().to_owned() },
            tally: Arc::new(Tally::new()),
            workers: Vec::new(),
            modes: Vec::new(),
            running: JoinSet::new(),
        })
    }

    /// Lets workers join until there are `count`; none of them has a session yet.
    ///
    /// # Errors
    /// One is refused.
    pub async fn join(&mut self, count: usize) -> Result<Vec<String>> {
        let gate = &self.gate;
        let join = |number: usize| gate.join(name(number, 1));
        futures::stream::iter(self.workers.len()..count).map(join).buffered(JOINING).try_collect().await
    }

    /// Starts one worker more for each token, all at once.
    pub fn start(&mut self, tokens: Vec<String>) {
        let addresses: Arc<[String]> = self.target.addresses.clone().into();
        for token in tokens {
            let number = self.workers.len();
            let seen = Arc::new(Worker { number, ..Worker::default() });
            let config = Config {
                spec: spec(number),
                token,
                gate: self.gate.clone(),
                addresses: addresses.clone(),
                connections: self.connections[number % self.connections.len()].clone(),
                tls: self.target.tls.clone(),
                seen: seen.clone(),
                tally: self.tally.clone(),
            };
            let (send, modes) = watch::channel(Mode::Run);
            self.running.spawn(run(config, modes));
            self.workers.push(seen);
            self.modes.push(send);
        }
    }

    /// Their machines are gone, or back, all in the same moment.
    pub fn set(&self, workers: &[usize], mode: Mode) {
        for worker in workers {
            let _ = self.modes[*worker].send(mode);
        }
    }

    /// Waits until something holds for every worker that is looked at.
    ///
    /// # Errors
    /// It does not within `limit`; the message counts for how many.
    pub async fn until_all(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Worker) -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let missing = self.workers.iter().filter(|worker| !holds(worker)).count();
            if missing == 0 {
                return Ok(began.elapsed());
            }
            if began.elapsed() > limit {
                bail!(
                    "{missing} of {} workers: {what} did not come within {} s",
                    self.workers.len(),
                    limit.as_secs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tasks that hold a slot, over all workers.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.workers.iter().map(|worker| worker.holds.load(Relaxed)).sum()
    }

    /// Sessions of each member, for people.
    #[must_use]
    pub fn spread(&self) -> String {
        let mut counts = vec![0_usize; self.target.addresses.len()];
        for worker in &self.workers {
            if let Some(count) = counts.get_mut(worker.member.load(Relaxed) as usize) {
                *count += 1;
            }
        }
        counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
    }
}

/// Waits for a state.
///
/// # Errors
/// It does not come within `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if began.elapsed() > limit {
            bail!("{what} did not come within {} s", limit.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Where machines ask for their token.
#[derive(Clone)]
pub struct Gate {
    channel: Channel,
    token: String,
}

impl Gate {
    /// The token of a worker of this name.
    ///
    /// # Errors
    /// It is refused.
    pub async fn join(&self, name: String) -> Result<String> {
        let mut client = WorkerApiClient::with_interceptor(self.channel.clone(), Bearer::new(&self.token));
        Ok(client.join(JoinRequest { name }).await.context("cannot join")?.into_inner().token)
    }
}

/// Of the worker of this number: each of its machines, counted from 1, is another to the cluster.
#[must_use]
pub fn name(number: usize, machine: u32) -> String {
    format!("h{number:05}-{machine}")
}

fn spec(number: usize) -> WorkerSpec {
    let slots = if number == 0 { BIG_SLOTS } else { 1 };
    WorkerSpec {
        name: name(number, 1),
        pool: "default".to_owned(),
        cpu_milli: slots * 1_000,
        memory: 1 << 40,
        disk: 1 << 40,
        isolation: "simulated".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: "herd".to_owned(),
        ..WorkerSpec::default()
    }
}
