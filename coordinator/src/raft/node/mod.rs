//! [`Node`]: one member of the Raft group as the rest of the coordinator sees it. No type of openraft is in a signature.
//!
//! `config` what it is told · `propose` the log and reads · `confirm` whether it still leads · `membership` who is in · `transfer` who leads · `status` how all are ·
//! `snapshot` copies of the state · `error` why not.

mod config;
mod confirm;
mod error;
mod membership;
mod propose;
mod snapshot;
mod status;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use muster_proto::channel::Bearer;
use openraft::errors::{InitializeError, RaftError};
use openraft::{BasicNode, Raft};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::elections;
use super::log_store::LogStore;
use super::machine::{Machine, Rows};
use super::network::{Caller, Network};
use super::open::{Opened, open};
use super::service::{Heard, Server, Service};
use super::state_machine::{DiskRows, StateMachine};
use super::types::{Tokio, Types};
use crate::storage::RocksDisk;
use crate::vital::Vital;

use confirm::Confirmer;

pub use config::Config;
pub use error::{Leader, MembershipError, ProposeError, ReadError, StartError};
pub use propose::ENTRY_BYTES_MAX;
pub use snapshot::Copy;
pub use status::{Member, Peer, Role, Status};
pub use transfer::Transfer;

type C<M> = Types<<M as Machine>::Replies, Tokio>;
type Sm<M> = StateMachine<M, Tokio, RocksDisk>;

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
    /// One change of the membership at a time: it is two entries, and nothing else may come between them.
    changing: tokio::sync::Mutex<()>,
    heard: Arc<Heard>,
    confirmer: Confirmer,
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
    /// A directory that must not be used: see `StorageError`.
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
        let caller = Arc::new(Caller::new(
            config.cluster.clone(),
            config.member,
            Bearer::new(&config.secret),
            config.tls.clone(),
        ));
        let raft = Raft::new(config.member, raft_config, Network(caller.clone()), log.clone(), state_machine)
            .await
            .map_err(|error| StartError::Raft { reason: error.to_string() })?;
        let timing = config.timing();
        let elections = elections::run(raft.clone(), timing, |limit| rand::random_range(0..limit));
        tokio::spawn(async move {
            let _vital = Vital("elections");
            elections.await;
        });
        let status = status::watch_status(&raft);
        let confirmer = Confirmer::spawn(raft.clone(), caller.clone(), config.member, config.election.1);
        let sync_thread = Mutex::new(Some(thread));
        let changing = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner {
            raft,
            machine,
            caller,
            config,
            state,
            log,
            applied,
            status,
            sync_thread,
            changing,
            heard: Arc::default(),
            confirmer,
        })))
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
            inner.heard.clone(),
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

    /// The greatest term that this member has voted in or followed.
    pub(in crate::raft) fn promised_term(&self) -> u64 {
        self.0.log.term()
    }

    /// The replicated state.
    #[must_use]
    pub fn machine(&self) -> &Arc<RwLock<M>> {
        &self.0.machine
    }

    /// For how long no leader has sent anything here.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.0.heard.elapsed()
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
