//! Verbs about pools.

pub mod list;
pub mod show;

use crate::args::Global;
use crate::failure::Done;

/// Pools: workers of one class, and how many there may be.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster pool list\n  muster pool show h100-spot")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::Args),
    Show(show::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::List(args) => args.run(global).await,
            Verb::Show(args) => args.run(global).await,
        }
    }
}
