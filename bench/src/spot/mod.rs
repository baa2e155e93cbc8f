//! `muster bench replay spot`: a published trace of spot availability, and what a task with a deadline costs under the core's own policy, under
//! others, and under one that knows the future. `muster bench replay goodput`: a pool of 16 spot workers, and how much of its time comes to good.
//!
//! Code map: `trace` the files · `protocol` one run, as the evaluator of "Can't Be Late" lays down · `rules` the policies · `bound` the
//! cheapest way in hindsight · `document` table and JSON of `spot` · `goodput` the pool. No cluster, no wire.

mod bound;
mod document;
pub mod goodput;
mod protocol;
mod rules;
mod trace;

pub use trace::{Counts, RunSet, counts};

use anyhow::Result;
use bound::cheapest;
use document::{Document, Row};
use protocol::{Setting, replay};
use rules::Rule;
use std::path::Path;
use std::time::Instant;

/// Every rule over every run of the set; `told` hears of each rule that is done.
///
/// # Errors
/// A file that is missing or wrong.
pub fn run(dir: &Path, set: RunSet, mut told: impl FnMut(&Row)) -> Result<Document> {
    let windows = trace::windows(dir, set)?;
    let settings: Vec<Setting> = Setting::all();
    let runs: Vec<(&trace::Window, &Setting)> =
        windows.iter().flat_map(|window| settings.iter().map(move |setting| (window, setting))).collect();
    let mut rows = Vec::new();
    for rule in Rule::ALL {
        let begin = Instant::now();
        let outcomes: Vec<_> =
            runs.iter().map(|(window, setting)| replay(&window.looks, setting, rule)).collect();
        let row = Row::new(rule.name(), &runs, &outcomes, begin.elapsed().as_secs_f64());
        told(&row);
        rows.push(row);
    }
    let least: f64 = runs.iter().map(|(window, setting)| cheapest(&window.looks, setting)).sum::<f64>()
        / runs.len() as f64;
    Ok(Document::new(set, rows, least, runs.len()))
}
