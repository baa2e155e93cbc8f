//! The files of the trace: of each look, whether there was a spot machine.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use flate2::read::GzDecoder;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Between two looks of the protocol, s.
pub const LOOK_S: u64 = 600;

const OCTOBER: &str = "avail_1-node_aws-10-26-2022";
const FEBRUARY: &str = "avail_1-node_aws-02-15-2023";
/// The two-week traces of which the evaluator's windows are cut.
const INSTANCES: [&str; 6] = [
    "us-west-2a_k80_8",
    "us-west-2b_k80_1",
    "us-west-2b_k80_8",
    "us-west-2a_v100_1",
    "us-west-2a_v100_8",
    "us-west-2b_v100_1",
];
const ZONES: [&str; 9] = [
    "us-east-1a_v100_1",
    "us-east-1c_v100_1",
    "us-east-1d_v100_1",
    "us-east-1f_v100_1",
    "us-east-2a_v100_1",
    "us-east-2b_v100_1",
    "us-west-2a_v100_1",
    "us-west-2b_v100_1",
    "us-west-2c_v100_1",
];
/// The last window of the evaluator ends here.
const LATER_FROM: usize = 1_767;
/// Windows of each trace outside the evaluator's set, evenly spaced, and their length in looks: 80 h.
const WINDOWS: usize = 10;
const WINDOW_LOOKS: usize = 480;

/// Which windows are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunSet {
    /// The 180 windows of the published evaluator: what figures are quoted of.
    Evaluator,
    /// 90 windows of nine other zones: the constants of the policy were chosen on these …
    February,
    /// … and on 60 windows of the evaluator's machines, after its last window.
    Later,
}

/// One stretch of availability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub instance: String,
    /// Of each look, whether there was a machine.
    pub looks: Vec<bool>,
}

/// How many machines there were.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Counts {
    pub gap_seconds: f64,
    pub data: Vec<u32>,
}

/// The windows of a set, from `dir/spot-aws`.
///
/// # Errors
/// A file that is missing or no trace.
pub fn windows(dir: &Path, set: RunSet) -> Result<Vec<Window>> {
    let dir = dir.join("spot-aws");
    match set {
        RunSet::Evaluator => evaluator(&dir),
        RunSet::February => cut(&dir, FEBRUARY, &ZONES, 0),
        RunSet::Later => cut(&dir, OCTOBER, &INSTANCES, LATER_FROM),
    }
}

/// One trace of counts.
///
/// # Errors
/// A file that is missing or no trace.
pub fn counts(dir: &Path, set: &str, name: &str) -> Result<Counts> {
    let path = dir.join(set).join(format!("{name}.json.gz"));
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| GzDecoder::new(BufReader::new(file)).read_to_string(&mut text))
        .with_context(|| missing(&path))?;
    let counts: Counts =
        serde_json::from_str(&text).with_context(|| format!("{} is no spot trace", path.display()))?;
    ensure!(counts.gap_seconds >= 1.0, "{}: ticks of {} s", path.display(), counts.gap_seconds);
    Ok(counts)
}

fn missing(path: &Path) -> String {
    format!("cannot read {}; name the directory that holds spot-aws with --traces", path.display())
}

fn evaluator(dir: &Path) -> Result<Vec<Window>> {
    let path = dir.join("cant-be-late-windows.csv");
    let text = std::fs::read_to_string(&path).with_context(|| missing(&path))?;
    let mut windows = Vec::new();
    for instance in INSTANCES {
        let looks = looks(&counts(dir, OCTOBER, instance)?);
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [name, _, start, end, "1"] = fields[..] else { continue };
            if name == instance {
                let range = start.parse()?..end.parse()?;
                let looks =
                    looks.get(range).with_context(|| format!("{instance} is shorter than `{line}`"))?;
                windows.push(Window { instance: instance.to_owned(), looks: looks.to_vec() });
            }
        }
    }
    Ok(windows)
}

fn cut(dir: &Path, set: &str, names: &[&str], from: usize) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    for name in names {
        let all = looks(&counts(dir, set, name)?);
        let all = all.get(from..).unwrap_or_default();
        ensure!(
            all.len() > WINDOW_LOOKS,
            "{name} has {} looks; more than {WINDOW_LOOKS} are needed",
            all.len()
        );
        for n in 0..WINDOWS {
            let start = n * (all.len() - WINDOW_LOOKS) / (WINDOWS - 1);
            let looks = all[start..start + WINDOW_LOOKS].to_vec();
            windows.push(Window { instance: (*name).to_owned(), looks });
        }
    }
    Ok(windows)
}

/// One look each ten minutes, whatever the ticks of the file.
fn looks(counts: &Counts) -> Vec<bool> {
    let gap = counts.gap_seconds as u64;
    let length = counts.data.len() as u64 * gap / LOOK_S;
    let at = |n: u64| counts.data.get((n * LOOK_S / gap) as usize);
    (0..length).map(|n| at(n).is_some_and(|count| *count > 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_what_the_tick_that_it_falls_into_says() {
        let counts = |gap_seconds, data: &[u32]| Counts { gap_seconds, data: data.to_vec() };
        assert_eq!(looks(&counts(600.0, &[1, 0, 2])), [true, false, true]);
        assert_eq!(looks(&counts(300.0, &[1, 0, 0, 0, 1])), [true, false]);
        assert_eq!(looks(&counts(200.0, &[0, 1, 1, 1, 0, 0])), [false, true]);
    }
}
