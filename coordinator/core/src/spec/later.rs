//! Fields of the job file whose features come in later versions. Their shape is checked today, so that a file written for them is
//! either read right or refused by name (`validate::unsupported`), never half understood.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Texts, WhenEnd};

/// When a job is submitted again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFile {
    /// Five fields, Sunday = 0.
    pub cron: String,
    /// IANA zone. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What happens while the last one still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// Past runs that are made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillFile>,
}

/// What happens when the last run of a schedule still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The new one is left out.
    Skip,
    /// The new one waits.
    Queue,
    /// Both run.
    Allow,
    /// The old one is cancelled.
    Replace,
}

/// Past runs that are made up for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillFile {
    /// First day, `2026-01-01`.
    pub from: String,
    /// Last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What submits a job: exactly one of `artifact`, `job` and `webhook`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerFile {
    /// A new version of this artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The end of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The end that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<WhenEnd>,
    /// A call of this hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// Who is told what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyFile {
    /// Where it is sent.
    pub webhook: String,
    /// Which events. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Texts>,
}

/// The image a task runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerFile {
    /// A reference or a file.
    pub image: String,
    /// What runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<ContainerRuntime>,
}

/// What runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerRuntime {
    /// Podman.
    Podman,
    /// Docker.
    Docker,
    /// Apptainer.
    Apptainer,
}
