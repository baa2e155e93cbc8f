//! Verbs about queues.

pub mod list;

use crate::args::Global;
use crate::failure::Done;

/// Queues: where jobs wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster queue list")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::List(args) => args.run(global).await,
        }
    }
}
