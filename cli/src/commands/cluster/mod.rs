//! Verbs about the members of the Raft group.

pub mod add;
pub mod backup;
pub mod init;
pub mod remove;
pub mod restore;
pub mod status;
pub mod transfer_leader;

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
    Add(add::Args),
    Remove(remove::Args),
    TransferLeader(transfer_leader::Args),
    Backup(backup::Args),
    Restore(restore::Args),
}

impl Args {
    /// # Errors
    /// As the verb.
    pub fn run(self, global: &Global) -> Done {
        match self.verb {
            Verb::Init(args) => args.run(global),
            Verb::Status(args) => block_on(args.run(global)),
            Verb::Add(args) => block_on(args.run(global)),
            Verb::Remove(args) => block_on(args.run(global)),
            Verb::TransferLeader(args) => block_on(args.run(global)),
            Verb::Backup(args) => block_on(args.run(global)),
            Verb::Restore(args) => args.run(global),
        }
    }
}
