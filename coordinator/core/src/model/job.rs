//! The states of jobs, tasks and indices, and how many indices are in each.

use serde::{Deserialize, Serialize};

/// pending → running → succeeded | failed | cancelled; held while nothing of it may be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Pending,
    Running,
    Held,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    /// The word shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Nothing more will happen to it, unless it is rerun.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What is stored of an index. Waiting or ready is the task's phase; starting, running or stopping the live attempt's.
///
/// pending ⇄ live → succeeded | failed | cancelled; pending → skipped | cancelled; pending ⇄ held
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum IndexState {
    Pending = 0,
    Live = 1,
    Held = 2,
    Succeeded = 3,
    Failed = 4,
    Skipped = 5,
    Cancelled = 6,
}

impl IndexState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Live,
        Self::Held,
        Self::Succeeded,
        Self::Failed,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// The index is done.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self as u8 >= Self::Succeeded as u8
    }

    /// The state with this number.
    ///
    /// # Panics
    /// Above 6, which no encoder writes.
    #[must_use]
    pub fn from_u8(n: u8) -> Self {
        Self::ALL[usize::from(n)]
    }
}

/// How a task ended as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOutcome {
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
}

/// Indices by state, as people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub total: u64,
    pub waiting: u64,
    pub ready: u64,
    pub held: u64,
    pub starting: u64,
    pub running: u64,
    pub stopping: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub skipped: u64,
    pub cancelled: u64,
}

impl Counts {
    /// Adds another task's numbers.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.waiting += other.waiting;
        self.ready += other.ready;
        self.held += other.held;
        self.starting += other.starting;
        self.running += other.running;
        self.stopping += other.stopping;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.cancelled += other.cancelled;
    }
}
