//! A group of machines as its provider describes it.

use std::collections::BTreeMap;

/// The group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// How many machines the provider means to have.
    pub desired: u32,
    /// The provider's own bounds.
    pub min: u32,
    pub max: u32,
    /// Machines by id, those that are on their way up or down too.
    pub instances: Vec<Instance>,
    /// What the group says of its machines, where the provider keeps such words: the labels that their workers will have.
    pub labels: BTreeMap<String, String>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The provider's id. A worker on it says it in its label `instance_id`.
    pub id: String,
    pub phase: Phase,
    /// The provider does not choose it when it shrinks the group by itself.
    pub protected: bool,
    /// Image, launch template with version, or model, if the provider says it: the oldest goes first.
    pub image: Option<String>,
}

/// Where a machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Asked for, not yet up.
    Booting,
    InService,
    /// It is to be ended, and the provider waits for [`crate::Driver::release`] (or until its own time-out).
    Held,
    /// It is being ended.
    Going,
}
