//! [`Node`]: one member of the Raft group as the rest of the coordinator sees it. No type of openraft is in a signature.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use muster_proto::channel::{Bearer, Tls};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, InitializeError, LinearizableReadError, RaftError,
};
use openraft::metrics::RaftServerMetrics;
use openraft::{BasicNode, ChangeMembers, Raft, ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::log_store::LogStore;
use super::machine::{Machine, Rows, encode};
use super::network::{Caller, Network};
use super::open::{Opened, open};
use super::service::{Server, Service};
use super::state_machine::{DiskRows, StateMachine};
use super::types::{Blob, Tokio, Types};
use crate::storage::{RocksDisk, StorageError};

/// Largest entry, bytes. What is larger goes to the store first.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

/// How soon a leader without a confirmed majority is asked again.
const LEASE_RETRY: Duration = Duration::from_millis(5);

type C<M> = Types<<M as Machine>::Replies, Tokio>;
type Sm<M> = StateMachine<M, Tokio, RocksDisk>;

/// What a member needs to know to start.
#[derive(Clone)]
pub struct Config {
    /// The data directory of the member; `log/`, `state/`, `promised` and `member.toml` lie in it.
    pub dir: PathBuf,
    /// The cluster's id. A directory of another cluster is refused.
    pub cluster: String,
    /// The member's id, from 1, never used twice.
    pub member: u64,
    /// What members show each other.
    pub secret: String,
    /// Certificates for the calls to other members.
    pub tls: Option<Tls>,
    /// How often a leader is heard.
    pub heartbeat: Duration,
    /// A follower that hears nothing asks for votes after a time drawn from this range.
    pub election: (Duration, Duration),
    /// A snapshot is made after so many entries.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, so that a follower that lags a little needs none.
    pub keep_entries: u64,
}

impl Config {
    /// A configuration with the house's timing: heartbeat 150 ms, election 900 to 1,500 ms, a snapshot every 20,000 entries.
    #[must_use]
    pub fn new(
        dir: impl Into<PathBuf>,
        cluster: impl Into<String>,
        member: u64,
        secret: impl Into<String>,
    ) -> Self {
        Self {
            dir: dir.into(),
            cluster: cluster.into(),
            member,
            secret: secret.into(),
            tls: None,
            heartbeat: Duration::from_millis(150),
            election: (Duration::from_millis(900), Duration::from_millis(1500)),
            snapshot_entries: 20_000,
            keep_entries: 5_000,
        }
    }

    pub(super) fn raft(&self) -> openraft::Config {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            // A part of a snapshot that is not taken for this long, not the whole.
            install_snapshot_timeout: 10_000,
            snapshot_max_chunk_size: super::snapshot::PART_BYTES as u64,
            max_payload_entries: 1_024,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            replication_lag_threshold: self.snapshot_entries.saturating_mul(2),
            max_in_snapshot_log_to_keep: self.keep_entries,
            // Purging syncs the state: in batches.
            purge_batch_size: self.keep_entries.clamp(1, 1_024),
            enable_pre_vote: Some(true),
            // A leader that lost power may have lost entries that its followers hold: were it to lead on in the same term, it
            // would write others under the same log ids. It must be elected again. (Found by seed 63 of tests/sim.rs.)
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ...500ms".to_owned(),
            ..openraft::Config::default()
        }
    }
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("unusable timing: {0}")]
    Config(#[from] openraft::ConfigError),
    #[error("raft does not start: {reason}")]
    Raft { reason: String },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Another member, as a caller is sent to it: id and address.
pub type Leader = Option<(u64, String)>;

/// Why a proposal was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Nothing happened; try there.
    #[error("this member does not lead")]
    NotLeader { leader: Leader },
    /// The leader changed meanwhile: it may have been committed or not. Repeat it with the same request id.
    #[error("the leader changed; whether the change was made is unknown")]
    Unknown { leader: Leader },
    #[error("an entry of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("a batch does not encode: {0}")]
    Encode(#[source] postcard::Error),
    /// This member has stopped for good (disk failure or shutdown).
    #[error("this member stopped: {reason}")]
    Fatal { reason: String },
}

/// Why a linearizable read is not possible now.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("this member does not lead")]
    NotLeader { leader: Leader },
    #[error("no leader is known")]
    NoLeader,
    #[error("the leader does not answer: {reason}")]
    LeaderUnreachable { reason: String },
    #[error("no majority answers")]
    NoQuorum,
    #[error("this member stopped: {reason}")]
    Fatal { reason: String },
}

