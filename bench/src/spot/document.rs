//! What a replay of `spot` came to, as a document for programs and a table for people.

use super::protocol::{Outcome, Setting};
use super::trace::{RunSet, Window};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// 48 h on-demand and 48 h of spot without a restart, USD: 0 and 100 of the published score.
const WORST: f64 = 146.88;
const BEST: f64 = 46.71;

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub name: &'static str,
    /// Over all runs, late ones too.
    pub mean_usd: f64,
    pub misses: usize,
    /// Over the runs that were in time.
    pub mean_usd_in_time: f64,
    /// `(146.88 - mean) / (146.88 - 46.71)`, in %.
    pub score: f64,
    /// Mean cost by deadline and restart, `52 h, 72 s`.
    pub by_setting: BTreeMap<String, f64>,
    pub by_instance: BTreeMap<String, f64>,
    pub decisions: u64,
    pub us_per_decision: f64,
}

impl Row {
    pub fn new(name: &'static str, runs: &[(&Window, &Setting)], outcomes: &[Outcome], seconds: f64) -> Self {
        let in_time = mean(outcomes.iter().filter(|o| !o.missed).map(|o| o.usd));
        let mean_usd = mean(outcomes.iter().map(|o| o.usd));
        let by = |key: &dyn Fn(&Window, &Setting) -> String| {
            let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            for ((window, setting), outcome) in runs.iter().zip(outcomes) {
                found.entry(key(window, setting)).or_default().push(outcome.usd);
            }
            found.into_iter().map(|(key, usd)| (key, mean(usd.into_iter()))).collect()
        };
        let decisions: u64 = outcomes.iter().map(|o| o.decisions).sum();
        Self {
            name,
            mean_usd,
            misses: outcomes.iter().filter(|o| o.missed).count(),
            mean_usd_in_time: in_time,
            score: score(mean_usd),
            by_setting: by(&|_, setting| format!("{} h, {} s", setting.deadline_h, setting.restart_s)),
            by_instance: by(&|window, _| window.instance.clone()),
            decisions,
            us_per_decision: seconds * 1e6 / decisions.max(1) as f64,
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

fn score(usd: f64) -> f64 {
    100.0 * (WORST - usd) / (WORST - BEST)
}

/// The whole replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    pub trace: &'static str,
    pub version: &'static str,
    pub set: &'static str,
    pub runs: usize,
    pub policies: Vec<Row>,
    /// The cheapest way in hindsight, exactly.
    pub hindsight_usd: f64,
    pub hindsight_score: f64,
}

impl Document {
    pub fn new(set: RunSet, policies: Vec<Row>, hindsight_usd: f64, runs: usize) -> Self {
        let set = match set {
            RunSet::Evaluator => "evaluator",
            RunSet::February => "february",
            RunSet::Later => "later",
        };
        Self {
            trace: "spot-aws",
            version: env!("CARGO_PKG_VERSION"),
            set,
            runs,
            policies,
            hindsight_usd,
            hindsight_score: score(hindsight_usd),
        }
    }

    /// Aligned columns.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("48 h of work by a deadline, {} runs, windows: {}\n", self.runs, self.set);
        let _ = writeln!(
            text,
            "{:<38}{:>10}{:>8}{:>8}{:>14}{:>14}",
            "policy", "mean USD", "late", "score", "USD in time", "us/decision"
        );
        for row in &self.policies {
            let _ = writeln!(
                text,
                "{:<38}{:>10.2}{:>8}{:>8.1}{:>14.2}{:>14.2}",
                row.name, row.mean_usd, row.misses, row.score, row.mean_usd_in_time, row.us_per_decision
            );
        }
        let _ = writeln!(
            text,
            "{:<38}{:>10.2}{:>8}{:>8.1}",
            "the cheapest way in hindsight", self.hindsight_usd, 0, self.hindsight_score
        );
        if let Some(ours) = self.policies.first() {
            let list = |of: &BTreeMap<String, f64>| {
                let cells: Vec<String> = of.iter().map(|(key, usd)| format!("{key}: {usd:.2}")).collect();
                cells.join("; ")
            };
            let _ =
                writeln!(text, "\n{}: {}\n{}", ours.name, list(&ours.by_setting), list(&ours.by_instance));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_runs_count_and_are_told_apart() {
        let window = Window { instance: "a".to_owned(), looks: Vec::new() };
        let settings = Setting::all();
        let runs = [(&window, &settings[0]), (&window, &settings[1])];
        let outcome = |usd, missed| Outcome { usd, missed, decisions: 5 };
        let row = Row::new("x", &runs, &[outcome(100.0, false), outcome(120.0, true)], 2e-5);
        assert_eq!((row.mean_usd, row.misses, row.mean_usd_in_time), (110.0, 1, 100.0));
        assert_eq!((row.us_per_decision.round(), row.decisions), (2.0, 10));
        assert_eq!(row.by_setting.get("52 h, 180 s"), Some(&120.0));
        assert_eq!(row.by_instance.get("a"), Some(&110.0));
        let document = Document::new(RunSet::Later, vec![row], 90.0, 2);
        let table = document.table();
        let line = table.lines().find(|line| line.starts_with('x')).expect("a row");
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["x", "110.00", "1", "36.8", "100.00", "2.00"]);
    }
}
