//! What may be asked of the state: one variant a command, one entry of the log a [`Batch`] of them.
//!
//! Adding a command: the variant here, its file in `state/apply/`, its rows in `state/rows.rs`, its conversion in `proto`, its
//! use case in the API, its verb in the CLI, its part in the simulator's workload, its page in the docs.

use crate::ledger::EmptyPart;
use crate::model::artifact::Artifact;
use crate::model::attempt::{Outcome, StopReason};
use crate::model::budget::{Budget, Scope};
use crate::model::checkpoint::Saved;
use crate::model::device_event::Judged;
use crate::model::fleet::{Fleet, PoolScale};
use crate::model::idle::IdleAction;
use crate::model::ids::{IndexRef, JobId, MemberId, TaskNo, Token, WorkerId};
use crate::model::notice::Notice;
use crate::model::placement::Seat;
use crate::model::time::{Stamp, Tick};
use crate::model::worker::{Incarnation, WorkerSpec};
use crate::spec::SpecBytes;
use serde::{Deserialize, Serialize};

/// One entry of the log: commands that are applied in order at one index, at one stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Batch {
    pub stamp: Stamp,
    pub commands: Vec<Command>,
}

/// Who asks, and the id that makes asking twice the same as asking once. The id is at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: String,
    pub user: String,
}

/// What a mutation of jobs speaks of: a job, one task of it, or one index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub job: JobId,
    pub task: Option<TaskNo>,
    pub index: Option<u32>,
}

/// Attempt → workers and exact devices, as the plan proposes it: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub at: IndexRef,
    /// One unless it is a gang, each on another worker; the rank is the position.
    pub seats: Vec<Seat>,
    /// Where the ranks meet, on the worker of rank 0; 0 without a gang.
    pub port: u16,
}

impl Placement {
    /// On one worker.
    #[must_use]
    pub fn single(at: IndexRef, seat: Seat) -> Self {
        Self { at, seats: vec![seat], port: 0 }
    }
}

/// What a worker says of an attempt it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub token: Token,
    /// Which rank of the attempt; 0 unless it is a gang.
    pub rank: u32,
    pub at: IndexRef,
    pub kind: ReportKind,
}

/// What can be reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportKind {
    Running,
    /// Its rank has stored a checkpoint, which is to be committed.
    Saved(Saved),
    Ended {
        outcome: Outcome,
        artifacts: Vec<Artifact>,
        /** How long it ran, ms. */
        ran_ms: u64,
    },
}

