//! Typed identifiers. One macro for all of them; none is ever reused.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
            schemars::JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// A job, counted by the log from 1.
    JobId(u64)
);
id!(
    /// A task's position in its job file, from 0.
    TaskNo(u32)
);
id!(
    /// A worker, counted by the log from 1; a name keeps its id across incarnations.
    WorkerId(u64)
);
id!(
    /// The fencing token of one grant: `max(last token + 1, log index)`. It only grows.
    Token(u64)
);

id!(
    /// A member of the coordinator, counted by the log from 1 and never used twice in a cluster.
    MemberId(u64)
);

/// One index of one task; a task without an array has only index 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IndexRef {
    pub job: JobId,
    pub task: TaskNo,
    pub index: u32,
}

impl IndexRef {
    #[must_use]
    pub fn new(job: JobId, task: TaskNo, index: u32) -> Self {
        Self { job, task, index }
    }
}
