//! A job as the state machine stores it: parameters fixed, names turned into numbers, nothing left to evaluate but `when:`,
//! `constraints:` and `{{ … }}`, which are kept as checked text and never run in apply.
//!
//! Compact on purpose: tasks that ask for the same share one [`TaskCommon`], rare things sit behind one pointer, and an array is a
//! few numbers however long it is. 100,000 explicit tasks take about 16 MB.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::blob::BlobId;
use super::ids::TaskNo;
use super::resources::Resources;
use super::retry::RetryPolicy;

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
    Exec(Box<[Box<str>]>),
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

/// A task that stands for many alike. Inside the core an index is its *position*, `0..count`; [`ArraySpec::index`] gives the number
/// that a person wrote and a task sees (`"10-20:2"` has the positions 0..6 and the indices 10, 12 … 20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArraySpec {
    /// Number of indices, at least 1.
    pub count: u32,
    /// What the indices are.
    pub indices: Indices,
    /// Most indices that run at once.
    pub max_running: Option<u32>,
}

/// The indices of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Indices {
    /// Ranges in ascending order that do not overlap.
    Ranges(Vec<IndexRange>),
    /// The product of axes; the last axis varies fastest. Indices are the positions.
    Matrix(Vec<Axis>),
}

/// `first, first + step, …`, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRange {
    /// The first index.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// The distance, at least 1.
    pub step: u32,
}

/// One axis of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Name, as in `{{ matrix.NAME }}`.
    pub name: String,
    /// Values, at least one.
    pub values: Vec<JsonText>,
}

impl ArraySpec {
    /// The index at `position`, as a person wrote it and `MUSTER_INDEX` says it; `None` beyond the end.
    #[must_use]
    pub fn index(&self, position: u32) -> Option<u32> {
        if position >= self.count {
            return None;
        }
        match &self.indices {
            Indices::Matrix(_) => Some(position),
            Indices::Ranges(ranges) => {
                let mut left = position;
                for range in ranges {
                    if left < range.count {
                        return Some(range.first + left * range.step);
                    }
                    left -= range.count;
                }
                None
            }
        }
    }

    /// The position of the index that a person wrote; `None` if the array has no such index.
    #[must_use]
    pub fn position(&self, index: u32) -> Option<u32> {
        match &self.indices {
            Indices::Matrix(_) => (index < self.count).then_some(index),
            Indices::Ranges(ranges) => {
                let mut before = 0;
                for range in ranges {
                    if let Some(offset) = index.checked_sub(range.first)
                        && offset.is_multiple_of(range.step)
                        && offset / range.step < range.count
                    {
                        return Some(before + offset / range.step);
                    }
                    before += range.count;
                }
                None
            }
        }
    }

    /// The matrix values at `position`, by axis; empty for a plain array.
    #[must_use]
    pub fn value(&self, position: u32) -> BTreeMap<&str, &JsonText> {
        let Indices::Matrix(axes) = &self.indices else { return BTreeMap::new() };
        let mut values = BTreeMap::new();
        let mut left = position as usize;
        for axis in axes.iter().rev() {
            if let Some(value) = axis.values.get(left % axis.values.len().max(1)) {
                values.insert(axis.name.as_str(), value);
            }
            left /= axis.values.len().max(1);
        }
        values
    }
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

impl ArraySpec {
    fn is_sound(&self) -> bool {
        let total: u64 = match &self.indices {
            Indices::Ranges(ranges) => {
                if ranges.iter().any(|r| {
                    r.count == 0 || r.step == 0 || u64::from(r.first) + u64::from(r.count - 1) * u64::from(r.step) > u64::from(u32::MAX)
                }) {
                    return false;
                }
                ranges.iter().map(|r| u64::from(r.count)).sum()
            }
            Indices::Matrix(axes) => axes.iter().fold(1_u64, |n, a| n.saturating_mul(a.values.len() as u64)),
        };
        self.count > 0 && total == u64::from(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<JsonText> {
        values.iter().map(|v| JsonText((*v).into())).collect()
    }

    #[test]
    fn a_range_knows_its_indices_both_ways() {
        let ranges = vec![IndexRange { first: 10, count: 3, step: 2 }, IndexRange { first: 100, count: 2, step: 1 }];
        let array = ArraySpec { count: 5, indices: Indices::Ranges(ranges), max_running: None };
        let indices: Vec<_> = (0..6).map(|p| array.index(p)).collect();
        assert_eq!(indices, [Some(10), Some(12), Some(14), Some(100), Some(101), None]);
        for position in 0..5 {
            assert_eq!(array.position(array.index(position).expect("in range")), Some(position));
        }
        assert_eq!(array.position(11), None);
        assert_eq!(array.position(16), None);
        assert!(array.is_sound());
    }

    #[test]
    fn a_matrix_varies_its_last_axis_fastest() {
        let axes = vec![
            Axis { name: "seed".into(), values: texts(&["1", "2"]) },
            Axis { name: "lr".into(), values: texts(&["0.1", "0.01", "\"auto\""]) },
        ];
        let array = ArraySpec { count: 6, indices: Indices::Matrix(axes), max_running: Some(2) };
        let shown: Vec<String> =
            (0..6).map(|p| array.value(p).iter().map(|(k, v)| format!("{k}={}", v.plain())).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            shown,
            ["lr=0.1 seed=1", "lr=0.01 seed=1", "lr=auto seed=1", "lr=0.1 seed=2", "lr=0.01 seed=2", "lr=auto seed=2"]
        );
    }

    #[test]
    fn a_task_stays_small() {
        assert!(size_of::<TaskSpec>() <= 72, "{}", size_of::<TaskSpec>());
    }
}
