//! `muster worker`: the daemon, and verbs about workers.

pub mod drain;
pub mod list;
pub mod notice;
pub mod remove;
pub mod show;
pub mod undrain;

use super::{block_on, daemon};
use crate::args::Global;
use crate::failure::Done;

/// Runs a worker (with --config or --data-dir), or looks after one.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  muster worker --data-dir w1 --name w1 --join 127.0.0.1:7070 --join-token-file c1/join-token --gpus 8xH100-80GB --label zone=eu1\n  muster worker show w1\n  muster worker drain w1 --deadline 10m\n  muster worker notice w1 --in 30s\n  muster worker remove w1"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    daemon: daemon::worker::Args,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Show(show::Args),
    Drain(drain::Args),
    Notice(notice::Args),
    Undrain(undrain::Args),
    Remove(remove::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub fn run(self, global: &Global) -> Done {
        match self.verb {
            None => self.daemon.run(),
            Some(Verb::Show(args)) => block_on(args.run(global)),
            Some(Verb::Drain(args)) => block_on(args.run(global)),
            Some(Verb::Notice(args)) => block_on(args.run(global)),
            Some(Verb::Undrain(args)) => block_on(args.run(global)),
            Some(Verb::Remove(args)) => block_on(args.run(global)),
        }
    }
}
