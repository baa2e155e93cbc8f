//! Builds a member in order: configuration, port, identity, disk, log, leader thread, services. And takes it down again.

use crate::api::grpc::Grpc;
use crate::api::member::Members;
use crate::api::worker::Workers;
use crate::api::{Forward, Service};
use crate::clock::{TermClock, wall_ms};
use crate::config::{ConfigError, CoordinatorConfig};
use crate::history::HistoryReader;
use crate::leader::{self, Hands, LeaderHandle, ToLeader};
use crate::leadership;
use crate::machine::CoreMachine;
use crate::peers::Peers;
use crate::proposer::Proposer;
use crate::raft::{self, MembershipError, Node, ProposeError};
use crate::registrar::Registrar;
use crate::reports;
use crate::room::Room;
use crate::security::{ClusterSecret, Gate, SecretError, Secrets, read_token, write_private};
use crate::sessions::Sessions;
use crate::standing::{Standing, was_removed};
use crate::storage::{MemberFile, RocksDisk, StorageError, scrub};
use crate::store::{Store, StoreError};
use crate::uplink::Uplink;
use crate::watch::Hub;
use muster_core::command::Command;
use muster_proto::channel::{Bearer, ChannelError, dial, listen};
use muster_proto::member::JoinMemberRequest;
use muster_proto::member::member_api_client::MemberApiClient;
use parking_lot::RwLock;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

/// A port or a database that its last owner is still letting go of is waited for.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// Members that are just starting are waited for.
const JOIN_WITHIN: Duration = Duration::from_secs(15);
/// In a data directory that is about to join: what it asks with.
const JOINING: &str = "joining";
/// Connections that wait to be accepted: thousands of workers come within a second. The kernel cuts it at `somaxconn`.
const BACKLOG: u32 = 4096;
/// Streams that are open at the end get this long.
const DRAIN: Duration = Duration::from_millis(300);

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} holds no member yet")]
    Fresh(PathBuf),
    #[error("cannot join: {0}")]
    Join(String),
    /// The cluster said no, and what to do about it.
    #[error("cannot join: {reason}")]
    JoinRefused { reason: String, hint: Option<String> },
    #[error("member {member} was removed from cluster {cluster}; {dir} is not used again")]
    Removed { dir: PathBuf, member: u64, cluster: String },
    #[error(transparent)]
    Raft(raft::StartError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error("cannot ask the disk of {dir} for its room: {error}")]
    Room { dir: PathBuf, error: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("storage failed, nothing is acknowledged any more: {0}")]
    StorageFailed(String),
    #[error("the listener failed: {0}")]
    Serve(String),
}

impl StartError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Config(error) => error.hint(),
            Self::Channel(error) => error.hint(),
            Self::Storage(error) | Self::Raft(raft::StartError::Storage(error)) => error.hint(),
            Self::Listen { .. } => "is another coordinator running there? choose another --listen",
            Self::Secret(SecretError::OtherCluster { .. }) => {
                "use an empty data directory to join another cluster"
            }
            Self::Secret(SecretError::NotAJoinToken(_)) => {
                "name the file join-token that the first member wrote"
            }
            Self::Secret(_) => "check that the data directory exists, is writable and belongs to you",
            Self::Store(_) => {
                "store.url must be a directory that this machine can write: file:///absolute/path"
            }
            Self::Fresh(_) => {
                "give --bootstrap for the first member of a cluster, --join and --join-token-file for others"
            }
            Self::Join(_) => "is a member running there, and is the join token younger than an hour?",
            Self::JoinRefused { hint: Some(hint), .. } => hint,
            Self::JoinRefused { hint: None, .. } => "`muster cluster status` shows the members",
            Self::Removed { .. } => {
                "to use this machine again join as a new member, with an empty data directory: `muster cluster add ADDRESS` says how"
            }
            Self::StorageFailed(_) => {
                "look at the disk; a start checks what is there: it serves again, or names what is damaged and what to do"
            }
            Self::Room { .. } => "check that the data directory exists and is readable",
            Self::Raft(_) | Self::Membership(_) | Self::Thread(_) | Self::Serve(_) => "see the log above",
        }
    }
}

