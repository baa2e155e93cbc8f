//! `muster bench replay openb`: the command line of the replay.

use crate::cli::Output;
use crate::replay::{MixOf, run as replay};
use crate::report::say;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  muster bench replay openb --traces ~/traces --variants default,gpuspec33 --seeds 42-51"
)]
pub struct ReplayArgs {
    /// Which trace.
    #[arg(value_enum)]
    trace: TraceName,
    /// The directory that holds `alibaba-gpu-v2023/` (github.com/alibaba/clusterdata, `cluster-trace-gpu-v2023`).
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// Some of the 15 variants; default: all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    variants: Vec<String>,
    /// First and last seed; the published figures are of 42 to 51.
    #[arg(long, value_name = "FIRST-LAST", default_value = "42-51")]
    seeds: String,
    /// What the scheduler knows of the mix of tasks.
    #[arg(long, value_enum, default_value = "list")]
    mix: MixName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TraceName {
    /// 1,213 nodes with 6,212 GPUs of Alibaba, 2023.
    Openb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MixName {
    /// The shares of the original list, as the published policies do.
    List,
    /// What has arrived so far, as a cluster does.
    Learnt,
}

/// The text for stdout.
///
/// # Errors
/// Files that are not there, or names that mean nothing.
pub fn run(args: &ReplayArgs, output: Output) -> Result<String> {
    let TraceName::Openb = args.trace;
    let seeds = seeds(&args.seeds)?;
    let mix = match args.mix {
        MixName::List => MixOf::List,
        MixName::Learnt => MixOf::Learnt,
    };
    let document = replay(&args.traces, &args.variants, &seeds, mix, |variant| {
        say(&format!("{}: {:.2} % unallocated", variant.variant, variant.unallocated_pct_mean));
    })?;
    Ok(match output {
        Output::Table => document.table(),
        Output::Json => serde_json::to_string_pretty(&document)? + "\n",
    })
}

fn seeds(text: &str) -> Result<Vec<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| -> Result<u64> {
        text.trim().parse().with_context(|| format!("`{text}` is no seed; write them as `42-51`"))
    };
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "seeds {first}-{last} are none; the first comes first");
    if last - first >= 1_000 {
        bail!("{} seeds are too many; 1,000 at most", last - first + 1);
    }
    Ok((first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_or_one() {
        assert_eq!(seeds("42-44").expect("seeds"), [42, 43, 44]);
        assert_eq!(seeds("7").expect("a seed"), [7]);
        for wrong in ["", "5-4", "a-b", "0-5000"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