/// Why the membership does not change.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("this member does not lead")]
    NotLeader { leader: Leader },
    #[error("the cluster is bootstrapped already")]
    Bootstrapped,
    #[error("refused: {reason}")]
    Refused { reason: String },
    #[error("this member stopped: {reason}")]
    Fatal { reason: String },
}

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives the log, does not vote.
    Learner,
    Follower,
    /// Asks for votes.
    Candidate,
    Leader,
    /// Raft has ended here; only a restart helps.
    Stopped,
}

/// A member in the membership.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where it listens.
    pub address: String,
    /// Whether it votes (or is a learner).
    pub voter: bool,
}

/// What this member knows of the group. Changes are watched; they come with elections and memberships, not with entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member: u64,
    /// What it is.
    pub role: Role,
    /// Who leads.
    pub leader: Leader,
    /// The term, one leader at most in each.
    pub term: u64,
    /// All members.
    pub members: Vec<Member>,
}

struct Inner<M: Machine> {
    raft: Raft<C<M>, Sm<M>>,
    machine: Arc<RwLock<M>>,
    caller: Arc<Caller>,
    config: Config,
    state: Arc<RocksDisk>,
    log: LogStore<M::Replies, Tokio, RocksDisk>,
    applied: watch::Receiver<u64>,
    status: watch::Receiver<Status>,
    sync_thread: Mutex<Option<JoinHandle<()>>>,
}

/// A running member. Clones are the same member.
pub struct Node<M: Machine>(Arc<Inner<M>>);

impl<M: Machine> Clone for Node<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> Node<M> {
    /// Opens the data directory, rebuilds `machine` from it and joins in. A fresh directory waits to be bootstrapped or added.
    ///
    /// # Errors
    /// A directory that must not be used: see [`StorageError`].
    pub async fn start(config: Config, machine: Arc<RwLock<M>>) -> Result<Self, StartError> {
        let raft_config = Arc::new(config.raft().validate()?);
        let Opened { state, log, state_machine, applied } = {
            let (config, machine) = (config.clone(), machine.clone());
            let opened = tokio::task::spawn_blocking(move || {
                open(&config.dir, &config.cluster, config.member, machine)
            });
            opened.await.map_err(|error| StartError::Raft { reason: error.to_string() })??
        };
        let thread = super::sync::spawn(log.syncer()).map_err(StartError::Thread)?;
        let caller = Arc::new(Caller {
            cluster: config.cluster.clone(),
            member: config.member,
            bearer: Bearer::new(&config.secret),
            tls: config.tls.clone(),
        });
        let raft = Raft::new(config.member, raft_config, Network(caller.clone()), log.clone(), state_machine)
            .await
            .map_err(|error| StartError::Raft { reason: error.to_string() })?;
        let status = watch_status(&raft);
        let sync_thread = Mutex::new(Some(thread));
        Ok(Self(Arc::new(Inner { raft, machine, caller, config, state, log, applied, status, sync_thread })))
    }

    /// The service for other members, to be added to the member's listener.
    #[must_use]
    pub fn service(&self) -> Server<M> {
        let inner = &self.0;
        Service::server(
            self.clone(),
            inner.raft.clone(),
            inner.state.clone(),
            inner.config.cluster.clone(),
            &inner.config.secret,
            inner.config.member,
        )
    }

