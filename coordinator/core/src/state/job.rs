//! A job while it is in memory: its specification, shared, and what has become of each task.

use super::indices::Indices;
use crate::dag::Parents;
use crate::model::attempt::Cause;
use crate::model::ids::{JobId, TaskNo};
use crate::model::job::{Counts, IndexState, JobState, TaskOutcome};
use crate::model::job_spec::{JobSpec, TaskCommon};
use crate::model::time::Stamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// waiting → (asking →) open → done. `Asking`: its parents allow it, its `when:` is not evaluated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    Waiting,
    Asking,
    Open,
    Done(TaskOutcome),
}

/// One task of a job in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRun {
    pub phase: Phase,
    pub held: bool,
    pub parents: Parents,
    pub indices: Indices,
    /// Why it was skipped or held, when that is not plain from the rule.
    pub reason: Option<Box<str>>,
}

impl TaskRun {
    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<TaskOutcome> {
        match self.phase {
            Phase::Done(outcome) => Some(outcome),
            _ => None,
        }
    }
}

/// A job in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub spec: Arc<JobSpec>,
    /// Key of the request that made it.
    pub request: String,
    pub user: String,
    pub submitted: Stamp,
    pub started: Option<Stamp>,
    pub ended: Option<Stamp>,
    pub held: bool,
    /// A cancel of the whole job was acknowledged.
    pub cancelled: bool,
    /// Cause of the first index that failed for good.
    pub first_failure: Option<Cause>,
    pub tasks: Vec<TaskRun>,
    /// Tasks that are not done.
    pub open: u32,
    /// Attempts that live.
    pub live: u32,
    /// Attempts after the first, and attempts that ended `lost`, over the job's life.
    pub retried: u64,
    pub lost: u64,
    children: Children,
}

/// Edges from a task to those that need it, in one pair of vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Children {
    first: Box<[u32]>,
    edges: Box<[u32]>,
}

impl Children {
    fn of(spec: &JobSpec) -> Self {
        let mut first = vec![0_u32; spec.tasks.len() + 1];
        for need in spec.tasks.iter().flat_map(|t| &*t.needs) {
            first[need.task.0 as usize + 1] += 1;
        }
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        let mut next = first.clone();
        let mut edges = vec![0; *first.last().unwrap_or(&0) as usize];
        for (child, task) in spec.tasks.iter().enumerate() {
            for need in &*task.needs {
                let at = &mut next[need.task.0 as usize];
                edges[*at as usize] = child as u32;
                *at += 1;
            }
        }
        Self { first: first.into(), edges: edges.into() }
    }
}

impl Job {
    /// A job of which nothing has happened yet.
    #[must_use]
    pub fn new(id: JobId, spec: Arc<JobSpec>, request: String, user: String, submitted: Stamp) -> Self {
        let tasks: Vec<TaskRun> = spec
            .tasks
            .iter()
            .map(|task| TaskRun {
                phase: Phase::Waiting,
                held: false,
                parents: Parents::default(),
                indices: Indices::new(task.array().map(|a| a.count)),
                reason: None,
            })
            .collect();
        Self {
            id,
            children: Children::of(&spec),
            spec,
            request,
            user,
            submitted,
            started: None,
            ended: None,
            held: false,
            cancelled: false,
            first_failure: None,
            open: tasks.len() as u32,
            live: 0,
            retried: 0,
            lost: 0,
            tasks,
        }
    }

    /// The task with this number, which exists.
    #[must_use]
    pub fn task(&self, no: TaskNo) -> &TaskRun {
        &self.tasks[no.0 as usize]
    }

    /// The task with this number, to write.
    pub fn task_mut(&mut self, no: TaskNo) -> &mut TaskRun {
        &mut self.tasks[no.0 as usize]
    }

    /// What the task shares with others.
    #[must_use]
    pub fn common(&self, no: TaskNo) -> &TaskCommon {
        self.spec.common(&self.spec.tasks[no.0 as usize])
    }

    /// The tasks that need this one, once for each edge.
    #[must_use]
    pub fn children(&self, no: TaskNo) -> &[u32] {
        let (from, to) = (self.children.first[no.0 as usize], self.children.first[no.0 as usize + 1]);
        &self.children.edges[from as usize..to as usize]
    }

    /// The state that people see.
    #[must_use]
    pub fn state(&self) -> JobState {
        if self.open == 0 {
            if self.cancelled {
                return JobState::Cancelled;
            }
            if self.first_failure.is_some() {
                return JobState::Failed;
            }
            let cancelled = self.tasks.iter().any(|t| t.outcome() == Some(TaskOutcome::Cancelled));
            return if cancelled { JobState::Cancelled } else { JobState::Succeeded };
        }
        if self.live > 0 {
            JobState::Running
        } else if self.held || self.is_stuck() {
            JobState::Held
        } else if self.started.is_some() {
            JobState::Running
        } else {
            JobState::Pending
        }
    }

    /// Nothing of it can be placed because every open task is held.
    fn is_stuck(&self) -> bool {
        let mut open =
            self.tasks.iter().filter(|t| matches!(t.phase, Phase::Open | Phase::Asking)).peekable();
        open.peek().is_some()
            && open.all(|t| {
                t.held || (t.indices.count(IndexState::Pending) == 0 && t.indices.count(IndexState::Held) > 0)
            })
    }

    /// What `run` and `wait` return for it; none while it is not terminal.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.state() {
            JobState::Succeeded => Some(0),
            JobState::Failed => Some(self.first_failure.as_ref().map_or(125, Cause::exit_code)),
            JobState::Cancelled => Some(125),
            JobState::Pending | JobState::Running | JobState::Held => None,
        }
    }

    /// Indices of one task by state; live ones count as running (the caller who knows the attempts splits them).
    #[must_use]
    pub fn task_counts(&self, no: TaskNo) -> Counts {
        let run = self.task(no);
        let count = |state| u64::from(run.indices.count(state));
        let pending = count(IndexState::Pending);
        let (waiting, ready, held) = match run.phase {
            _ if self.held || run.held => (0, 0, pending),
            Phase::Open => (0, pending, 0),
            _ => (pending, 0, 0),
        };
        Counts {
            total: u64::from(run.indices.len()),
            waiting,
            ready,
            held: held + count(IndexState::Held),
            starting: 0,
            running: count(IndexState::Live),
            stopping: 0,
            succeeded: count(IndexState::Succeeded),
            failed: count(IndexState::Failed),
            skipped: count(IndexState::Skipped),
            cancelled: count(IndexState::Cancelled),
        }
    }

    /// Indices of the whole job by state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        (0..self.tasks.len() as u32).for_each(|no| sum.add(&self.task_counts(TaskNo(no))));
        sum
    }

    /// One word for a task as a whole.
    #[must_use]
    pub fn task_state(&self, no: TaskNo) -> &'static str {
        let run = self.task(no);
        match run.phase {
            Phase::Done(TaskOutcome::Succeeded) => "succeeded",
            Phase::Done(TaskOutcome::Failed) => "failed",
            Phase::Done(TaskOutcome::Skipped) => "skipped",
            Phase::Done(TaskOutcome::Cancelled) => "cancelled",
            _ if run.indices.count(IndexState::Live) > 0 => "running",
            _ if self.held || run.held || run.indices.count(IndexState::Pending) == 0 => "held",
            Phase::Waiting | Phase::Asking => "waiting",
            Phase::Open => "ready",
        }
    }
}
