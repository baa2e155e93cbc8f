//! `muster bench replay TRACE`: the command line of the replays.

use crate::cli::{Options, Output};
use crate::replay::{MixOf, run as replay};
use crate::report::say;
use crate::spot::{self, RunSet, goodput};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster bench replay openb --traces ~/traces --variants default,gpuspec33 --seeds 42-51\n  muster bench replay spot --traces ~/traces\n  muster bench replay goodput --traces ~/traces"
)]
pub struct ReplayArgs {
    /// Which trace.
    #[arg(value_enum)]
    trace: TraceName,
    /// The directory that holds `alibaba-gpu-v2023/` (github.com/alibaba/clusterdata, `cluster-trace-gpu-v2023`) or `spot-aws/`
    /// (github.com/skypilot-org/spot-traces).
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// Of openb: some of the 15 variants; default: all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    variants: Vec<String>,
    /// Of openb: first and last seed; the published figures are of 42 to 51, the default.
    #[arg(long, value_name = "FIRST-LAST")]
    seeds: Option<String>,
    /// Of openb: what the scheduler knows of the mix of tasks; default: list.
    #[arg(long, value_enum)]
    mix: Option<MixName>,
    /// Of spot: which windows; default: those of the published evaluator.
    #[arg(long, value_enum)]
    windows: Option<RunSet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TraceName {
    /// 1,213 nodes with 6,212 GPUs of Alibaba, 2023.
    Openb,
    /// Spot availability of AWS, 2022: 48 h of work by a deadline, what it costs.
    Spot,
    /// Spot availability of AWS, 2023: a pool of 16 workers, how much of its time comes to good.
    Goodput,
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
/// Files that are not there, names that mean nothing, or options of another trace.
pub fn run(args: &ReplayArgs, options: &Options) -> Result<String> {
    let of_openb = !args.variants.is_empty() || args.seeds.is_some() || args.mix.is_some();
    ensure!(
        args.trace == TraceName::Openb || !of_openb,
        "--variants, --seeds and --mix are options of `replay openb`; leave them out"
    );
    ensure!(
        args.trace == TraceName::Spot || args.windows.is_none(),
        "--windows is an option of `replay spot`; leave it out"
    );
    match args.trace {
        TraceName::Openb => {
            let seeds = seeds(args.seeds.as_deref().unwrap_or("42-51"))?;
            let mix = match args.mix.unwrap_or(MixName::List) {
                MixName::List => MixOf::List,
                MixName::Learnt => MixOf::Learnt,
            };
            let document = replay(&args.traces, &args.variants, &seeds, mix, |variant| {
                say(&format!("{}: {:.2} % unallocated", variant.variant, variant.unallocated_pct_mean));
            })?;
            text(&document, options.output, document.table())
        }
        TraceName::Spot => {
            let set = args.windows.unwrap_or(RunSet::Evaluator);
            let document = spot::run(&args.traces, set, |row| {
                say(&format!("{}: {:.2} USD, {} late", row.name, row.mean_usd, row.misses));
            })?;
            text(&document, options.output, document.table())
        }
        TraceName::Goodput => {
            let document = goodput::run(&args.traces, options.seed)?;
            text(&document, options.output, document.table())
        }
    }
}

fn text(document: &impl Serialize, output: Output, table: String) -> Result<String> {
    Ok(match output {
        Output::Table => table,
        Output::Json => serde_json::to_string_pretty(document)? + "\n",
    })
}

/// `42-51`, or `7`.
///
/// # Errors
/// Anything else, or more than 1,000.
pub fn seeds(text: &str) -> Result<Vec<u64>> {
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
