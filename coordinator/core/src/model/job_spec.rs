//! A job as the state machine stores it: parameters fixed, names turned into numbers, nothing left to evaluate but `when:`,
//! `constraints:` and `{{ … }}`, which are kept as checked text and never run in apply.
//!
//! Compact on purpose: tasks that ask for the same share one [`TaskCommon`], rare things sit behind one pointer, and an array is a
//! few numbers however long it is. 100,000 explicit tasks take about 13 MB.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::array_spec::{ArraySpec, Axis, IndexRange, Indices};
use super::blob::BlobId;
use super::budget::Budget;
use super::gang::Gang;
use super::ids::TaskNo;
use super::resources::Resources;
use super::retry::RetryPolicy;
use super::words::Words;

/// A job as submitted, checked and resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// `[a-z0-9-]`, at most 63 characters.
    pub name: String,
    /// The queue it waits in.
    pub queue: String,
    /// 0..=100, higher first.
    pub priority: u8,
    /// Free labels, for filters.
    pub labels: BTreeMap<String, String>,
    /// Environment of every task; values may be templates.
    pub env: BTreeMap<String, String>,
    /// Manifest of the shipped working directory.
    pub workdir: Option<BlobId>,
    /// Parameters as JSON text, overrides applied.
    pub params: BTreeMap<String, JsonText>,
    /// Whether tasks get the `SLURM_*` variables.
    pub compat_slurm: bool,
    /// The most that it may cost.
    pub budget: Option<Budget>,
    /// What tasks have in common, each once; `TaskSpec::common` points here.
    pub commons: Vec<TaskCommon>,
    /// The tasks in file order: `TaskNo` is the position.
    pub tasks: Vec<TaskSpec>,
}

/// A value as JSON text: fixed at submission, so no library decides later what it means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(pub Box<str>);

impl JsonText {
    /// The text of `value`.
    #[must_use]
    pub fn of(value: &serde_json::Value) -> Self {
        Self(value.to_string().into_boxed_str())
    }

    /// The value; `null` if the text is no JSON, which this type never holds after a submission.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or(serde_json::Value::Null)
    }

    /// The value as it appears in a template: a string without its quotes, everything else as JSON.
    #[must_use]
    pub fn plain(&self) -> String {
        match self.value() {
            serde_json::Value::String(s) => s,
            _ => self.0.to_string(),
        }
    }
}

/// One task of the DAG: one command, one or many indices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// `[A-Za-z0-9_-]`, at most 128 characters, unique in the job.
    pub name: Box<str>,
    /// What is executed.
    pub run: Run,
    /// The tasks it waits for, in file order, those of its inputs included.
    pub needs: Box<[Need]>,
    /// Position in [`JobSpec::commons`].
    pub common: u32,
    /// What few tasks have.
    pub extra: Option<Box<TaskExtra>>,
}

/// The command of a task; its text may be a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Run {
    /// For `/bin/sh -c`.
    Shell(Box<str>),
    /// Executed as it is; the first word is the program.
    Exec(Words),
}

/// An edge of the DAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// The task waited for.
    pub task: TaskNo,
    /// The end of it that satisfies this edge.
    pub when: NeedWhen,
}

/// Which end of a needed task satisfies the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NeedWhen {
    /// The file did not say: the rule alone decides.
    Unsaid,
    /// It succeeded.
    Succeeded,
    /// It failed or was cancelled.
    Failed,
    /// It ended in any way.
    Finished,
    /// It was skipped.
    Skipped,
}

/// How the ends of all needed tasks together decide whether a task runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TriggerRule {
    /// All succeeded.
    #[default]
    AllSuccess,
    /// All ended.
    AllDone,
    /// All failed.
    AllFailed,
    /// At least one succeeded; does not wait for the others.
    OneSuccess,
    /// At least one failed; does not wait for the others.
    OneFailed,
    /// All ended and none failed.
    NoneFailed,
    /// All ended, none failed, at least one succeeded.
    NoneFailedMinOneSuccess,
    /// Runs once all have ended, whatever happened.
    Always,
}

impl TriggerRule {
    /// The rule's name in a job file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllSuccess => "all_success",
            Self::AllDone => "all_done",
            Self::AllFailed => "all_failed",
            Self::OneSuccess => "one_success",
            Self::OneFailed => "one_failed",
            Self::NoneFailed => "none_failed",
            Self::NoneFailedMinOneSuccess => "none_failed_min_one_success",
            Self::Always => "always",
        }
    }
}

/// What many tasks ask alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskCommon {
    /// When the task may run.
    pub rule: TriggerRule,
    /// What one index needs of a worker.
    pub resources: Resources,
    /// Environment on top of the job's; values may be templates.
    pub env: BTreeMap<String, String>,
    /// CEL over `worker`, all must hold; those of `spot:` included.
    pub constraints: Vec<String>,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// Longest run of one attempt in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How it is asked to stop.
    pub stop: StopSpec,
    /// How its progress is saved; none: it says nothing of it, and may commit all the same.
    pub checkpoint: Option<Box<CheckpointSpec>>,
    /// It needs several workers at once, each with these resources.
    pub gang: Option<Box<Gang>>,
    /// By when it has to be done: it chooses between spot and on-demand workers.
    pub deadline: Option<Box<Deadline>>,
}

