//! Builds a member in order: configuration, port, identity, disk, log, leader thread, services. And takes it down again.

mod error;
mod identity;
mod port;
#[cfg(test)]
mod signals_test;

use crate::absence;
use crate::api::drill::Drills;
use crate::api::grpc::Grpc;
use crate::api::keda::Keda;
use crate::api::member::Members;
use crate::api::rest;
use crate::api::worker::Workers;
use crate::api::{Forward, Service};
use crate::clock::{TermClock, wall_ms};
use crate::config::{ConfigError, CoordinatorConfig};
use crate::drills::{Death, Silences};
use crate::driving::Driving;
use crate::history::HistoryReader;
use crate::leader::{self, Hands, LeaderHandle, ToLeader};
use crate::leadership;
use crate::leftovers;
use crate::machine::CoreMachine;
use crate::peers::Peers;
use crate::proposer::Proposer;
use crate::raft::{self, MembershipError, Node, ProposeError};
use crate::registrar::Registrar;
use crate::reports;
use crate::room::Room;
use crate::security::Gate;
use crate::sessions::Sessions;
use crate::standing::Standing;
use crate::storage::{RocksDisk, StorageError, scrub};
use crate::uplink::Uplink;
use crate::watch::Hub;
use muster_core::command::Command;
use muster_proto::channel::listen;
use parking_lot::RwLock;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

pub use error::StartError;
use identity::{Identity, identify};
use port::bind;

/// A port or a database that its last owner is still letting go of is waited for.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// Streams that are open at the end get this long.
const DRAIN: Duration = Duration::from_millis(300);

/// A running member.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// How others reach it.
    pub advertised: String,
    /// The token of the cluster's first user, for a context.
    pub user_token: String,
    pub cluster_id: String,
    pub member: u64,
    pub store_url: String,
    /// The file with a fresh join token, on the member that bootstraps.
    pub join_token_file: Option<PathBuf>,
    dir: PathBuf,
    removed: tokio::sync::watch::Receiver<bool>,
    death: Death,
    node: Node<CoreMachine>,
    leader: LeaderHandle,
    thread: std::thread::JoinHandle<()>,
    stop: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    /// Before a planned stop: if this member leads, another takes over first, so that nobody waits for an election.
    pub async fn hand_over(&self) {
        self.node.hand_over().await;
    }

    /// Waits until this member knows a leader.
    pub async fn ready(&self) {
        let _ = self.node.status().wait_for(|status| status.leader.is_some()).await;
    }

    /// What this member knows of the group, to be watched.
    #[must_use]
    pub fn node_status(&self) -> tokio::sync::watch::Receiver<raft::Status> {
        self.node.status()
    }

    /// Ends when a drill wants this process to die: at once, as in a crash, and to start again after this time. Whoever owns the
    /// process does it.
    pub fn asked_to_die(&self) -> impl Future<Output = Duration> + use<> {
        self.death.asked()
    }

    /// Ends when the member can't go on: its listener or its log failed.
    pub async fn failed(&mut self) -> StartError {
        let mut status = self.node.status();
        tokio::select! {
            ended = &mut self.server => match ended {
                Ok(Ok(())) => StartError::Serve("it ended".to_owned()),
                Ok(Err(error)) => StartError::Serve(error.to_string()),
                Err(error) => StartError::Serve(error.to_string()),
            },
            reason = storage_failed(self.node.disks()) => StartError::StorageFailed(reason),
            _ = status.wait_for(|status| status.role == raft::Role::Stopped) => {
                StartError::StorageFailed("raft ended; the reason is in the log above".to_owned())
            }
            Ok(_) = self.removed.wait_for(|removed| *removed) => {
                StartError::Removed { dir: self.dir.clone(), member: self.member, cluster: self.cluster_id.clone() }
            }
        }
    }

    /// Stops: open streams end, nothing is acknowledged afterwards, all that was is on disk.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if !self.server.is_finished() && tokio::time::timeout(DRAIN, &mut self.server).await.is_err() {
            self.server.abort();
        }
        self.node.shutdown().await;
        self.leader.send(ToLeader::Stop);
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// Waits for the first failure of either database.
async fn storage_failed(disks: [Arc<RocksDisk>; 2]) -> String {
    let [mut state, mut log] = disks.map(|disk| disk.failure());
    let reason = tokio::select! {
        failure = state.wait_for(Option::is_some) => failure.ok().and_then(|failure| failure.clone()),
        failure = log.wait_for(Option::is_some) => failure.ok().and_then(|failure| failure.clone()),
    };
    reason.unwrap_or_default()
}

