//! `muster bench raft`: small writes through members in this process that talk over loopback gRPC, synced before every
//! acknowledgement, with the promised mark on. Only the machine is a stand-in: it counts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::TcpListenerStream;

use super::machine::{Applied, Machine, RestoreError, Rows};
use super::node::{Config, MembershipError, Node, Role, StartError};

/// A machine that keeps one row a key.
#[derive(Debug, Default)]
pub struct Puts(u64);

/// A key and a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: u64,
    /// The value.
    pub value: Vec<u8>,
}

impl Machine for Puts {
    type Batch = Put;
    type Replies = u64;
    const DIGEST_BELOW: &'static [u8] = &[];

    fn apply(&mut self, index: u64, put: &Put, _rows: &dyn Rows) -> Applied<u64> {
        self.0 += 1;
        Applied { replies: index, rows: vec![(put.key.to_be_bytes().to_vec(), Some(put.value.clone()))] }
    }

    fn restore(&mut self, _rows: &dyn Rows, _applied: u64) -> Result<(), RestoreError> {
        self.0 = 0;
        Ok(())
    }
}

/// Why a bench does not run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    #[error(transparent)]
    Channel(#[from] muster_proto::channel::ChannelError),
    #[error("no member leads")]
    NoLeader,
}

/// Members for a bench.
pub struct Cluster {
    nodes: Vec<Node<Puts>>,
    servers: Vec<JoinHandle<Result<(), tonic::transport::Error>>>,
}

/// What a run measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Members of the cluster.
    pub members: usize,
    /// Callers at once, each with one write in flight.
    pub callers: usize,
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Refused or unknown ones (an election happened).
    pub failed: u64,
    /// Acknowledged writes in a second.
    pub per_second: f64,
    /// Latencies, milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, milliseconds.
    pub p99_ms: f64,
}

impl Cluster {
    /// Starts `members` members under `dir` on free loopback ports and waits for a leader.
    ///
    /// # Errors
    /// [`BenchError`].
    pub async fn start(dir: &Path, members: u64) -> Result<Self, BenchError> {
        let mut cluster = Self { nodes: Vec::new(), servers: Vec::new() };
        let mut addresses = Vec::new();
        for member in 1..=members {
            let config = Config::new(dir.join(format!("member-{member}")), "bench", member, "bench");
            let node = Node::start(config, Arc::new(RwLock::new(Puts::default()))).await?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address: SocketAddr = listener.local_addr()?;
            let mut server = muster_proto::channel::listen(address, None)?;
            let service = node.service();
            cluster.servers.push(tokio::spawn(async move {
                server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await
            }));
            cluster.nodes.push(node);
            addresses.push((member, address.to_string()));
        }
        if let Some(first) = cluster.nodes.first() {
            first.bootstrap(addresses).await?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    async fn leader(&self) -> Result<Node<Puts>, BenchError> {
        let first = self.nodes.first().ok_or(BenchError::NoLeader)?;
        let mut status = first.status();
        let known = status
            .wait_for(|status| status.leader.is_some())
            .await
            .map_err(|_| BenchError::NoLeader)?
            .clone();
        let (id, _) = known.leader.ok_or(BenchError::NoLeader)?;
        let leader =
            self.nodes.get(usize::try_from(id).unwrap_or(0).wrapping_sub(1)).ok_or(BenchError::NoLeader)?;
        leader
            .status()
            .wait_for(|status| status.role == Role::Leader)
            .await
            .map_err(|_| BenchError::NoLeader)?;
        Ok(leader.clone())
    }

    /// Writes `value_bytes` at a time from `callers` callers for `duration`.
    ///
    /// # Errors
    /// [`BenchError::NoLeader`].
    pub async fn run(
        &self,
        callers: usize,
        value_bytes: usize,
        duration: Duration,
    ) -> Result<Report, BenchError> {
        let leader = self.leader().await?;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers as u64 {
            let leader = leader.clone();
            tasks.spawn(async move {
                let (mut latencies, mut failed) = (Vec::new(), 0u64);
                while start.elapsed() < duration {
                    let put = Put {
                        key: (caller << 32) | (latencies.len() as u64 % 1_000),
                        value: vec![7; value_bytes],
                    };
                    let begun = Instant::now();
                    match leader.propose(&put).await {
                        Ok(_) => latencies.push(begun.elapsed()),
                        Err(_) => failed += 1,
                    }
                }
                (latencies, failed)
            });
        }
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while let Some(done) = tasks.join_next().await {
            if let Ok((some, missed)) = done {
                latencies.extend(some);
                failed += missed;
            }
        }
        let elapsed = start.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
            latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
        };
        Ok(Report {
            members: self.nodes.len(),
            callers,
            acknowledged: latencies.len() as u64,
            failed,
            per_second: latencies.len() as f64 / elapsed,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        })
    }

    /// Ends all members.
    pub async fn stop(self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
        for server in self.servers {
            server.abort();
        }
    }
}