    /// Makes a cluster of these members (usually one), on one of them, once.
    ///
    /// # Errors
    /// A member that is part of a cluster already.
    pub async fn bootstrap(
        &self,
        members: impl IntoIterator<Item = (u64, String)>,
    ) -> Result<(), MembershipError> {
        let members: BTreeMap<u64, BasicNode> =
            members.into_iter().map(|(id, address)| (id, BasicNode::new(address))).collect();
        self.0.raft.initialize(members).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => MembershipError::Bootstrapped,
            RaftError::APIError(error) => MembershipError::Refused { reason: error.to_string() },
            RaftError::Fatal(error) => MembershipError::Fatal { reason: error.to_string() },
        })
    }

    /// Proposes one entry and waits until it is on disk on a majority and applied here. Many may be in flight at once; they share
    /// writes and syncs.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, batch: &M::Batch) -> Result<M::Replies, ProposeError> {
        let bytes = encode(batch).map_err(ProposeError::Encode)?;
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), limit: ENTRY_BYTES_MAX });
        }
        // A leader whose majority has not answered for an election timeout, or not yet, accepts nothing; that passes within a
        // heartbeat or ends its leadership. Nothing was proposed, so trying again is safe.
        let deadline = tokio::time::Instant::now() + self.0.config.election.1;
        let written = loop {
            match self.0.raft.client_write(Blob(bytes.clone())).await {
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))
                    if to.reason == ForwardReason::LeaseExpired && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(LEASE_RETRY).await;
                }
                written => break written,
            }
        };
        match written {
            Ok(done) => done
                .data
                .ok_or_else(|| ProposeError::Fatal { reason: "an entry was applied without a reply".into() }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader { leader: leader(to) })
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(to))) => {
                Err(ProposeError::Unknown { leader: leader(to) })
            }
            Err(error) => Err(ProposeError::Fatal { reason: error.to_string() }),
        }
    }

    /// Confirms with a majority that this member leads now; returns the index up to which a read that starts now must see.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`], [`ReadError::NoQuorum`], [`ReadError::Fatal`].
    pub async fn confirm_leadership(&self) -> Result<u64, ReadError> {
        match self.0.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(ReadError::NotLeader { leader: leader(to) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
            Err(RaftError::Fatal(error)) => Err(ReadError::Fatal { reason: error.to_string() }),
        }
    }

    /// Waits until a read of the state here sees all that was acknowledged before the call, on the leader or a follower.
    /// Returns the index.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn linearizable_read_index(&self) -> Result<u64, ReadError> {
        let leader = self.0.status.borrow().leader.clone();
        let index = match leader {
            None => return Err(ReadError::NoLeader),
            Some((id, _)) if id == self.0.config.member => self.confirm_leadership().await?,
            Some((_, address)) => self
                .0
                .caller
                .read_index(&address)
                .await
                .map_err(|status| ReadError::LeaderUnreachable { reason: status.message().to_owned() })?,
        };
        self.wait_applied(index).await?;
        Ok(index)
    }

    /// Waits until the entry at `index` is applied here.
    ///
    /// # Errors
    /// [`ReadError::Fatal`] when the member stops.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ReadError> {
        let mut applied = self.0.applied.clone();
        let wait = applied.wait_for(|applied| *applied >= index).await;
        wait.map(|_| ()).map_err(|_| ReadError::Fatal { reason: "the state machine ended".into() })
    }

    /// The index of the last applied entry, to be watched.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.0.applied.clone()
    }

    /// Role, leader, term and members, to be watched.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status.clone()
    }

    /// The replicated state.
    #[must_use]
    pub fn machine(&self) -> &Arc<RwLock<M>> {
        &self.0.machine
    }

    /// The rows of the state on disk, also those that the machine does not hold in memory.
    #[must_use]
    pub fn rows(&self) -> Arc<dyn Rows> {
        Arc::new(DiskRows(self.0.state.clone()))
    }

    /// The databases of state and log: to watch their failure, and to look through them.
    #[must_use]
    pub fn disks(&self) -> [Arc<RocksDisk>; 2] {
        [self.0.state.clone(), self.0.log.disk()]
    }

    /// Adds a member that receives the log and does not vote yet; returns once it has caught up.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn add_learner(&self, id: u64, address: String) -> Result<(), MembershipError> {
        let raft = &self.0.raft;
        let added = raft.add_learner(id, BasicNode::new(address), false).await.map_err(membership)?;
        let target = added.log_id.index;
        let waiter = raft.wait(None);
        let wait = waiter.metrics(
            |metrics| match &metrics.replication {
                Some(replication) => replication
                    .get(&id)
                    .is_some_and(|matched| matched.as_ref().is_some_and(|matched| matched.index >= target)),
                None => true,
            },
            "a learner catches up",
        );
        let metrics = wait.await.map_err(|error| MembershipError::Fatal { reason: error.to_string() })?;
        match metrics.replication {
            Some(_) => Ok(()),
            None => Err(MembershipError::NotLeader { leader: self.0.status.borrow().leader.clone() }),
        }
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn promote(&self, id: u64) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes a member out. Its id is not used again.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn remove(&self, id: u64) -> Result<(), MembershipError> {
        let voter = self.0.status.borrow().members.iter().any(|member| member.id == id && member.voter);
        if voter {
            self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
        } else {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await
        }
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), MembershipError> {
        self.0.raft.change_membership(change, false).await.map(|_| ()).map_err(membership)
    }

    /// Asks another voter to take over. Watch [`Node::status`] for the outcome.
    ///
    /// # Errors
    /// [`MembershipError::Fatal`].
    pub async fn transfer_leader(&self, to: u64) -> Result<(), MembershipError> {
        self.0
            .raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|error| MembershipError::Fatal { reason: error.to_string() })
    }

    /// Makes a snapshot now.
    ///
    /// # Errors
    /// [`MembershipError::Fatal`].
    pub async fn snapshot(&self) -> Result<(), MembershipError> {
        self.0
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|error| MembershipError::Fatal { reason: error.to_string() })
    }

    /// The index of the newest snapshot and the first index still in the log, for operators and tests.
    #[must_use]
    pub fn log_bounds(&self) -> (Option<u64>, u64) {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.snapshot.map(|id| id.index), metrics.purged.map_or(0, |id| id.index + 1))
    }

    /// Waits until the log begins at `first` or later, as older entries are in a snapshot.
    ///
    /// # Errors
    /// [`ReadError::Fatal`].
    pub async fn wait_log_begins(&self, first: u64) -> Result<(), ReadError> {
        let waiter = self.0.raft.wait(None);
        let wait = waiter
            .metrics(|metrics| metrics.purged.is_some_and(|id| id.index + 1 >= first), "the log is purged");
        wait.await.map(|_| ()).map_err(|error| ReadError::Fatal { reason: error.to_string() })
    }

    /// Stops: nothing is acknowledged afterwards, all that was is on disk. The databases close with the last clone.
    pub async fn shutdown(&self) {
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "raft ended badly");
        }
        self.0.log.syncer().stop();
        let thread = self.0.sync_thread.lock().take();
        let state = self.0.state.clone();
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread
                && thread.join().is_err()
            {
                tracing::error!("the log's sync thread panicked");
            }
            use crate::storage::Disk;
            state.sync()
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "the state was not synced; its tail will be applied again");
        }
    }
}

