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

impl NoticeKind {
    /// The word on the wire and shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preemption => "preemption",
            Self::Advice => "advice",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The kind that this word names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Preemption, Self::Advice, Self::Withdrawn].into_iter().find(|kind| kind.as_str() == word)
    }
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

/// A deadline that comes nearer by less than this is the same one, said again, ms.
pub const SAME_DEADLINE_MS: u64 = 1_000;

impl Noticed {
    /// Whether this notice of a worker, which comes now, says nothing new.
    #[must_use]
    pub fn covers(&self, notice: &Notice, now: Tick) -> bool {
        let sooner = match (notice.in_ms, self.deadline) {
            (Some(ms), Some(deadline)) => now.plus(ms).plus(SAME_DEADLINE_MS) < deadline,
            (Some(_), None) => true,
            (None, _) => false,
        };
        match (self.notice.kind, notice.kind) {
            (_, NoticeKind::Withdrawn) => self.notice.source != notice.source,
            (NoticeKind::Advice, NoticeKind::Preemption) => false,
            (NoticeKind::Preemption, NoticeKind::Preemption) => {
                !sooner && (notice.drill || !self.notice.drill)
            }
            _ => true,
        }
    }

    /// What is known after one more: a deadline only comes nearer, and what was no exercise does not become one.
    #[must_use]
    pub fn merged(self, notice: &Notice, stamp: Stamp) -> Self {
        let deadline = notice.in_ms.map(|ms| stamp.tick.plus(ms));
        match (self.notice.kind, notice.kind) {
            (NoticeKind::Advice, NoticeKind::Preemption) => {
                Self { notice: notice.clone(), since: stamp, deadline }
            }
            (NoticeKind::Preemption, NoticeKind::Preemption) => {
                let drill = self.notice.drill && notice.drill;
                let is_sooner = match (deadline, self.deadline) {
                    (Some(new), Some(old)) => new < old,
                    (new, old) => new.is_some() && old.is_none(),
                };
                if is_sooner || (self.notice.drill && !drill) {
                    let deadline = [deadline, self.deadline].into_iter().flatten().min();
                    Self { notice: Notice { drill, ..notice.clone() }, since: self.since, deadline }
                } else {
                    self
                }
            }
            _ => self,
        }
    }
}
