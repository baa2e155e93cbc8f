//! Jobs, their tasks and attempts, as documents.

use super::CountsDoc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `muster ps`: newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobsDoc {
    pub jobs: Vec<JobSummary>,
}

/// One line of `muster ps`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    pub id: u64,
    pub name: String,
    /// `pending running succeeded failed cancelled held`.
    pub state: String,
    pub queue: String,
    pub user: String,
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub submitted: String,
    /// RFC 3339, UTC: when its first attempt started.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub started: Option<String>,
    /// RFC 3339, UTC: when it became final.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub ended: Option<String>,
    #[serde(default)]
    pub priority: u32,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Indices by state, over all tasks.
    pub tasks: CountsDoc,
}

/// `muster show 42`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobDoc {
    pub id: u64,
    pub name: String,
    pub state: String,
    pub queue: String,
    pub user: String,
    /// RFC 3339, UTC; so are `started` and `ended`.
    #[schemars(extend("format" = "date-time"))]
    pub submitted: String,
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub started: Option<String>,
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub ended: Option<String>,
    #[serde(default)]
    pub priority: u32,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Indices by state, over all tasks (what `ps` calls `tasks`).
    #[serde(default)]
    pub counts: CountsDoc,
    /// In the order of the job file.
    pub tasks: Vec<TaskDoc>,
    /// Oldest first.
    #[serde(default)]
    pub timeline: Vec<TimelineDoc>,
    /// The job's own code (SPEC section 7) once it is final.
    #[serde(default)]
    pub exit_code: Option<i32>,
}

/// One task of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TaskDoc {
    pub name: String,
    /// `waiting ready held starting running stopping succeeded failed skipped cancelled`.
    pub state: String,
    /// Why it is in that state, in words, when there is something to say.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub needs: Vec<NeedDoc>,
    /// The trigger rule, e.g. `all_success`.
    #[serde(default)]
    pub rule: String,
    /// The command as written.
    #[serde(default)]
    pub run: String,
    /// Whether it is an array: its attempts carry an index.
    #[serde(default)]
    pub array: bool,
    #[serde(default)]
    pub counts: CountsDoc,
    /// Ended and live, by index then number; the newest 1,000 of a large array.
    pub attempts: Vec<AttemptDoc>,
    /// Attempts that exist and are not listed.
    #[serde(default)]
    pub attempts_omitted: u64,
    /// What was measured of its saves and should be known: one that does not fit the notice, one that should come more often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// An edge of the DAG.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NeedDoc {
    pub task: String,
    /// `succeeded failed finished skipped`.
    pub when: String,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct AttemptDoc {
    /// From 1.
    pub number: u32,
    /// Of an array only.
    #[serde(default)]
    pub index: Option<u32>,
    /// `starting running stopping succeeded failed evicted lost cancelled`.
    pub state: String,
    /// Why it ended, e.g. `exit(7)`; none while it runs.
    pub cause: Option<String>,
    /// The worker's name; of a gang, that of rank 0.
    pub worker: String,
    /// UUIDs of the devices it held, on all its workers.
    pub devices: Vec<String>,
    /// Of a gang: its ranks in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankDoc>,
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub started: Option<String>,
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub ended: Option<String>,
    /// The fencing token.
    #[serde(default)]
    pub token: u64,
    /// The step of the checkpoint that it began from.
    #[serde(default)]
    pub resumed_step: Option<u64>,
    /// The newest step that it committed.
    #[serde(default)]
    pub checkpoint_step: Option<u64>,
    /// RFC 3339, UTC: when it was asked to stop.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub asked_to_stop: Option<String>,
}

/// One rank of a gang's attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RankDoc {
    pub rank: u32,
    /// The worker's name.
    pub worker: String,
    /// UUIDs.
    pub devices: Vec<String>,
    /// `starting running ended`.
    pub state: String,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TimelineDoc {
    /// RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// A word for programs, e.g. `attempt_ended`.
    pub event: String,
    /// A sentence for people.
    pub text: String,
}
