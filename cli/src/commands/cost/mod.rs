//! Verbs about cost.

pub mod month;
pub mod report;

use crate::args::Global;
use crate::failure::Done;

/// Where GPU time and money went.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster cost report --by queue")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Report(report::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Report(args) => args.run(global).await,
        }
    }
}
