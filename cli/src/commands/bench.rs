//! `muster bench`: the load generator. What it measures is in the crate `muster-bench`; here it meets the contexts and stdout.

use crate::args::Global;
use crate::context;
use crate::failure::{DONE, Done, Failure, REFUSED};
use crate::output;
use muster_bench::Target;
use muster_bench::cli::{BenchArgs, run};
use muster_proto::channel::Tls;

/// Measures this version on this machine, each verb on a temporary cluster of its own.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster bench dispatch\n  muster bench raft --output json\n  muster bench apply --check"
)]
pub struct Args {
    #[command(flatten)]
    bench: BenchArgs,
}

impl Args {
    /// A cluster that is there already is measured only when it is named on the command line.
    ///
    /// # Errors
    /// A cluster that does not start, a job that does not succeed; with `--check`, a figure outside its range ends with 1.
    pub fn run(self, global: &Global) -> Done {
        let target = if global.context.is_some() || !global.address.is_empty() {
            let context = context::resolve(global)?;
            Some(Target {
                tls: context.tls.as_ref().map(Tls::from),
                addresses: context.addresses,
                token: context.token,
            })
        } else {
            None
        };
        let finished =
            run(self.bench, target).map_err(|error| Failure::new("BENCH", format!("{error:#}")))?;
        output::data(&finished.text)?;
        Ok(if finished.passed { DONE } else { REFUSED })
    }
}
