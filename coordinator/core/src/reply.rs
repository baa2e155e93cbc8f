//! What the caller hears. A refusal is a value, not an error.

use crate::model::budget::usd;
use crate::model::ids::{JobId, MemberId, Token, WorkerId};
use serde::{Deserialize, Serialize};

/// The replies of one [`crate::command::Batch`], in order.
pub type Replies = Vec<Reply>;

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// The change was made to this many indices.
    Changed {
        indices: u64,
    },
    Submitted {
        job: JobId,
        tasks: u32,
        indices: u64,
    },
    Registered {
        worker: WorkerId,
    },
    /// Per placement of the plan: its token, or why not.
    Placed {
        accepted: Vec<Token>,
        refused: u32,
    },
    /// Tokens whose end is now durable: the worker may forget them (accepted or fenced alike).
    Reported {
        settled: Vec<Token>,
        fenced: u32,
    },
    Rejected(Rejection),
    Admitted {
        member: MemberId,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("no job {0}")]
    NoJob(JobId),
    #[error("job {job} has no task {task}")]
    NoTask { job: JobId, task: u32 },
    #[error("task {task:?} of job {job} has indices 0 to {last}, not {index}")]
    NoIndex { job: JobId, task: String, index: u32, last: u32 },
    #[error("no worker {0}")]
    NoWorker(WorkerId),
    #[error("no device {0}")]
    NoDevice(String),
    #[error("request id {id:?} was used for another payload")]
    RequestIdReused { id: String },
    #[error("job {job} is {state} and cannot be {verb}")]
    WrongState { job: JobId, state: String, verb: String },
    #[error("the job's specification cannot be read: {0}")]
    BadSpec(String),
    #[error("parts of the submission are missing: {have} of {want}")]
    MissingParts { have: u32, want: u32 },
    #[error("the worker's incarnation {got:?} is not the registered one")]
    OldIncarnation { got: String },
    #[error("token {token} is not current")]
    Fenced { token: Token },
    #[error("{open} members are about to join; the most at once is {limit}")]
    TooManyAdmissions { open: usize, limit: usize },
    #[error(
        "worker {worker} is {state} with {live} attempts living on it: only a lost or drained one is forgotten"
    )]
    WorkerInUse { worker: WorkerId, state: String, live: usize },
    #[error("worker {worker} is drained and its machine is being ended: a new one is bought when work waits")]
    WorkerLeaves { worker: WorkerId },
    #[error("the scaling of pool {pool:?} has changed since: its generation is {is}, not {based_on}")]
    OldScale { pool: String, is: u64, based_on: u64 },
    #[error("member {member} is already being replaced, by member {by}")]
    ReplacedAlready { member: MemberId, by: MemberId },
    /// Amounts in millionths of a USD.
    #[error(
        "{scope} has a budget of {} USD: {} are spent, {} reserved for what was admitted, and this is forecast to cost {}",
        usd(*micro_usd), usd(*spent), usd(*reserved), usd(*forecast)
    )]
    BudgetExceeded { scope: String, micro_usd: u64, spent: u64, reserved: u64, forecast: u64 },
    #[error("{limit} queues have a budget; there can be no more")]
    TooManyBudgets { limit: usize },
}

impl Rejection {
    /// The stable code that programs match on (SPEC section 7).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoJob(_) => "JOB_NOT_FOUND",
            Self::NoTask { .. } => "TASK_NOT_FOUND",
            Self::NoIndex { .. } => "INDEX_NOT_FOUND",
            Self::NoWorker(_) => "WORKER_NOT_FOUND",
            Self::NoDevice(_) => "DEVICE_NOT_FOUND",
            Self::RequestIdReused { .. } => "REQUEST_ID_REUSED",
            Self::WrongState { .. } => "WRONG_STATE",
            Self::BadSpec(_) => "BAD_SPEC",
            Self::MissingParts { .. } => "SUBMISSION_INCOMPLETE",
            Self::OldIncarnation { .. } => "OLD_INCARNATION",
            Self::Fenced { .. } => "FENCED",
            Self::TooManyAdmissions { .. } => "TOO_MANY_ADMISSIONS",
            Self::ReplacedAlready { .. } => "REPLACED_ALREADY",
            Self::WorkerInUse { .. } => "WORKER_IN_USE",
            Self::WorkerLeaves { .. } => "WORKER_LEAVES",
            Self::OldScale { .. } => "OLD_SCALE",
            Self::BudgetExceeded { .. } => "BUDGET_EXCEEDED",
            Self::TooManyBudgets { .. } => "TOO_MANY_BUDGETS",
        }
    }
}
