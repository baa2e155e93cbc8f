//! The maps, and what can be read of them.

use super::job::Job;
use super::rows::{Admission, Key, MembersRow, Meta, PartRow, RequestRow, Row};
use crate::ledger::{Ledger, Totals};
use crate::model::attempt::Attempt;
use crate::model::breaker::{Breaker, BreakerKey};
use crate::model::checkpoint::Checkpoint;
use crate::model::device_record::DeviceRecord;
use crate::model::fleet::{Fleet, PoolScale};
use crate::model::ids::{IndexRef, JobId, MemberId, TaskNo, Token, WorkerId};
use crate::model::placement::{DeviceUse, Share, WHOLE};
use crate::model::pool::PoolRecord;
use crate::model::resources::Resources;
use crate::model::time::Tick;
use crate::model::worker::Worker;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What the live attempts of a worker take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used {
    pub cpu_milli: u64,
    pub memory: u64,
    pub disk: u64,
    /// Devices of which something is taken.
    pub devices: BTreeMap<u16, DeviceUse>,
    /// Devices on which somebody else computes: known to a leader's view alone, from what workers measure.
    pub foreign: BTreeSet<u16>,
}

impl Used {
    /// One more attempt takes these; its shares say their memory in bytes.
    pub fn take(&mut self, resources: &Resources, shares: &[Share]) {
        self.cpu_milli += resources.cpu_milli;
        self.memory += resources.memory;
        self.disk += resources.disk;
        for share in shares {
            let taken = self.devices.entry(share.device).or_default();
            taken.milli += share.milli;
            taken.memory += share.memory;
        }
    }

    /// An attempt that took these is over.
    pub fn give_back(&mut self, resources: &Resources, shares: &[Share]) {
        self.cpu_milli = self.cpu_milli.saturating_sub(resources.cpu_milli);
        self.memory = self.memory.saturating_sub(resources.memory);
        self.disk = self.disk.saturating_sub(resources.disk);
        for share in shares {
            if let Entry::Occupied(mut taken) = self.devices.entry(share.device) {
                let use_ = taken.get_mut();
                use_.milli = use_.milli.saturating_sub(share.milli);
                use_.memory = use_.memory.saturating_sub(share.memory);
                if use_.milli == 0 {
                    taken.remove();
                }
            }
        }
    }

    /// What is taken of a device.
    #[must_use]
    pub fn device(&self, number: u16) -> DeviceUse {
        self.devices.get(&number).copied().unwrap_or_default()
    }

    /// Whether a device of `total` bytes has room for the share beside what is taken.
    #[must_use]
    pub fn has_room(&self, share: &Share, total: u64) -> bool {
        let taken = self.device(share.device);
        taken.milli + share.milli <= WHOLE && taken.memory.saturating_add(share.bytes(total)) <= total
    }
}

/// The replicated state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    pub(super) meta: Meta,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) live: BTreeMap<Token, Attempt>,
    pub(super) requests: BTreeMap<String, RequestRow>,
    pub(super) parts: BTreeMap<(String, u32), PartRow>,
    pub(super) members: MembersRow,
    pub(super) devices: BTreeMap<String, DeviceRecord>,
    pub(super) breakers: BTreeMap<BreakerKey, Breaker>,
    /// What is kept of each index, the oldest first; never empty.
    pub(super) checkpoints: BTreeMap<IndexRef, Vec<Checkpoint>>,
    /// By name.
    pub(super) pools: BTreeMap<String, PoolRecord>,
    pub(super) fleet: Fleet,
    /// By pool.
    pub(super) scales: BTreeMap<String, PoolScale>,
    /// Where time and money went.
    pub(super) ledger: Ledger,
    // Derived: never stored.
    pub(super) names: BTreeMap<String, WorkerId>,
    pub(super) by_index: BTreeMap<IndexRef, Token>,
    pub(super) loads: BTreeMap<WorkerId, Load>,
}

/// The live attempts of a worker, and what they take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub used: Used,
    pub tokens: BTreeSet<Token>,
}

impl State {
    /// The empty state of a new cluster.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The committed checkpoints of an index that are kept, the oldest first.
    #[must_use]
    pub fn checkpoints(&self, at: IndexRef) -> &[Checkpoint] {
        self.checkpoints.get(&at).map_or(&[], Vec::as_slice)
    }

