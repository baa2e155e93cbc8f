//! Figures: recorded while a benchmark runs, then one document or one table, with the aims and expected ranges beside them.

use crate::machine::Machine;
use crate::ranges::{Range, Ranges};
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Names its range in `bench/ranges/`.
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// What was aimed at before measuring, e.g. `>= 0.5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    /// What `--check` asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_expected: Option<bool>,
}

/// Collects figures and notes.
#[derive(Debug, Default)]
pub struct Recorder {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Recorder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        self.figures.push(Figure {
            name,
            value,
            unit,
            aim: None,
            reached: None,
            expected: None,
            as_expected: None,
        });
    }

    /// Adds a sentence that the reader of the figures must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// The whole result of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    pub bench: &'static str,
    pub version: &'static str,
    pub seed: u64,
    pub machine: Machine,
    pub figures: Vec<Figure>,
    pub notes: Vec<String>,
}

impl Report {
    /// Puts the ranges beside the figures.
    #[must_use]
    pub fn new(
        bench: &'static str,
        seed: u64,
        machine: Machine,
        recorder: Recorder,
        ranges: &Ranges,
    ) -> Self {
        let Recorder { mut figures, notes } = recorder;
        for figure in &mut figures {
            let Some(bounds) = ranges.get(&figure.name) else { continue };
            let side = |range: Option<&Range>| {
                (range.map(ToString::to_string), range.map(|range| range.holds(figure.value)))
            };
            let ((aim, reached), (expected, as_expected)) =
                (side(bounds.aim.as_ref()), side(bounds.expected.as_ref()));
            (figure.aim, figure.reached, figure.expected, figure.as_expected) =
                (aim, reached, expected, as_expected);
        }
        Self { bench, version: env!("CARGO_PKG_VERSION"), seed, machine, figures, notes }
    }

    /// No figure is outside its expected range.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        self.figures.iter().all(|figure| figure.as_expected != Some(false))
    }

    /// For programs.
    ///
    /// # Errors
    /// None that occurs: numbers are finite.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let machine = &self.machine;
        let mut out = format!(
            "bench {}, muster {}, seed {}\nmachine: {}, {} cores, Linux {}, {} on {}, load before {}\n\n",
            self.bench,
            self.version,
            self.seed,
            machine.model,
            machine.cores,
            machine.kernel,
            machine.filesystem,
            machine.directory,
            machine.load
        );
        let word = |reached: Option<bool>, yes: &str, no: &str| match reached {
            Some(true) => yes.to_owned(),
            Some(false) => no.to_owned(),
            None => String::new(),
        };
        let mut rows = vec![["FIGURE", "VALUE", "UNIT", "AIM", "", "EXPECTED", ""].map(str::to_owned)];
        rows.extend(self.figures.iter().map(|figure| {
            [
                figure.name.clone(),
                number(figure.value),
                figure.unit.to_owned(),
                figure.aim.clone().unwrap_or_default(),
                word(figure.reached, "reached", "missed"),
                figure.expected.clone().unwrap_or_default(),
                word(figure.as_expected, "yes", "NO"),
            ]
        }));
        let widths: Vec<usize> =
            (0..7).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
        for row in rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ =
                    if at == 1 { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }
}

/// Three digits that matter, no exponent.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Says one line to people on stderr while something long runs.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The value below which `percent` of the sorted values lie (nearest rank). 0 when there is none.
#[must_use]
pub fn percentile<T: Copy + Into<f64>>(sorted: &[T], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).map_or(0.0, |value| (*value).into())
}

/// The middle of some values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50.0, 99.0));
        assert_eq!(percentile::<u32>(&[], 50), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn a_table_shows_what_was_missed() {
        let mut recorder = Recorder::new();
        recorder.figure("share_of_bare_loop", 0.25, "ratio");
        let ranges = Ranges::of("dispatch").expect("ranges");
        let report = Report::new("dispatch", 1, Machine::default(), recorder, &ranges);
        let table = report.table();
        assert!(table.contains("0.250") && table.contains(">= 0.5") && table.contains("missed"), "{table}");
    }
}
