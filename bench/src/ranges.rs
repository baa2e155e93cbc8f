//! What is expected of figures: `bench/ranges/VERB.toml`, compiled in, so that the binary checks itself wherever it runs.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// One side or both of what a figure may be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

impl Range {
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        self.at_least.is_none_or(|least| value >= least) && self.at_most.is_none_or(|most| value <= most)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => write!(f, "{least} to {most}"),
            (Some(least), None) => write!(f, ">= {least}"),
            (None, Some(most)) => write!(f, "<= {most}"),
            (None, None) => Ok(()),
        }
    }
}

/// The aim, set before measuring; and what this version is held to by `--check`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    pub aim: Option<Range>,
    pub expected: Option<Range>,
}

/// The ranges of one verb, by figure.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Ranges(BTreeMap<String, Bounds>);

impl Ranges {
    /// The ranges of `muster bench VERB`.
    ///
    /// # Errors
    /// A file of this repository that is wrong.
    pub fn of(verb: &str) -> Result<Self> {
        let text = match verb {
            "dispatch" => include_str!("../ranges/dispatch.toml"),
            "latency" => include_str!("../ranges/latency.toml"),
            "dag" => include_str!("../ranges/dag.toml"),
            "store" => include_str!("../ranges/store.toml"),
            "submit" => include_str!("../ranges/submit.toml"),
            "apply" => include_str!("../ranges/apply.toml"),
            "gangs" => include_str!("../ranges/gangs.toml"),
            "raft" => include_str!("../ranges/raft.toml"),
            "herd" => include_str!("../ranges/herd.toml"),
            "failover" => include_str!("../ranges/failover.toml"),
            "rolling" => include_str!("../ranges/rolling.toml"),
            "recover" => include_str!("../ranges/recover.toml"),
            "plan" => include_str!("../ranges/plan.toml"),
            "readopt" => include_str!("../ranges/readopt.toml"),
            "evict" => include_str!("../ranges/evict.toml"),
            "decide" => include_str!("../ranges/decide.toml"),
            "scale-in" => include_str!("../ranges/scale-in.toml"),
            _ => bail!("there are no ranges of {verb}"),
        };
        toml::from_str(text).with_context(|| format!("bench/ranges/{verb}.toml"))
    }

    /// The bounds of one figure.
    #[must_use]
    pub fn get(&self, figure: &str) -> Option<&Bounds> {
        self.0.get(figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_read() {
        for verb in [
            "dispatch", "latency", "dag", "submit", "apply", "raft", "failover", "rolling", "recover",
            "readopt", "herd", "plan", "store", "decide", "scale-in",
        ] {
            assert!(!Ranges::of(verb).expect(verb).0.is_empty(), "{verb}");
        }
    }
}