    /// The committed checkpoints of a job that are kept, by task and index, the oldest of each first.
    pub fn checkpoints_of(
        &self,
        job: JobId,
        task: Option<TaskNo>,
    ) -> impl Iterator<Item = (IndexRef, &Checkpoint)> {
        let from = IndexRef::new(job, task.unwrap_or(TaskNo(0)), 0);
        let to = IndexRef::new(job, task.unwrap_or(TaskNo(u32::MAX)), u32::MAX);
        let found = self.checkpoints.range(from..=to);
        found.flat_map(|(at, kept)| kept.iter().map(|checkpoint| (*at, checkpoint)))
    }

    /// The newest committed checkpoint of each index of a task.
    pub fn newest_checkpoints(&self, job: JobId, task: TaskNo) -> impl Iterator<Item = &Checkpoint> {
        let range = IndexRef::new(job, task, 0)..=IndexRef::new(job, task, u32::MAX);
        self.checkpoints.range(range).filter_map(|(_, kept)| kept.last())
    }

    /// What is remembered of each pool's workers, by its name.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<String, PoolRecord> {
        &self.pools
    }

    /// The pools as configured.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// How far the scaling of each pool has got, by its name.
    #[must_use]
    pub fn scales(&self) -> &BTreeMap<String, PoolScale> {
        &self.scales
    }

    /// The tick of the last entry.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.meta.tick
    }

    /// The highest fencing token granted so far.
    #[must_use]
    pub fn last_token(&self) -> Token {
        Token(self.meta.last_token)
    }

    /// The last id that a job got; an id up to it that is not in memory has left it for good.
    #[must_use]
    pub fn last_job(&self) -> JobId {
        JobId(self.meta.last_job)
    }

    /// The last id that a member got; an id up to it that is not in the membership has left it for good.
    #[must_use]
    pub fn last_member(&self) -> MemberId {
        self.members.last
    }

    /// Members that have an id and do not vote yet.
    #[must_use]
    pub fn admissions(&self) -> &BTreeMap<MemberId, Admission> {
        &self.members.admissions
    }

    /// Jobs in memory, oldest first.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    /// The job, while it is in memory.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// All workers that ever registered and were not removed.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> + Clone {
        self.workers.values()
    }

    /// The worker with this id.
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// The worker of this name.
    #[must_use]
    pub fn worker_named(&self, name: &str) -> Option<&Worker> {
        self.workers.get(self.names.get(name)?)
    }

    /// What the worker's live attempts take.
    #[must_use]
    pub fn used(&self, id: WorkerId) -> Used {
        self.loads.get(&id).map(|load| load.used.clone()).unwrap_or_default()
    }

    /// What the worker's live attempts with tokens above `after` take.
    pub(super) fn used_after(&self, id: WorkerId, after: Token) -> Used {
        let mut used = Used::default();
        for token in self.tokens_of(id).into_iter().filter(|t| *t > after) {
            let attempt = &self.live[&token];
            let (Some(job), Some((_, seat))) = (self.jobs.get(&attempt.at.job), attempt.seat_on(id)) else {
                continue;
            };
            used.take(&job.common(attempt.at.task).resources, &seat.devices);
        }
        used
    }

    /// Live attempts by token.
    pub fn live(&self) -> impl Iterator<Item = &Attempt> {
        self.live.values()
    }

    /// Live attempts of one job.
    pub fn live_of_job(&self, job: JobId) -> impl Iterator<Item = &Attempt> {
        let from = IndexRef::new(job, TaskNo(0), 0);
        let to = IndexRef::new(job, TaskNo(u32::MAX), u32::MAX);
        self.by_index.range(from..=to).map(|(_, token)| &self.live[token])
    }

    /// Tokens of the attempts that live on a worker.
    #[must_use]
    pub fn tokens_of(&self, worker: WorkerId) -> Vec<Token> {
        self.loads.get(&worker).map(|load| load.tokens.iter().copied().collect()).unwrap_or_default()
    }

    /// The live attempt with this token.
    #[must_use]
    pub fn attempt(&self, token: Token) -> Option<&Attempt> {
        self.live.get(&token)
    }

    /// The live attempt of this index.
    #[must_use]
    pub fn attempt_of(&self, at: IndexRef) -> Option<&Attempt> {
        self.live.get(self.by_index.get(&at)?)
    }

    /// Devices to which something has happened, by UUID; those of workers that are gone too.
    #[must_use]
    pub fn devices(&self) -> &BTreeMap<String, DeviceRecord> {
        &self.devices
    }

    /// Whether the device is out of service.
    #[must_use]
    pub fn is_quarantined(&self, uuid: &str) -> bool {
        self.devices.get(uuid).is_some_and(|record| record.quarantine().is_some())
    }

    /// Breakers of workers and commands in which something has failed lately.
    #[must_use]
    pub fn breakers(&self) -> &BTreeMap<BreakerKey, Breaker> {
        &self.breakers
    }

    /// A digest of every row: equal on replicas that applied the same log.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for key in self.keys() {
            let row: Option<Row> = self.row(&key);
            hasher.update(&postcard::to_extend(&(key, row), Vec::new()).unwrap_or_default());
        }
        *hasher.finalize().as_bytes()
    }

    /// Keys of all rows, in order.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::from([Key::Meta]);
        for (id, job) in &self.jobs {
            keys.extend([Key::Spec(*id), Key::Job(*id)]);
            for (no, run) in job.tasks.iter().enumerate() {
                let no = TaskNo(no as u32);
                keys.insert(Key::Task(*id, no));
                keys.extend(run.indices.touched_blocks().map(|b| Key::Block(*id, no, b)));
                keys.extend(run.indices.with_artifacts().map(|i| Key::Artifacts(*id, no, i)));
            }
        }
        keys.extend(self.workers.keys().map(|id| Key::Worker(*id)));
        keys.extend(self.live.keys().map(|t| Key::Live(*t)));
        keys.extend(self.requests.keys().map(|r| Key::Request(r.clone())));
        keys.extend(self.parts.keys().map(|(r, n)| Key::Part(r.clone(), *n)));
        keys.extend((self.members != MembersRow::default()).then_some(Key::Members));
        keys.extend(self.devices.keys().map(|uuid| Key::Device(uuid.clone())));
        keys.extend(self.breakers.keys().map(|key| Key::Breaker(*key)));
        keys.extend(self.checkpoints.keys().map(|at| Key::Checkpoints(*at)));
        keys.extend(self.pools.keys().map(|name| Key::Pool(name.clone())));
        keys.extend((self.fleet != Fleet::default()).then_some(Key::Fleet));
        keys.extend(self.scales.keys().map(|name| Key::Scale(name.clone())));
        keys.extend((self.ledger.totals != Totals::default()).then_some(Key::Ledger));
        keys.extend(self.ledger.accounts.keys().map(|number| Key::Account(*number)));
        keys.extend(self.ledger.meters.keys().map(|id| Key::Meter(*id)));
        keys.extend(self.ledger.tabs.keys().map(|token| Key::Tab(*token)));
        keys.extend(self.ledger.jobs.keys().map(|id| Key::Spent(*id)));
        keys.extend(self.ledger.budgets.keys().map(|scope| Key::Budget(scope.clone())));
        keys
    }

    pub(super) fn link(&mut self, attempt: Attempt) {
        if let Some(job) = self.jobs.get_mut(&attempt.at.job) {
            job.live += 1;
            let resources = &job.common(attempt.at.task).resources;
            for seat in &attempt.seats {
                let Load { used, tokens } = self.loads.entry(seat.worker).or_default();
                used.take(resources, &seat.devices);
                tokens.insert(attempt.token);
            }
        }
        self.by_index.insert(attempt.at, attempt.token);
        self.live.insert(attempt.token, attempt);
    }

    pub(super) fn unlink(&mut self, token: Token) -> Option<Attempt> {
        let attempt = self.live.remove(&token)?;
        self.by_index.remove(&attempt.at);
        if let Some(job) = self.jobs.get_mut(&attempt.at.job) {
            job.live -= 1;
            let resources = &job.common(attempt.at.task).resources;
            for seat in &attempt.seats {
                let Load { used, tokens } = self.loads.entry(seat.worker).or_default();
                used.give_back(resources, &seat.devices);
                tokens.remove(&token);
            }
        }
        Some(attempt)
    }
}