/// Runs a member until `shutdown` ends.
///
/// # Errors
/// [`StartError`], also when the member fails later.
pub async fn run(config: CoordinatorConfig, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let mut running = start(config).await?;
    let failed = tokio::select! {
        () = shutdown => None,
        error = running.failed() => Some(error),
    };
    if failed.is_none() {
        running.hand_over().await;
    }
    running.stop().await;
    failed.map_or(Ok(()), Err)
}

/// Starts a member.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: CoordinatorConfig) -> Result<Running, StartError> {
    // 1. What can't work is said before anything is touched.
    config.validate()?;
    let server = listen(config.listen, config.tls.as_ref())?;
    // 2. The port.
    let listener = bind(config.listen).await?;
    let address =
        listener.local_addr().map_err(|error| StartError::Listen { address: config.listen, error })?;
    let advertised = config.advertise.clone().unwrap_or_else(|| address.to_string());
    // 3. Who this is.
    let dir = absolute(&config.data_dir);
    let Identity { secrets, member, store } = identify(&config, &dir, &advertised).await?;
    let store_url = store.url().to_owned();
    // 4. State and log.
    let hub = Arc::new(Hub::default());
    let (leader, inputs) = LeaderHandle::channel();
    let machine = Arc::new(RwLock::new(CoreMachine::new(hub.clone(), leader.clone())));
    let member_token = secrets.cluster.member_token();
    let mut raft_config = raft::Config::new(&dir, &secrets.cluster_id, member, &member_token);
    raft_config.tls = config.tls.clone();
    let node = start_node(raft_config, machine).await?;
    let room = Room::new(&dir, member, config.ballast.bytes(), config.disk_full_at)
        .map_err(|error| StartError::Room { dir: dir.clone(), error })?;
    tokio::spawn(room.clone().watch());
    tokio::spawn(scrub::run(node.disks().to_vec()));
    tokio::spawn(absence::run(node.clone()));
    tokio::spawn(leftovers::run(node.clone(), store.clone()));
    if config.bootstrap && member == 1 {
        match node.bootstrap([(member, advertised.clone())]).await {
            Ok(()) => tracing::info!(cluster = secrets.cluster_id, "a new cluster"),
            Err(MembershipError::Bootstrapped) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // 5. The leader's side.
    let clock = Arc::new(TermClock::default());
    let proposer = Proposer::start(node.clone(), clock.clone(), leader.counters().clone());
    let hands = Shell {
        proposer: proposer.clone(),
        node: node.clone(),
        leader: leader.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    let drivers = config.pools.drivers().map_err(ConfigError::from)?;
    let driving = Driving::new(config.pools.clone(), drivers);
    let sides = leader::Sides {
        signals: leader.signals().clone(),
        drives: driving.drives.clone(),
        counters: leader.counters().clone(),
    };
    let thread = leader::spawn(inputs, hands, config.health.clone(), config.idle, sides)
        .map_err(StartError::Thread)?;
    let peers = Peers::new(&member_token, config.tls.clone());
    let leadership = leadership::follow(node.clone(), clock, proposer.clone(), peers.clone());
    driving.start(&leader, &leadership);
    let standing = Standing::new(&dir, member, &secrets.cluster_id);
    let removed = standing.removed();
    tokio::spawn(standing.clone().watch(node.clone(), peers.clone(), config.join.clone()));
    // 6. The services.
    tokio::spawn(reports::run(member, room.clone(), peers.clone(), leadership.clone()));
    let forward = Forward::new(node.clone(), proposer, peers, leadership, member, room);
    let gate = Gate::new(secrets.cluster.clone());
    let sessions = Sessions::default();
    let (silences, death) = (Silences::default(), Death::default());
    let drills =
        Drills::new(config.staging, silences.clone(), death.clone(), leader.clone(), forward.clone());
    let service = Service {
        forward: forward.clone(),
        store,
        hub,
        history: HistoryReader::new(node.rows()),
        sessions: sessions.clone(),
        cluster_id: secrets.cluster_id.as_str().into(),
        gate: gate.clone(),
        telemetries: leader.telemetries().clone(),
        drills: drills.clone(),
        signals: leader.signals().clone(),
        counters: leader.counters().clone(),
    };
    let workers = Workers {
        forward: forward.clone(),
        sessions: sessions.clone(),
        registrar: Registrar::start(forward.clone()),
        uplink: Uplink::start(forward.clone(), leader.clone()),
        gate: gate.clone(),
        cluster_id: secrets.cluster_id.clone(),
        store_url: store_url.clone(),
        silences,
    };
    let members = Members {
        forward,
        sessions,
        leader: leader.clone(),
        gate: gate.clone(),
        cluster_id: secrets.cluster_id.clone(),
        store_url: store_url.clone(),
        joining: Arc::default(),
        standing,
        drills,
    };
    let stop = CancellationToken::new();
    // REST and gRPC on the one port: a path of either is a route of the same table.
    let routes = Routes::from(rest::router(service.clone()))
        .add_service(Keda::server(service.clone()))
        .add_service(Grpc::server(service, gate))
        .add_service(workers.server())
        .add_service(members.server())
        .add_service(node.service());
    let router = server.accept_http1(true).add_routes(routes);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
    // 7. A fresh token for those who join.
    let join_token_file = if config.bootstrap {
        secrets.write_join_token(&dir, u64::try_from(wall_ms() / 1_000).unwrap_or_default())?;
        Some(dir.join("join-token"))
    } else {
        None
    };
    let user_token = secrets.user_token();
    Ok(Running {
        address,
        advertised,
        user_token,
        cluster_id: secrets.cluster_id,
        member,
        store_url,
        join_token_file,
        dir,
        removed,
        death,
        node,
        leader,
        thread,
        stop,
        server,
    })
}

/// The leader thread's hands in the async world.
struct Shell {
    proposer: Proposer,
    node: Node<CoreMachine>,
    leader: LeaderHandle,
    runtime: tokio::runtime::Handle,
}

impl Hands for Shell {
    fn propose(&self, term: u64, id: u64, commands: Vec<Command>) {
        let leader = self.leader.clone();
        self.proposer.enqueue(Some(term), commands, move |outcome| {
            leader.send(match outcome {
                Ok(replies) => ToLeader::Proposed { id, replies: Some(replies) },
                Err(
                    ProposeError::NotLeader { .. } | ProposeError::TooLarge { .. } | ProposeError::Encode(_),
                ) => ToLeader::Refused { id },
                Err(ProposeError::Unknown { .. } | ProposeError::Fatal { .. }) => {
                    ToLeader::Proposed { id, replies: None }
                }
            });
        });
    }

    fn confirm(&self, term: u64, batch: u64) {
        let (node, leader) = (self.node.clone(), self.leader.clone());
        self.runtime.spawn(async move {
            let ok = node.confirm_term().await.is_ok_and(|now| now == term);
            leader.send(ToLeader::Confirmed { batch, ok });
        });
    }
}

async fn start_node(
    config: raft::Config,
    machine: Arc<RwLock<CoreMachine>>,
) -> Result<Node<CoreMachine>, StartError> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        match Node::start(config.clone(), machine.clone()).await {
            Err(raft::StartError::Storage(StorageError::Locked { .. })) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return Ok(other?),
        }
    }
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}
