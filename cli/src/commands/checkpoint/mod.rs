//! `muster checkpoint`: committed progress of tasks.

pub mod commit;
pub mod list;

use super::block_on;
use crate::args::Global;
use crate::failure::Done;

/// Checkpoints: a task commits its progress, and whoever is interested lists what there is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster checkpoint commit $MUSTER_CHECKPOINT_DIR/step-500 --step 500   inside a task\n  muster checkpoint list 42.train"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Commit(commit::Args),
    List(list::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Commit(args) => args.run(),
            Verb::List(args) => block_on(args.run(global)),
        }
    }
}
