//! Which character devices the processes of a group may not open.
//!
//! A list of what is denied and not of what is allowed: GPUs are ours to give, everything else (InfiniBand, FUSE, terminals) is not our
//! business. On v1 the list goes into `devices.deny`; on v2 it is compiled into a program of a few instructions that the kernel runs at
//! each open (`filter`). Without cgroups nothing is enforced.

mod filter;

pub use filter::Filter;
use serde::{Deserialize, Serialize};

/// A character device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    pub major: u32,
    pub minor: u32,
}

impl Node {
    /// As `devices.deny` and `devices.allow` take it.
    #[must_use]
    pub fn rule(self) -> String {
        format!("c {}:{} rwm", self.major, self.minor)
    }
}
