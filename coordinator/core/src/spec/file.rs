//! `JobFile`: the job file exactly as a person writes it, in YAML, TOML or JSON. This is the public schema; every field that SPEC
//! knows is here, those of later versions too, so that a misspelt key is never mistaken for a future one. Meaning and limits are
//! checked in `validate` and `resolve`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::array_file::ArrayFile;
use super::budget::BudgetFile;
use super::gang::{ElasticFile, TopologyFile};
use super::later::{ContainerFile, NotifyFile, ScheduleFile, TriggerFile};
use super::policy::{CheckpointFile, RetryFile, RuleFile, SpotFile};
use super::request::ResourcesFile;
use super::value::{NeedsFile, Ordered, RunFile, Texts, WorkdirFile};
use crate::model::duration::Millis;

/// A job: a DAG of tasks and how it is run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// Lower-case letters, digits and `-`, up to 63. Default: the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The queue it waits in. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// 0 to 100, higher first. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Free labels, for filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Parameters, overridden by `--param`. One that is null must be given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// Environment of every task; values may be templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// A directory shipped with the job, relative to the job file; tasks run in a copy of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<WorkdirFile>,
    /// Globs of what is not shipped with `workdir`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// `slurm`: tasks also get the `SLURM_*` variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compat: Option<CompatFile>,
    /// The most money it may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetFile>,
    /// When it is submitted again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleFile>,
    /// What submits it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<TriggerFile>,
    /// Who is told what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyFile>,
    /// What tasks have if they say nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<DefaultsFile>,
    /// The tasks by name, in order.
    pub tasks: Ordered<TaskFile>,
}

/// Which other system's environment tasks get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompatFile {
    /// The `SLURM_*` variables.
    Slurm,
}

/// One task: a command, what it needs, and how it is run. What most tasks do not say sits behind a pointer: a file may have 100,000.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// The command: a text for `/bin/sh -c`, or a list that is executed as it is. May be a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunFile>,
    /// The tasks it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<NeedsFile>,
    /// How their ends decide. Default: `all_success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleFile>,
    /// CEL; the task is skipped when it is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Artifacts it reads: name to `task.output`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// Artifacts it leaves in `$MUSTER_OUTPUT_DIR`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, OutputFile>,
    /// One task for many indices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<Box<ArrayFile>>,
    /// Environment on top of the job's; values may be templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What one index needs of a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<ResourcesFile>>,
    /// CEL over `worker`; all must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Texts>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<RetryFile>>,
    /// Longest run of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// Whether workers that may be taken away are used. Default: `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<SpotFile>,
    /// By when it has to be done, from the submission on: it chooses between spot and on-demand workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Millis>,
    /// With a deadline: how long one index runs, restarts not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Millis>,
    /// How it saves progress, and how it is asked to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Box<CheckpointFile>>,
    /// Workers it needs at once. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Bounds of the number of workers, instead of `workers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Box<ElasticFile>>,
    /// How close the workers of a gang must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Box<TopologyFile>>,
    /// Whether the outputs of an equal earlier task are taken instead of running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// The image it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<ContainerFile>>,
    /// Secrets handed over as files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Texts>,
}

/// What tasks have if they say nothing else. Tables are merged field by field, `env` by name, `constraints` are added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsFile {
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Texts>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot: Option<SpotFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologyFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerFile>,
    /// As in a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Texts>,
}

/// An artifact that a task leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// File or directory, relative to `$MUSTER_OUTPUT_DIR`.
    pub path: String,
    /// A command that must succeed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// A JSON Schema that it must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

impl JobFile {
    /// The file as JSON text: how it travels to a member, which parses and checks it again.
    ///
    /// # Panics
    /// Never: all keys are strings.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a job file is JSON")
    }

    /// The path of the working directory as written, if one is shipped.
    #[must_use]
    pub fn workdir_path(&self) -> Option<&str> {
        self.workdir.as_ref().map(|w| w.path.as_str())
    }

    /// All globs of what is not shipped.
    #[must_use]
    pub fn ignore_globs(&self) -> Vec<String> {
        let own = self.workdir.iter().flat_map(|w| &w.ignore);
        own.chain(&self.ignore).cloned().collect()
    }
}