fn leader<A: super::machine::Answer>(to: ForwardToLeader<Types<A, Tokio>>) -> Leader {
    Some((to.leader_id?, to.leader_node?.addr))
}

fn membership<A: super::machine::Answer>(
    error: RaftError<Types<A, Tokio>, ClientWriteError<Types<A, Tokio>>>,
) -> MembershipError {
    match error {
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        ) => MembershipError::NotLeader { leader: leader(to) },
        RaftError::APIError(error) => MembershipError::Refused { reason: error.to_string() },
        RaftError::Fatal(error) => MembershipError::Fatal { reason: error.to_string() },
    }
}

/// Translates openraft's metrics into [`Status`] as they change.
fn watch_status<M: Machine>(raft: &Raft<C<M>, Sm<M>>) -> watch::Receiver<Status> {
    let mut metrics = raft.server_metrics();
    let (sender, receiver) = watch::channel(status_of(&metrics.borrow_watched()));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let status = status_of(&metrics.borrow_watched());
            sender.send_if_modified(|known| {
                let changed = *known != status;
                *known = status;
                changed
            });
            if sender.is_closed() {
                return;
            }
        }
        sender.send_modify(|status| {
            status.role = Role::Stopped;
            status.leader = None;
        });
    });
    receiver
}

fn status_of<A: super::machine::Answer>(metrics: &RaftServerMetrics<Types<A, Tokio>>) -> Status {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let members: Vec<Member> = membership
        .nodes()
        .map(|(id, node)| Member { id: *id, address: node.addr.clone(), voter: voters.contains(id) })
        .collect();
    let leader = metrics
        .current_leader
        .and_then(|id| members.iter().find(|member| member.id == id))
        .map(|member| (member.id, member.address.clone()));
    let role = match metrics.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    };
    Status { member: metrics.id, role, leader, term: metrics.vote.leader_id.term, members }
}
