//! Verbs about contexts: which cluster this user talks to.

pub mod list;
pub mod show;
pub mod switch;

use crate::failure::Done;

/// Contexts: which cluster the other verbs talk to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster context use dev")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::Args),
    #[command(name = "use")]
    Use(switch::Args),
    Show(show::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub fn run(self) -> Done {
        match self.verb {
            Verb::List(args) => args.run(),
            Verb::Use(args) => args.run(),
            Verb::Show(args) => args.run(),
        }
    }
}
