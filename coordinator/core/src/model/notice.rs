//! A preemption notice: somebody says that a machine goes, or may go, at a time.

use super::time::{Stamp, Tick};
use serde::{Deserialize, Serialize};

/// Who said so.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NoticeSource {
    Aws,
    Gcp,
    Azure,
    Systemd,
    File,
    Sigterm,
    /// By a call.
    Operator,
}

impl NoticeSource {
    /// The word in configuration and shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Systemd => "systemd",
            Self::File => "file",
            Self::Sigterm => "sigterm",
            Self::Operator => "operator",
        }
    }
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The machine goes: what runs is evicted, nothing is placed there.
    Preemption,
    /// It may go: nothing is placed there, what runs may finish.
    Advice,
    /// It stays after all.
    Withdrawn,
}

/// One notice, as a worker or a caller says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub source: NoticeSource,
    pub kind: NoticeKind,
    /// Milliseconds from its saying until the machine goes; none: unknown.
    pub in_ms: Option<u64>,
    /// In the source's words.
    pub detail: String,
    /// An exercise: the machine stays.
    pub drill: bool,
}

/// The notice that a worker is under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    pub notice: Notice,
    /// When it came.
    pub since: Stamp,
    /// When the machine goes.
    pub deadline: Option<Tick>,
}
