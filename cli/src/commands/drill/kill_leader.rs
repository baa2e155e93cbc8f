//! `muster drill kill-leader`: the leading member dies.

use super::Common;
use super::fault::Fault;
use super::perform::perform;
use crate::args::Global;
use crate::failure::Done;

/// Kills the process of the leader as a crash would. It stays away for 3 s and starts again by itself; meanwhile the others elect one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster drill kill-leader")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// # Errors
    /// No leader; too few members that answer; a cluster that is not for exercises; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        perform(Fault::LeaderDeath { member: 0, alone: false }, self.common, global).await
    }
}
