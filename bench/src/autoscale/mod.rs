//! `muster bench autoscale`: what a stream of tasks costs and waits when the core's `decide` says what is there, beside other rules; on recorded
//! arrivals, recorded spot availability and real prices.
//!
//! Code map: `stream` arrivals · `market` machines and prices · `world` the replay · `outcome` what is counted · `muster`, `kubernetes`, `target`,
//! `fixed` the rules · `contest` settings, and cost at equal wait · `document` table and JSON. Only the core is driven: no cluster, no wire.

mod contest;
mod document;
mod fixed;
mod kubernetes;
mod market;
mod muster;
mod outcome;
mod stream;
mod target;
mod world;
#[cfg(test)]
mod world_test;

use crate::cli::{Options, Output};
use crate::replay_args::seeds;
use crate::report::say;
use anyhow::Result;
use contest::{Plan, Traces, contest, load};
use document::Document;
use std::path::PathBuf;
pub use stream::Part;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster bench autoscale --traces ~/traces --seeds 1-5 --output json")]
pub struct AutoscaleArgs {
    /// The directory that holds `alibaba-gpu-v2023/` (github.com/alibaba/clusterdata, `cluster-trace-gpu-v2023`) and `spot-aws/`
    /// (github.com/skypilot-org/spot-traces).
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
    /// First and last seed: which stretches of the traces are replayed.
    #[arg(long, value_name = "FIRST-LAST", default_value = "1-5")]
    seeds: String,
    /// Days of arrivals in each run.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=14))]
    days: u64,
    /// Which part of the traces.
    #[arg(long, value_enum, default_value = "reported")]
    part: Part,
}

/// The text for stdout.
///
/// # Errors
/// Files that are not there or wrong, seeds that are none.
pub fn run(args: &AutoscaleArgs, options: &Options) -> Result<String> {
    let plan = Plan { part: args.part, days: args.days, seeds: seeds(&args.seeds)? };
    let traces = Traces::read(&args.traces, plan.part)?;
    let curves = contest(&traces, &plan, |name, spot, point| {
        let market = if spot { "spot first" } else { "on demand" };
        let figures = &point.figures;
        say(&format!(
            "{market}: {name}, {}: {:.0} USD, {:.0} s",
            point.setting, figures.usd, figures.mean_wait_s
        ));
    });
    let document = Document::new(&plan, load(&traces, &plan), curves);
    Ok(match options.output {
        Output::Table => document.table(),
        Output::Json => serde_json::to_string_pretty(&document)? + "\n",
    })
}
