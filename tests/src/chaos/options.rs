//! What may be typed.

use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Torments a real cluster from a seed and judges what it did.
///
/// Prints one line, `faults N tasks N violations N seed S`, and exits with 1 if there was a violation. Needs root, network namespaces and
/// `ip`; where it cannot run it says why and exits with 0.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "muster-chaos",
    max_term_width = 110,
    after_help = "Examples:\n  muster-chaos --seed 1 --duration 10m\n  muster-chaos --duration 2m --only kill-leader,freeze-worker --keep\n  muster-chaos --seed 1 --plan       what would be done, and when\n  muster-chaos --list                the kinds of fault, their rows of the matrix, and whether this machine can do them"
)]
pub struct Options {
    /// Where everything comes from: the schedule of faults, the jobs. Drawn and printed when absent.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long the faults go on; start, healing and judging come on top.
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub duration: Duration,
    /// Only these kinds of fault, separated by commas.
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Tasks that may be open at once: the load.
    #[arg(long, default_value_t = 500)]
    pub load: usize,
    /// Where evidence is kept [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
    /// Keep logs and histories of a run without violations too.
    #[arg(long)]
    pub keep: bool,
    /// Fail, with 1, where it cannot run.
    #[arg(long)]
    pub require: bool,
    /// Print the schedule of the seed, and end.
    #[arg(long)]
    pub plan: bool,
    /// List the kinds of fault, and end.
    #[arg(long)]
    pub list: bool,
    /// What the daemons log.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

/// `90s`, `10m`, `1h`.
///
/// # Errors
/// Another text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration: write 90s, 10m or 1h");
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    if number == 0 {
        return Err(bad());
    }
    Ok(Duration::from_secs(number * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        for bad in ["", "10", "m", "0s", "1d", "-1s", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
