//! Verbs about budgets.

pub mod set;
pub mod show;

use crate::args::Global;
use crate::failure::Done;

/// Budgets: what may be spent, and what happens beyond it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster budget show\n  muster budget set queue:research --usd 500 --on-exceed hold"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Set(set::Args),
    Show(show::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub async fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Set(args) => args.run(global).await,
            Verb::Show(args) => args.run(global).await,
        }
    }
}
