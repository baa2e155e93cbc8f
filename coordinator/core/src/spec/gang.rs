//! `workers:`, `elastic:` and `topology:` of a job file, and what they mean together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Faults;
use super::error::SpecCode;
use super::file::{DefaultsFile, TaskFile};
use super::value::Texts;
use crate::model::gang::{Gang, RANKS_MAX};

/// Bounds of the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticFile {
    /// Fewest workers.
    pub min: u32,
    /// Most workers.
    pub max: u32,
}

/// How close the workers of a gang must be: labels whose value they share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyFile {
    /// A wish: as many as possible share the value of this label. Of several, the closest first: `[rack, block]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Texts>,
    /// A condition: all share the value of this label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<String>,
}

/// The gang, if the task is one: more than one worker, or an elastic number.
pub(super) fn resolve(task: &TaskFile, defaults: &DefaultsFile, faults: &mut Faults) -> Option<Gang> {
    let mut wrong = |field: &str, message: String| faults.push(SpecCode::InvalidValue, field, message);
    let (min, max) = match (task.workers, &task.elastic) {
        (Some(workers), Some(_)) => {
            wrong("elastic", format!("`elastic` and `workers: {workers}` contradict each other: keep one"));
            return None;
        }
        (None, Some(elastic)) => (elastic.min, elastic.max),
        (own, None) => {
            let workers = own.or(defaults.workers).unwrap_or(1);
            (workers, workers)
        }
    };
    let field = if task.elastic.is_some() { "elastic" } else { "workers" };
    if min == 0 {
        let name = if task.elastic.is_some() { "elastic.min" } else { "workers" };
        wrong(name, format!("{field} is 0: a task needs at least one"));
    }
    if min > max {
        wrong(field, format!("`min` is {min} and `max` is {max}: the least is more than the most"));
    }
    if max > RANKS_MAX {
        wrong(field, format!("{max} workers: a task has at most {RANKS_MAX}"));
    }
    let topology = task.topology.as_deref().or(defaults.topology.as_ref());
    let prefer: Vec<String> = topology.and_then(|t| t.prefer.clone()).map(|t| t.0).unwrap_or_default();
    let require = topology.and_then(|t| t.require.clone());
    if prefer.iter().chain(&require).any(String::is_empty) {
        wrong("topology", "a label's name is empty".to_owned());
    }
    let is_gang = task.elastic.is_some() || max > 1;
    is_gang.then_some(Gang { min, max, require, prefer })
}
