//! What happened, for those who watch: never stored as such, never replayed.

use crate::model::attempt::Cause;
use crate::model::budget::{Budget, Scope};
use crate::model::idle::IdleAction;
use crate::model::ids::{IndexRef, JobId, TaskNo, Token, WorkerId};

/// One thing that happened when a command was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its tasks without parents can be placed now.
    JobSubmitted {
        job: JobId,
    },
    /// The parents of the task have ended: at least one index of it can be placed now.
    TaskReady {
        job: JobId,
        task: TaskNo,
    },
    AttemptPlaced {
        at: IndexRef,
        number: u32,
        token: Token,
        worker: WorkerId,
    },
    AttemptRunning {
        at: IndexRef,
        number: u32,
        token: Token,
    },
    CheckpointCommitted {
        at: IndexRef,
        number: u32,
        token: Token,
        step: u64,
    },
    AttemptEnded {
        at: IndexRef,
        number: u32,
        token: Token,
        /// By rank.
        workers: Vec<WorkerId>,
        cause: Cause,
        retried: bool,
    },
    TaskFinished {
        job: JobId,
        task: TaskNo,
    },
    JobFinished {
        job: JobId,
    },
    WorkerChanged {
        worker: WorkerId,
    },
    /// It has GPUs and has computed nothing on them for so long, ms.
    AttemptIdle {
        at: IndexRef,
        number: u32,
        token: Token,
        action: IdleAction,
        after_ms: u64,
    },
    /// So many per cent of a budget are spent.
    BudgetPassed {
        scope: Scope,
        percent: u8,
        /// Millionths of a USD.
        spent: u64,
        budget: Budget,
    },
}
