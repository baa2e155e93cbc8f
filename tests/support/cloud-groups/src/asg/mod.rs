//! Amazon EC2 Auto Scaling, as far as a scheduler of machines needs it: its query protocol (forms in, XML out), its groups, lifecycle
//! hooks at the end of a machine's life, scale-in protection, bounds and signatures.
//!
//! Sources: "Amazon EC2 Auto Scaling API Reference", "Amazon EC2 Auto Scaling lifecycle hooks" of the user guide, and the words of real
//! refusals in public bug reports. Left out: health checks, policies, warm pools, suspended processes, hooks at a machine's start.

pub mod api;
pub mod control;
pub mod group;
mod signature;
mod xml;

use group::Group;
use signature::Key;
use std::collections::BTreeMap;
use std::time::Duration;

/// All groups of one region of one account.
#[derive(Debug, Default)]
pub struct Asg {
    groups: BTreeMap<String, Group>,
    /// Machines are numbered over all groups.
    started: u64,
    /// Whose signatures are accepted. None: anybody's.
    key: Option<Key>,
    /// So many pages of the next descriptions are empty.
    empty_pages: u32,
}

impl Asg {
    /// Does what is due: hooks that have timed out, machines to start, machines to end.
    fn settle(&mut self, now: Duration) {
        for group in self.groups.values_mut() {
            group.settle(now, &mut self.started);
        }
    }

    fn group_of(&mut self, instance: &str) -> Option<&mut Group> {
        self.groups.values_mut().find(|group| group.instances.contains_key(instance))
    }
}

/// A refusal, in AWS's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    /// What most refusals are.
    pub fn validation(message: impl Into<String>) -> Self {
        Self { status: 400, code: "ValidationError", message: message.into() }
    }
}
