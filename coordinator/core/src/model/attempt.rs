//! An attempt: one try of one index, under one fencing token, on one worker or, as a gang, on several.

use super::artifact::Artifact;
use super::checkpoint::Progress;
use super::device_event::Fault;
use super::ids::{IndexRef, Token, WorkerId};
use super::placement::Seat;
use super::time::Stamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// ready → starting → running → (stopping →) ended. Only these live in memory; the ended are history rows on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    Starting,
    Running,
    Stopping,
}

/// Why we ask an attempt to stop. It becomes the cause unless the task ends with success first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    Cancel,
    Timeout,
    Drain,
    Hold,
    /// Its machine goes.
    Notice,
    /// A device that it holds is out of service.
    Device(Fault),
    /// What it may cost is spent.
    Budget,
    /// It has GPUs and computes nothing: it is queued again.
    Idle,
    /// The same, and it fails.
    IdleTooLong,
}

/// What a rank of a gang does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankState {
    Starting,
    Running,
    /// Its process is gone for sure: its worker said so, or its lease is over.
    Ended,
}

/// A live attempt: the lease of its workers on the index, their devices and amounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: IndexRef,
    /// From 1.
    pub number: u32,
    pub token: Token,
    /// One unless it is a gang; the rank is the position.
    pub seats: Vec<Seat>,
    /// Where the ranks meet, on the worker of rank 0; 0 without a gang.
    pub port: u16,
    /// Of each rank; empty unless it is a gang, whose ranks may be in different states.
    pub ranks: Vec<RankState>,
    /// A gang's cause, once a rank has ended other than with success: the others are stopped for it.
    pub failed: Option<Cause>,
    /// What rank 0 of a gang left, while others still run.
    pub artifacts: Vec<Artifact>,
    pub state: AttemptState,
    pub stop: Option<StopReason>,
    /// When it was asked to stop.
    pub asked: Option<Stamp>,
    pub placed: Stamp,
    /// When the last of its ranks began to run.
    pub started: Option<Stamp>,
    /// Where it began and what it has saved.
    pub progress: Progress,
}

impl Attempt {
    /// The worker of rank 0.
    #[must_use]
    pub fn first_worker(&self) -> WorkerId {
        first_worker(&self.seats)
    }

    /// The seat on this worker, and its rank.
    #[must_use]
    pub fn seat_on(&self, worker: WorkerId) -> Option<(u32, &Seat)> {
        (0..).zip(&self.seats).find(|(_, seat)| seat.worker == worker)
    }

    /// Whether this rank's process is gone while the attempt lives: only of a gang.
    #[must_use]
    pub fn has_ended(&self, rank: u32) -> bool {
        self.ranks.get(rank as usize) == Some(&RankState::Ended)
    }

    /// Whether the log knows that this rank runs.
    #[must_use]
    pub fn has_started(&self, rank: u32) -> bool {
        self.started.is_some() || self.ranks.get(rank as usize).is_some_and(|r| *r != RankState::Starting)
    }

    /// Whether it is still to be told anything on this worker: it has a seat there whose rank has not ended.
    #[must_use]
    pub fn lives_on(&self, worker: WorkerId) -> bool {
        self.seat_on(worker).is_some_and(|(rank, _)| !self.has_ended(rank))
    }
}

/// The worker of rank 0.
#[must_use]
pub fn first_worker(seats: &[Seat]) -> WorkerId {
    seats.first().map(|s| s.worker).unwrap_or_default()
}

/// How the process ended, as the worker saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Exit(i32),
    Signal(i32),
    Oom,
    /// The platform could not start it: never charged.
    Launch(String),
    /// A promised output is missing: charged.
    ContractOutput(String),
    /// The worker's shim stopped it because the lease ran out.
    Fenced,
    /// The worker stopped it because its machine goes.
    Evicted,
    /// What it was to begin from is gone, torn or another's.
    BadCheckpoint {
        step: u64,
        reason: String,
    },
}

/// The exit code with which a task says: I have saved, run me again.
pub const EXIT_SAVED: i32 = 85;
/// From SIGTERM to SIGKILL of an ordered stop, ms.
pub const TERM_TO_KILL_MS: u64 = 2_000;

/// Why an attempt ended (SPEC section 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Exit(i32),
    Signal(i32),
    Oom,
    Timeout,
    Evicted(StopReason),
    Lost,
    Launch(String),
    Contract(String),
    Cancelled,
    /// A device that it held went out of service.
    Device(Fault),
    /// It exited with [`EXIT_SAVED`] and has committed a checkpoint.
    Saved,
    /// What it was to begin from could not be used, and is not kept any more.
    BadCheckpoint {
        step: u64,
        reason: String,
    },
    /// It had GPUs and computed nothing on them for too long.
    Idle,
}

impl Cause {
    /// Whether it counts against `retry.attempts`: the user's own failures do, the platform's do not.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        match self {
            Self::Exit(code) => *code != 0,
            Self::Signal(_) | Self::Oom | Self::Timeout | Self::Idle | Self::Contract(_) => true,
            Self::Evicted(_)
            | Self::Lost
            | Self::Launch(_)
            | Self::Cancelled
            | Self::Device(_)
            | Self::Saved
            | Self::BadCheckpoint { .. } => false,
        }
    }

    /// The state an attempt with this cause ends in.
    #[must_use]
    pub fn end_state(&self) -> &'static str {
        match self {
            Self::Exit(0) => "succeeded",
            Self::Evicted(_) | Self::Device(_) | Self::Saved => "evicted",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
            _ => "failed",
        }
    }

    /// The exit code that `run` and `wait` return for it (SPEC section 7).
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exit(code) => *code,
            Self::Signal(n) => 128 + n,
            Self::Timeout | Self::Idle => 124,
            _ => 125,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit({code})"),
            Self::Signal(n) => write!(f, "signal({n})"),
            Self::Oom => f.write_str("oom"),
            Self::Timeout => f.write_str("timeout"),
            Self::Evicted(StopReason::Drain) => f.write_str("evicted(drain)"),
            Self::Evicted(StopReason::Notice) => f.write_str("evicted(notice)"),
            Self::Evicted(StopReason::Budget) => f.write_str("evicted(budget)"),
            Self::Evicted(StopReason::Idle) => f.write_str("evicted(idle)"),
            Self::Idle => f.write_str("timeout(idle)"),
            Self::Evicted(_) => f.write_str("evicted(operator)"),
            Self::Lost => f.write_str("lost(worker)"),
            Self::Launch(reason) => write!(f, "launch({reason})"),
            Self::Contract(what) => write!(f, "contract(output: {what})"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Device(fault) => write!(f, "device({fault})"),
            Self::Saved => write!(f, "exit({EXIT_SAVED})"),
            Self::BadCheckpoint { step, reason } => write!(f, "launch(checkpoint of step {step}: {reason})"),
        }
    }
}
