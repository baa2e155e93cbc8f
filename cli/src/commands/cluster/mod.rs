//! Verbs about the members of the Raft group.

pub mod init;
pub mod status;

use super::block_on;
use crate::args::Global;
use crate::failure::Done;

/// The members of the Raft group.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster cluster status")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Args),
    Status(status::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Init(args) => args.run(global),
            Verb::Status(args) => block_on(args.run(global)),
        }
    }
}
