//! What is durable: keys and rows. Derived maps are rebuilt from them; nothing else of the state survives a restart.

use super::indices::BlockRow;
use super::job::Phase;
use crate::dag::Parents;
use crate::ledger::{Account, JobBooks, Meter, Tab, Totals};
use crate::model::artifact::Artifact;
use crate::model::attempt::{Attempt, Cause};
use crate::model::breaker::{Breaker, BreakerKey};
use crate::model::budget::{BudgetRow, Scope};
use crate::model::checkpoint::Checkpoint;
use crate::model::device_record::DeviceRecord;
use crate::model::fleet::{Fleet, PoolScale};
use crate::model::ids::{IndexRef, JobId, MemberId, TaskNo, Token, WorkerId};
use crate::model::job::IndexState;
use crate::model::placement::Seat;
use crate::model::pool::PoolRecord;
use crate::model::ranges::Ranges;
use crate::model::time::{Stamp, Tick};
use crate::model::worker::Worker;
use crate::reply::Reply;
use crate::spec::SpecBytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use super::indices::Memory;

/// Names a row. Their order is the order in which they are restored: a job before its tasks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    Meta,
    /// Written once: it is large.
    Spec(JobId),
    Job(JobId),
    Task(JobId, TaskNo),
    /// Block number of an array.
    Block(JobId, TaskNo, u32),
    /// Artifacts of one index.
    Artifacts(JobId, TaskNo, u32),
    Worker(WorkerId),
    Live(Token),
    /// Request key, `user/id`.
    Request(String),
    /// A staged part of a submission.
    Part(String, u32),
    /// Absent until the first member joins a cluster of this version.
    Members,
    /// UUID; absent while nothing has happened to the device.
    Device(String),
    /// Absent while nothing has failed.
    Breaker(BreakerKey),
    /// Committed checkpoints of one index, the oldest first; absent while there are none.
    Checkpoints(IndexRef),
    /// What is remembered of a pool's workers; absent until one came.
    Pool(String),
    /// The pools as configured; absent while there are none.
    Fleet,
    /// How far the scaling of a pool has got; absent until it was changed.
    Scale(String),
    /// What the ledger's books come to; absent until something was counted.
    Ledger,
    /// By its number.
    Account(u64),
    /// Absent while nothing of the worker is counted.
    Meter(WorkerId),
    /// What a live attempt has been doing; absent while nothing of it is counted.
    Tab(Token),
    /// What was booked for a job in memory.
    Spent(JobId),
    Budget(Scope),
}

/// The value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    Meta(Meta),
    Spec(SpecBytes),
    Job(Box<JobRow>),
    Task(Box<TaskRow>),
    Block(BlockRow),
    Artifacts(Vec<Artifact>),
    Worker(Box<Worker>),
    Live(Box<Attempt>),
    Request(RequestRow),
    Part(PartRow),
    Members(MembersRow),
    Device(Box<DeviceRecord>),
    Breaker(Box<Breaker>),
    Checkpoints(Vec<Checkpoint>),
    Pool(PoolRecord),
    Fleet(Box<Fleet>),
    Scale(PoolScale),
    Ledger(Box<Totals>),
    Account(Box<Account>),
    Meter(Box<Meter>),
    Tab(Box<Tab>),
    Spent(Box<JobBooks>),
    Budget(Box<BudgetRow>),
}

/// The counters of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    pub tick: Tick,
    pub last_job: u64,
    pub last_worker: u64,
    pub last_token: u64,
}

/// A job without its spec and its tasks' fates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    pub request: String,
    pub user: String,
    pub submitted: Stamp,
    pub started: Option<Stamp>,
    pub ended: Option<Stamp>,
    pub held: bool,
    pub cancelled: bool,
    pub first_failure: Option<Cause>,
    pub retried: u64,
    pub lost: u64,
}

/// A task's fate; absent while it is what the spec alone says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    pub phase: Phase,
    pub held: bool,
    pub parents: Parents,
    pub reason: Option<String>,
    /// State and memory of the one index of a task without an array.
    pub one: Option<(IndexState, Option<Memory>)>,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    pub digest: [u8; 32],
    pub reply: Reply,
    pub tick: Tick,
    /// Kept at least as long as this job's row.
    pub job: Option<JobId>,
}

/// The ids of members. Who is a member is in Raft's own membership; here is only which ids are spent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MembersRow {
    /// The last id given.
    pub last: MemberId,
    /// Those who have an id and do not vote yet.
    pub admissions: BTreeMap<MemberId, Admission>,
}

/// A member on its way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// What the member asks again with when the answer was lost.
    pub request: String,
    pub address: String,
    /// The member that leaves in the same change.
    pub replace: Option<MemberId>,
}

/// A staged part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRow {
    pub bytes: Vec<u8>,
    pub tick: Tick,
}

/// An attempt that ended: written once, never held in memory. Its key is (job, task, index, number).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub at: IndexRef,
    pub number: u32,
    pub token: Token,
    /// By rank, as in the attempt.
    pub seats: Vec<Seat>,
    pub cause: Cause,
    pub placed: Stamp,
    pub started: Option<Stamp>,
    pub ended: Stamp,
    /// Another attempt follows by itself.
    pub retried: bool,
    /// The step that it began from; none: from nothing.
    pub resumed: Option<u64>,
    /// The newest step that it committed.
    pub committed: Option<u64>,
    /// When it was asked to stop.
    pub asked: Option<Stamp>,
}

/// What one command touched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub keys: BTreeSet<Key>,
    pub history: Vec<History>,
    /// For the leader's view: tasks whose pending indices have to be looked at anew …
    pub reread: BTreeMap<JobId, Ranges>,
    /// … and single indices that may be placed again.
    pub returned: Vec<IndexRef>,
}

impl Changes {
    /// The task's pending indices have to be looked at anew.
    pub(super) fn reread(&mut self, job: JobId, task: TaskNo) {
        self.reread.entry(job).or_default().insert(task.0);
    }

    /// Adds what a later command touched.
    pub fn merge(&mut self, mut later: Self) {
        // `append` walks both sets: four thousand reports in one entry would walk eight million keys.
        if self.keys.len() < later.keys.len() {
            std::mem::swap(&mut self.keys, &mut later.keys);
        }
        self.keys.extend(later.keys);
        self.history.append(&mut later.history);
        for (job, tasks) in later.reread {
            tasks.iter().for_each(|no| self.reread(job, TaskNo(no)));
        }
        self.returned.append(&mut later.returned);
    }
}