/// On parts of the seat of an attempt on this worker nothing computed for a while, the earlier ones first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyClaim {
    pub token: Token,
    pub worker: WorkerId,
    pub parts: Vec<EmptyPart>,
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A part of a submission larger than one entry; parts are joined in order by the `Submit` that names their count.
    SubmitPart {
        request: Request,
        part: u32,
        bytes: Vec<u8>,
    },
    /// A new job. `parts` > 0: the spec is the staged parts of this request, joined.
    Submit {
        request: Request,
        spec: SpecBytes,
        parts: u32,
        /// What it is thought to cost, as the member that took it reckoned; none: nobody asked, or it is not known.
        forecast_micro_usd: Option<u64>,
    },
    Cancel {
        request: Request,
        target: Target,
    },
    Hold {
        request: Request,
        target: Target,
    },
    Release {
        request: Request,
        target: Target,
    },
    /// Failed, skipped and cancelled indices of the job become waiting again.
    Rerun {
        request: Request,
        target: Target,
    },
    /// The leader's verdict on a task's `when:`.
    ResolveWhen {
        job: JobId,
        task: TaskNo,
        run: bool,
        reason: String,
    },
    /// All placements of one scheduling cycle; each is checked again.
    ApplyPlan {
        placements: Vec<Placement>,
    },
    /// What a worker reported since the last proposal.
    Reports {
        worker: WorkerId,
        incarnation: Incarnation,
        reports: Vec<Report>,
    },
    /// A worker registers: a new one, one that returns, or a new incarnation. It ends nothing: the leader's lease timer does.
    Register {
        spec: Box<WorkerSpec>,
        incarnation: Incarnation,
        held: Vec<Token>,
    },
    /// The leader's lease timer of this worker ran out.
    LoseWorker {
        worker: WorkerId,
        incarnation: Incarnation,
    },
    /// Attempts whose time is up.
    Stop {
        tokens: Vec<Token>,
        reason: StopReason,
    },
    Drain {
        request: Request,
        worker: WorkerId,
        deadline_ms: Option<u64>,
        reason: String,
    },
    Undrain {
        request: Request,
        worker: WorkerId,
    },
    /// Finished jobs that leave memory, and requests and staged parts that are too old.
    Retire {
        before: Tick,
    },
    /// A member asks to join: it gets an id that nobody had before. Asking again under the same request gives the same id, until
    /// the admission is closed.
    AdmitMember {
        request: String,
        /// How others reach it.
        address: String,
        /// The member whose place it takes once it has caught up.
        replace: Option<MemberId>,
        /// The greatest id of the membership as the leader knows it: the state of an older version counted none.
        floor: MemberId,
    },
    /// The admitted member votes now, or will not come any more. No id up to `floor` is given again: this comes before a removal, so
    /// that a state that never counted knows of the greatest id before it is gone.
    CloseAdmission {
        member: MemberId,
        floor: MemberId,
    },
    /// A worker is said to go, or not to go after all: by itself (`incarnation`) or by a call (`request`).
    Notice {
        request: Option<Request>,
        worker: WorkerId,
        incarnation: Option<Incarnation>,
        notice: Notice,
    },
    /// What a worker saw of its devices, with the leader's verdicts. What was heard before changes nothing.
    DeviceEvents {
        worker: WorkerId,
        incarnation: Incarnation,
        events: Vec<Judged>,
    },
    /// Takes a device out of service; what holds it is evicted.
    QuarantineDevice {
        request: Request,
        uuid: String,
        reason: String,
    },
    /// Puts a device back into service.
    ReturnDevice {
        request: Request,
        uuid: String,
        reason: String,
    },
    /// The pools, as the leading member is configured: all of them, in place of what was there.
    SetFleet {
        fleet: Box<Fleet>,
    },
    /// How far the scaling of a pool has got. `based_on`: the generation that it was reckoned from; another has come since, and nothing
    /// changes. Its own generation is the index of this entry.
    Scale {
        pool: String,
        based_on: u64,
        scale: PoolScale,
    },
    /// These workers are to go, each as the incarnation that was looked at: drained by the deadline, then ended. Not what is drained, lost
    /// or another by now.
    ScaleIn {
        workers: Vec<(WorkerId, Incarnation)>,
        deadline_ms: u64,
        reason: String,
    },
    /// A worker that is lost or drained, with nothing living on it, is forgotten: by a call, or (`request` none) because its machine was
    /// ended.
    Forget {
        request: Option<Request>,
        worker: WorkerId,
        incarnation: Option<Incarnation>,
    },
    /// The first entry of a cluster that was made from a backup: whatever the old one granted after the backup has a smaller token,
    /// and whatever it was running is lost.
    Restored,
    /// What the leader concludes from what workers measured: on parts of what running attempts have, nothing computed.
    HeldEmpty {
        claims: Vec<EmptyClaim>,
    },
    /// The most that the scope may cost from now on; none: no limit.
    SetBudget {
        request: Request,
        scope: Scope,
        budget: Option<Budget>,
    },
    /// Nothing was computed on any GPU of these attempts for `after_ms`.
    IdleAttempts {
        tokens: Vec<Token>,
        action: IdleAction,
        after_ms: u64,
    },
    /// Time to look at what budgets have come to: the leader says so once a minute.
    Settle,
}