impl TaskCommon {
    /// Whether one attempt may have so many seats.
    #[must_use]
    pub fn takes_seats(&self, seats: usize) -> bool {
        self.gang.as_ref().map_or(seats == 1, |gang| gang.takes(seats))
    }
}

/// By when a task has to be done, and how long it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Deadline {
    /// Milliseconds from the submission of the job.
    pub within_ms: u64,
    /// Run time of one index without restarts, as the user expects it, in milliseconds.
    pub work_ms: u64,
}

/// How a running attempt is asked to stop before it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StopSpec {
    /// Number of the first signal (Linux).
    pub signal: i32,
    /// Milliseconds between it and SIGTERM, or from SIGTERM to SIGKILL if it is SIGTERM itself.
    pub grace_ms: u64,
}

impl Default for StopSpec {
    /// SIGTERM, and 10 s to end.
    fn default() -> Self {
        Self { signal: 15, grace_ms: 10_000 }
    }
}

/// How the progress of a task is saved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointSpec {
    /// Milliseconds between two requests to save, by [`StopSpec::signal`] unless that is SIGTERM; none: the task saves when it likes.
    pub every_ms: Option<u64>,
    /// Directories below the checkpoint directory that match this glob are committed by themselves.
    pub watch: Option<Box<str>>,
    /// Milliseconds that such a directory must not have changed.
    pub settle_ms: u64,
    /// Committed checkpoints that are kept, at least 1.
    pub keep: u32,
}

impl Default for CheckpointSpec {
    /// When the task likes; 5 s; 3.
    fn default() -> Self {
        Self { every_ms: None, watch: None, settle_ms: 5_000, keep: 3 }
    }
}

/// What few tasks have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskExtra {
    /// The task stands for many indices.
    pub array: Option<ArraySpec>,
    /// Artifacts of other tasks, fetched before the start.
    pub inputs: Vec<InputSpec>,
    /// What the task promises to leave.
    pub outputs: Vec<OutputSpec>,
    /// CEL over `tasks`, `params` and `job`; the task is skipped when it is false.
    pub when: Option<Box<str>>,
}

/// An artifact a task reads: `$MUSTER_INPUT_<NAME>` names where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Name within the task.
    pub name: Box<str>,
    /// The producer. Of an array, all indices: a directory with one entry an index.
    pub task: TaskNo,
    /// Name of the producer's output.
    pub output: Box<str>,
}

/// An artifact a task promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Name within the task.
    pub name: Box<str>,
    /// File or directory relative to `$MUSTER_OUTPUT_DIR`, without `..`.
    pub path: Box<str>,
}

impl TaskSpec {
    /// The array, if the task is one.
    #[must_use]
    pub fn array(&self) -> Option<&ArraySpec> {
        self.extra.as_ref()?.array.as_ref()
    }

    /// Number of indices: 1 for a task without an array.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.array().map_or(1, |a| a.count)
    }

    /// Most indices that run at once.
    #[must_use]
    pub fn max_running(&self) -> Option<u32> {
        self.array().and_then(|a| a.max_running)
    }

    /// The `when:` expression, if any.
    #[must_use]
    pub fn when(&self) -> Option<&str> {
        self.extra.as_ref()?.when.as_deref()
    }

    /// The artifacts it reads.
    #[must_use]
    pub fn inputs(&self) -> &[InputSpec] {
        self.extra.as_ref().map_or(&[], |e| &e.inputs)
    }

    /// The artifacts it promises.
    #[must_use]
    pub fn outputs(&self) -> &[OutputSpec] {
        self.extra.as_ref().map_or(&[], |e| &e.outputs)
    }
}

impl JobSpec {
    /// The task at `no`.
    #[must_use]
    pub fn task(&self, no: TaskNo) -> Option<&TaskSpec> {
        self.tasks.get(no.0 as usize)
    }

    /// What `task` shares with others. A spec that passed [`JobSpec::is_sound`] always has it.
    ///
    /// # Panics
    /// If the spec is not sound.
    #[must_use]
    pub fn common(&self, task: &TaskSpec) -> &TaskCommon {
        &self.commons[task.common as usize]
    }

    /// The task called `name` (a scan: for commands of people, not for the scheduler).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<TaskNo> {
        self.tasks.iter().position(|t| &*t.name == name).and_then(|i| u32::try_from(i).ok()).map(TaskNo)
    }

    /// Number of indices of all tasks.
    #[must_use]
    pub fn index_total(&self) -> u64 {
        self.tasks.iter().map(|t| u64::from(t.count())).sum()
    }

    /// Whether every number in it points at something and every array is what its parts say. `apply` asks this of a spec from
    /// the log before it trusts it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let task_exists = |no: TaskNo| (no.0 as usize) < self.tasks.len();
        !self.tasks.is_empty()
            && self.tasks.iter().enumerate().all(|(i, task)| {
                (task.common as usize) < self.commons.len()
                    && task.needs.iter().all(|n| task_exists(n.task) && n.task.0 as usize != i)
                    && task.inputs().iter().all(|i| task_exists(i.task))
                    && task.array().is_none_or(ArraySpec::is_sound)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_stays_small() {
        assert!(size_of::<TaskSpec>() <= 72, "{}", size_of::<TaskSpec>());
    }
}