impl From<raft::StartError> for StartError {
    fn from(error: raft::StartError) -> Self {
        match error {
            raft::StartError::Storage(error) => Self::Storage(error),
            error => Self::Raft(error),
        }
    }
}

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
    let Identity { secrets, member, store_url } = identify(&config, &dir, &advertised).await?;
    let store = Store::open(&store_url)?;
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
    if config.bootstrap && member == 1 {
        match node.bootstrap([(member, advertised.clone())]).await {
            Ok(()) => tracing::info!(cluster = secrets.cluster_id, "a new cluster"),
            Err(MembershipError::Bootstrapped) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // 5. The leader's side.
    let clock = Arc::new(TermClock::default());
    let proposer = Proposer::start(node.clone(), clock.clone());
    let hands = Shell {
        proposer: proposer.clone(),
        node: node.clone(),
        leader: leader.clone(),
        runtime: tokio::runtime::Handle::current(),
    };
    let thread = leader::spawn(inputs, hands, config.health.clone()).map_err(StartError::Thread)?;
    let peers = Peers::new(&member_token, config.tls.clone());
    let leadership = leadership::follow(node.clone(), clock, proposer.clone(), peers.clone());
    let standing = Standing::new(&dir, member, &secrets.cluster_id);
    let removed = standing.removed();
    tokio::spawn(standing.clone().watch(node.clone(), peers.clone(), config.join.clone()));
    // 6. The services.
    tokio::spawn(reports::run(member, room.clone(), peers.clone(), leadership.clone()));
    let forward = Forward::new(node.clone(), proposer, peers, leadership, member, room);
    let gate = Gate::new(secrets.cluster.clone());
    let sessions = Sessions::default();
    let service = Service {
        forward: forward.clone(),
        store,
        hub,
        history: HistoryReader::new(node.rows()),
        sessions: sessions.clone(),
        cluster_id: secrets.cluster_id.as_str().into(),
        gate: gate.clone(),
        telemetries: leader.telemetries().clone(),
    };
    let workers = Workers {
        forward: forward.clone(),
        sessions: sessions.clone(),
        registrar: Registrar::start(forward.clone()),
        uplink: Uplink::start(forward.clone(), leader.clone()),
        gate: gate.clone(),
        cluster_id: secrets.cluster_id.clone(),
        store_url: store_url.clone(),
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
    };
    let stop = CancellationToken::new();
    let mut server = server;
    let router = server
        .add_service(Grpc::server(service, gate))
        .add_service(workers.server())
        .add_service(members.server())
        .add_service(node.service());
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
    fn propose(&self, id: u64, commands: Vec<Command>) {
        let leader = self.leader.clone();
        self.proposer.enqueue(commands, move |outcome| {
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

    fn confirm(&self, batch: u64) {
        let (node, leader) = (self.node.clone(), self.leader.clone());
        self.runtime.spawn(async move {
            let ok = node.confirm_leadership().await.is_ok();
            leader.send(ToLeader::Confirmed { batch, ok });
        });
    }
}

struct Identity {
    secrets: Secrets,
    member: u64,
    store_url: String,
}

/// Reads who this directory is, or makes it a new cluster's first member, or joins.
async fn identify(config: &CoordinatorConfig, dir: &Path, advertised: &str) -> Result<Identity, StartError> {
    let known = Secrets::load(dir)?;
    let file = MemberFile::read(dir)?;
    if let (Some(file), true) = (&file, was_removed(dir)) {
        let (member, cluster) = (file.member, file.cluster.clone());
        return Err(StartError::Removed { dir: dir.to_owned(), member, cluster });
    }
    let remembered = || std::fs::read_to_string(dir.join("store-url")).ok().map(|url| url.trim().to_owned());
    let own_store = || format!("file://{}", dir.join("store").display());
    let given = config.store.url.clone();
    if let (Some(secrets), Some(file)) = (&known, &file) {
        // It has a place already. A token for another cluster is a mistake worth stopping for.
        if let Some(path) = config.join_token_file.as_deref().filter(|_| !config.join.is_empty())
            && let Ok(token) = read_token(path)
        {
            secrets.check_join_token(dir, &token)?;
        }
        let store_url = given.or_else(remembered).unwrap_or_else(own_store);
        return Ok(Identity { secrets: secrets.clone(), member: file.member, store_url });
    }
    if config.bootstrap {
        let secrets = known.unwrap_or_else(Secrets::generate);
        let store_url = given.unwrap_or_else(own_store);
        secrets.store(dir)?;
        write_private(&dir.join("store-url"), &store_url)?;
        MemberFile::claim(dir, &secrets.cluster_id, 1)?;
        return Ok(Identity { secrets, member: 1, store_url });
    }
    let (false, Some(token_file)) = (config.join.is_empty(), &config.join_token_file) else {
        return Err(StartError::Fresh(dir.to_owned()));
    };
    let token = read_token(token_file)?;
    let reply = join(config, &token, advertised, join_request(dir)?).await?;
    let bad = || StartError::Join("the cluster answered without its secret".to_owned());
    let secrets = Secrets {
        cluster: ClusterSecret::from_hex(&reply.cluster_secret).ok_or_else(bad)?,
        cluster_id: reply.cluster_id,
    };
    let store_url = given.unwrap_or(reply.store_url);
    secrets.store(dir)?;
    write_private(&dir.join("store-url"), &store_url)?;
    MemberFile::claim(dir, &secrets.cluster_id, reply.member)?;
    let _ = std::fs::remove_file(dir.join(JOINING));
    Ok(Identity { secrets, member: reply.member, store_url })
}

/// The id of this directory's request to join, kept until it has joined: a start that was killed in between asks again for the same
/// member id, and leaves no member behind that nobody is.
fn join_request(dir: &Path) -> Result<String, StartError> {
    let path = dir.join(JOINING);
    if let Ok(known) = std::fs::read_to_string(&path)
        && !known.trim().is_empty()
    {
        return Ok(known.trim().to_owned());
    }
    let fresh = format!("{:032x}", rand::random::<u128>());
    std::fs::create_dir_all(dir)
        .map_err(|error| StartError::Storage(StorageError::Io { path: dir.to_owned(), error }))?;
    write_private(&path, &fresh)?;
    Ok(fresh)
}

async fn join(
    config: &CoordinatorConfig,
    token: &str,
    advertised: &str,
    request: String,
) -> Result<muster_proto::member::JoinMemberReply, StartError> {
    let deadline = Instant::now() + JOIN_WITHIN;
    loop {
        let mut last = String::new();
        for address in &config.join {
            let channel = match dial(address, config.tls.as_ref()).await {
                Ok(channel) => channel,
                Err(error @ ChannelError::Unreachable { .. }) => {
                    last = error.to_string();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut member = MemberApiClient::with_interceptor(channel, Bearer::new(token));
            let asked = JoinMemberRequest {
                address: advertised.to_owned(),
                replace: config.replace.unwrap_or_default(),
                request: request.clone(),
            };
            match member.join_member(asked).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status)
                    if matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::NotFound) =>
                {
                    let hint = status.metadata().get("muster-hint").and_then(|hint| hint.to_str().ok());
                    return Err(StartError::JoinRefused {
                        reason: status.message().to_owned(),
                        hint: hint.map(str::to_owned),
                    });
                }
                Err(status) if status.code() == tonic::Code::Unauthenticated => {
                    return Err(StartError::Join(format!("{address}: {}", status.message())));
                }
                Err(status) => last = format!("{address}: {}", status.message()),
            }
        }
        if Instant::now() >= deadline {
            return Err(StartError::Join(last));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Binds with a queue for a storm of workers: the default of 128 overflows within milliseconds, and what the kernel drops comes back
/// only after a second.
fn listening(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        match listening(address) {
            Ok(listener) => return Ok(listener),
            // A coordinator that was just killed: its port is free in a moment.
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && Instant::now() < deadline
                    && !answers(address).await =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(StartError::Listen { address, error }),
        }
    }
}

async fn answers(address: SocketAddr) -> bool {
    matches!(
        tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address)).await,
        Ok(Ok(_))
    )
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
