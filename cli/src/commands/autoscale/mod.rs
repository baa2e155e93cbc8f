//! Verbs about scaling.

pub mod signals;

use crate::args::Global;
use crate::failure::Done;

/// What the cluster asks for of its pools.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster autoscale signals --watch")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Signals(signals::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Signals(args) => args.run(global).await,
        }
    }
}
