//! Members on the deterministic runtime: the real log store and state machine on memory disks, an in-process network with delays and
//! isolation, crashes that drop what was not synced, disks that die or lose the end of their log. Members come and go; ids do not return.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;
use openraft::{BasicNode, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2};
use openraft_rt_sim::SimRuntime;
use parking_lot::{Mutex, RwLock};

use super::ledger::{History, Ledger};
use super::sim_plants::{Plant, SimDisk, Store};
use crate::raft::elections;
use crate::raft::log_store::{LogStore, Open};
use crate::raft::node::Config;
use crate::raft::open::check_promise;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Types, Vote, promise};
use crate::storage::memory::MemoryMark;
use crate::storage::{Disk, Mark};

pub type C = Types<Vec<u64>, SimRuntime>;
type Sm = StateMachine<Ledger, SimRuntime, SimDisk>;
pub type SimRaft = Raft<C, Sm>;
type Sent = <SimDisk as Disk>::Snapshot;

thread_local! {
    /// The world's own dice: the runtime's are of a crate version that the workspace does not have.
    static DICE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Makes [`draw`] a function of the seed. The runtime is single-threaded.
pub fn seed_dice(seed: u64) {
    DICE.set(seed);
}

/// A number below `limit`, drawn from the seed (SplitMix64).
pub fn draw(limit: u64) -> u64 {
    let state = DICE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    DICE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % limit
}

/// One life of a member, from a start to a crash.
pub struct Life {
    pub raft: SimRaft,
    pub machine: Arc<RwLock<Ledger>>,
    pub alive: Arc<AtomicBool>,
    log: Arc<SimDisk>,
    state: Arc<SimDisk>,
    mark: Arc<MemoryMark>,
}

/// What a crash leaves of a member: log, state, mark.
pub struct Left(SimDisk, SimDisk, MemoryMark);

impl Left {
    /// The disk lost the last entries of the log, whatever it had said.
    pub fn lose_tail(&mut self, count: u64, plant: Option<Plant>) {
        self.0.lose_tail(count);
        if plant == Some(Plant::ForgetsMark) {
            self.2 = MemoryMark::default();
        }
    }
}

/// A member that does not start: its log ends before what it promised.
#[derive(Debug)]
pub struct Refused(pub String);

#[derive(Default)]
pub struct World {
    pub members: Mutex<BTreeMap<u64, Arc<Life>>>,
    pub isolated: Mutex<BTreeSet<u64>>,
    pub history: History,
    pub plant: Option<Plant>,
    /// How long a sync takes, from and to, µs; a healthy disk's when none.
    pub sync_us: Option<(u64, u64)>,
    /// Ids that were given out.
    ids: AtomicU64,
}

impl World {
    pub fn planted(plant: Option<Plant>) -> Arc<Self> {
        Arc::new(Self { plant, ..Self::default() })
    }

    /// Disks whose syncs take as long as that.
    pub fn with_syncs(sync_us: Option<(u64, u64)>) -> Arc<Self> {
        Arc::new(Self { sync_us, ..Self::default() })
    }

    pub fn member(&self, id: u64) -> Option<Arc<Life>> {
        self.members.lock().get(&id).cloned()
    }

    /// The members that run.
    pub fn running(&self) -> Vec<u64> {
        self.members.lock().keys().copied().collect()
    }

    /// One of those that run.
    pub fn any(&self) -> Option<u64> {
        let running = self.running();
        let at = draw(running.len().max(1) as u64);
        running.get(usize::try_from(at).expect("small")).copied()
    }

    /// Starts an empty member under an id that nobody had.
    pub async fn start_new(self: &Arc<Self>) -> u64 {
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        self.start_empty(id).await;
        id
    }

    /// Starts a member on empty disks.
    pub async fn start_empty(self: &Arc<Self>, id: u64) {
        let (log, state) = (SimDisk::empty(Store::Log, self.plant), SimDisk::empty(Store::State, self.plant));
        self.start(id, log, state, MemoryMark::default()).await.expect("an empty member starts");
    }

    /// Starts a member on these disks.
    async fn start(
        self: &Arc<Self>,
        id: u64,
        log: SimDisk,
        state: SimDisk,
        mark: MemoryMark,
    ) -> Result<(), Refused> {
        let (log, state, mark) = (Arc::new(log), Arc::new(state), Arc::new(mark));
        let machine = Arc::new(RwLock::new(Ledger { history: self.history.clone(), ..Ledger::default() }));
        let state_machine: Sm = StateMachine::open(state.clone(), machine.clone(), "sim", Path::new("state"))
            .expect("the state opens");
        let alive = Arc::new(AtomicBool::new(true));
        let synced = state.clone();
        // The sync of the disk takes its time, as a task; the queue is known only after the store is made.
        #[allow(clippy::type_complexity)]
        let rounds: Arc<Mutex<Option<Arc<dyn Fn() + Send + Sync>>>> = Arc::default();
        let wake = rounds.clone();
        let (least, most) = self.sync_us.unwrap_or((100, 8_100));
        let store: LogStore<Vec<u64>, SimRuntime, SimDisk> = LogStore::open(
            Open {
                disk: log.clone(),
                mark: mark.clone(),
                sync_state: Box::new(move || synced.sync()),
                wake: Some(Box::new(move || {
                    let Some(round) = wake.lock().clone() else { return };
                    let delay = Duration::from_micros(least + draw(most - least));
                    C::spawn(async move {
                        C::sleep(delay).await;
                        round();
                    });
                })),
            },
            Path::new("log"),
        )
        .expect("the log opens");
        let syncer = store.syncer();
        *rounds.lock() = Some(Arc::new(move || {
            syncer.round();
        }));
        let last = store.last().max(state_machine.applied().as_ref().map(promise)).unwrap_or_default();
        let promised = mark.get();
        if let Some(promised) = promised.vote {
            assert!(
                store.vote().is_some_and(|vote| vote.covers(promised)),
                "member {id} forgot its vote: {promised}"
            );
        }
        if let Some(promised) = promised.entry {
            check_promise(last, promised)
                .map_err(|()| Refused(format!("member {id} lost what it promised: {last}, {promised}")))?;
        }
        let config = Config { snapshot_entries: 40, keep_entries: 5, ..Config::new("unused", "sim", id, "") };
        let timing = config.timing();
        let config = Arc::new(config.raft().validate().expect("valid"));
        let network = Router { world: self.clone(), from: id, alive: alive.clone() };
        let raft = Raft::new(id, config, network, store, state_machine).await.expect("raft starts");
        C::spawn(elections::run(raft.clone(), timing, draw));
        let life = Arc::new(Life { raft, machine, alive, log, state, mark });
        self.members.lock().insert(id, life);
        Ok(())
    }

    /// Three empty members, bootstrapped.
    pub async fn three(self: &Arc<Self>) {
        for _ in 0..3 {
            self.start_new().await;
        }
        let members: BTreeMap<u64, BasicNode> =
            (1..=3).map(|id| (id, BasicNode::new(id.to_string()))).collect();
        self.member(1).expect("runs").raft.initialize(members).await.expect("bootstraps");
    }

    /// Pulls the plug: of the writes not yet synced a prefix survives, on each disk its own.
    pub async fn crash(self: &Arc<Self>, id: u64) -> Option<Left> {
        let life = self.members.lock().remove(&id)?;
        life.alive.store(false, Ordering::Relaxed);
        let kept = |disk: &SimDisk| usize::try_from(draw(disk.unsynced() as u64 + 1)).expect("small");
        let left = Left(
            life.log.after_crash(kept(&life.log)),
            life.state.after_crash(kept(&life.state)),
            life.mark.after_crash(),
        );
        let _ = life.raft.shutdown().await;
        Some(left)
    }

    /// Starts again on what is left.
    pub async fn restart(self: &Arc<Self>, id: u64, left: Left) -> Result<(), Refused> {
        self.start(id, left.0, left.1, left.2).await
    }

    fn reachable(&self, from: u64, to: u64) -> bool {
        let isolated = self.isolated.lock();
        !isolated.contains(&from) && !isolated.contains(&to)
    }
}

/// The network of one life of a member.
pub struct Router {
    world: Arc<World>,
    from: u64,
    alive: Arc<AtomicBool>,
}

impl RaftNetworkFactory<C> for Router {
    type Network = Wire;
    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Wire {
        Wire { world: self.world.clone(), from: self.from, to: target, alive: self.alive.clone() }
    }
}

/// From one member to another.
pub struct Wire {
    world: Arc<World>,
    from: u64,
    to: u64,
    alive: Arc<AtomicBool>,
}

fn lost() -> Unreachable<C> {
    Unreachable::new(&io::Error::from(io::ErrorKind::ConnectionReset))
}

impl Wire {
    /// A request travels, is answered by the life that received it, and the answer travels; each may be lost.
    async fn call<T, F: Future<Output = Option<T>>>(
        &self,
        act: impl FnOnce(SimRaft) -> F,
    ) -> Result<T, Unreachable<C>> {
        C::sleep(Duration::from_micros(200 + draw(5_000))).await;
        let open = || self.alive.load(Ordering::Relaxed) && self.world.reachable(self.from, self.to);
        if !open() || draw(100) == 0 {
            return Err(lost());
        }
        let life = self.world.member(self.to).ok_or_else(lost)?;
        let reply = act(life.raft.clone()).await;
        C::sleep(Duration::from_micros(200 + draw(5_000))).await;
        if !open() || !life.alive.load(Ordering::Relaxed) || draw(100) == 0 {
            return Err(lost());
        }
        reply.ok_or_else(lost)
    }
}

impl RaftNetworkV2<C> for Wire {
    type SnapshotData = Sent;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        Ok(self.call(async |raft: SimRaft| raft.append_entries(request).await.ok()).await?)
    }

    async fn vote(&mut self, request: VoteRequest<C>, _: RPCOption) -> Result<VoteResponse<C>, RPCError<C>> {
        Ok(self.call(async |raft: SimRaft| raft.vote(request).await.ok()).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<C>,
        _: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        Ok(self.call(async |raft: SimRaft| raft.pre_vote(request).await.ok()).await?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        Ok(self.call(async |raft: SimRaft| raft.handle_transfer_leader(request).await.ok()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<C, Sent>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let reply =
            self.call(async |raft: SimRaft| raft.install_full_snapshot(vote, snapshot).await.ok()).await;
        reply.map_err(StreamingError::Unreachable)
    }
}
