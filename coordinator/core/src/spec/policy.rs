//! Rules, retries and stopping in a job file, and their merging with the defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;
use crate::model::job_spec::TriggerRule;

/// How the ends of the needed tasks decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleFile {
    /// All succeeded.
    AllSuccess,
    /// All ended.
    AllDone,
    /// All failed.
    AllFailed,
    /// One succeeded.
    OneSuccess,
    /// One failed.
    OneFailed,
    /// All ended, none failed.
    NoneFailed,
    /// All ended, none failed, one succeeded.
    NoneFailedMinOneSuccess,
    /// Whatever happened.
    Always,
}

impl From<RuleFile> for TriggerRule {
    fn from(rule: RuleFile) -> Self {
        match rule {
            RuleFile::AllSuccess => Self::AllSuccess,
            RuleFile::AllDone => Self::AllDone,
            RuleFile::AllFailed => Self::AllFailed,
            RuleFile::OneSuccess => Self::OneSuccess,
            RuleFile::OneFailed => Self::OneFailed,
            RuleFile::NoneFailed => Self::NoneFailed,
            RuleFile::NoneFailedMinOneSuccess => Self::NoneFailedMinOneSuccess,
            RuleFile::Always => Self::Always,
        }
    }
}

/// Whether workers that may be taken away are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpotFile {
    /// Any worker.
    #[default]
    Allow,
    /// Only such workers.
    Require,
    /// No such worker.
    Avoid,
}

/// When a task is tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryFile {
    /// Attempts that may fail by the task's own fault. Default: 1, no retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The wait before the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffFile>,
    /// Which failures are tried again. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<RetryOnFile>,
    /// What lines of the log decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_rules: Option<Vec<LogRuleFile>>,
}

/// The wait before the next attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackoffFile {
    /// Before the second attempt. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Millis>,
    /// Growth from one to the next, 1 to 100. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The longest. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Millis>,
    /// Spread to both sides, 0 to 1. Default: 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// Which failures are tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryOnFile {
    /// Exit codes; signal n counts as 128 + n. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_codes: Option<Vec<i32>>,
    /// Killed for memory. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<bool>,
    /// Ran out of time. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<bool>,
}

/// What follows from a line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRuleFile {
    /// A regular expression.
    #[serde(rename = "match")]
    pub matches: String,
    /// What follows.
    pub action: LogActionFile,
}

/// What follows from a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogActionFile {
    /// No further attempt.
    Fail,
    /// Another attempt.
    Retry,
    /// Another attempt on another worker, not charged.
    ExcludeWorker,
}

/// How a task saves progress and is asked to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// How often it is asked to save, by `signal` where that is not SIGTERM. Default: it saves when it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Millis>,
    /// Time between the first signal and SIGTERM. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Millis>,
    /// The first signal. Default: SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// A glob of directories that are committed by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<String>,
    /// How long a watched directory must not have changed. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<Millis>,
    /// Committed checkpoints that are kept, 1 to 100. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// What a task says, completed by the defaults, field by field.
#[must_use]
pub(super) fn merge_retry(own: Option<&RetryFile>, defaults: Option<&RetryFile>) -> RetryFile {
    let (Some(own), Some(defaults)) = (own, defaults) else {
        return own.or(defaults).cloned().unwrap_or_default();
    };
    let backoff = match (own.backoff, defaults.backoff) {
        (Some(a), Some(b)) => Some(BackoffFile {
            initial: a.initial.or(b.initial),
            factor: a.factor.or(b.factor),
            max: a.max.or(b.max),
            jitter: a.jitter.or(b.jitter),
        }),
        (a, b) => a.or(b),
    };
    let on = match (&own.on, &defaults.on) {
        (Some(a), Some(b)) => Some(RetryOnFile {
            exit_codes: a.exit_codes.as_ref().or(b.exit_codes.as_ref()).cloned(),
            oom: a.oom.or(b.oom),
            timeout: a.timeout.or(b.timeout),
        }),
        (a, b) => a.as_ref().or(b.as_ref()).cloned(),
    };
    RetryFile {
        attempts: own.attempts.or(defaults.attempts),
        backoff,
        on,
        log_rules: own.log_rules.as_ref().or(defaults.log_rules.as_ref()).cloned(),
    }
}

/// What a task says, completed by the defaults, field by field.
#[must_use]
pub(super) fn merge_checkpoint(
    own: Option<&CheckpointFile>,
    defaults: Option<&CheckpointFile>,
) -> CheckpointFile {
    let (Some(own), Some(defaults)) = (own, defaults) else {
        return own.or(defaults).cloned().unwrap_or_default();
    };
    CheckpointFile {
        every: own.every.or(defaults.every),
        grace: own.grace.or(defaults.grace),
        signal: own.signal.as_ref().or(defaults.signal.as_ref()).cloned(),
        watch: own.watch.as_ref().or(defaults.watch.as_ref()).cloned(),
        settle: own.settle.or(defaults.settle),
        keep: own.keep.or(defaults.keep),
    }
}

/// The number of a signal on Linux, by name with or without `SIG`, or by number.
#[must_use]
pub(super) fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 14] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("TSTP", 20),
        ("WINCH", 28),
    ];
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let by_name = NAMES.iter().find(|(n, _)| *n == short).map(|&(_, number)| number);
    by_name.or_else(|| short.parse().ok().filter(|n| (1..=64).contains(n)))
}
