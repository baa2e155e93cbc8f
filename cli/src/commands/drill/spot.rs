//! `muster drill spot WORKER`: its machine is said to go, and stays.

use super::Common;
use super::fault::Fault;
use super::perform::perform;
use crate::args::Global;
use crate::failure::Done;
use muster_core::model::duration::Millis;

/// Gives a worker a preemption notice: what runs there is evicted and goes on elsewhere. Then the notice is withdrawn.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster drill spot w1 --in 30s")]
pub struct Args {
    /// Its name.
    #[arg(value_name = "WORKER")]
    worker: String,
    /// In how long its machine is said to go.
    #[arg(long = "in", value_name = "DURATION", default_value = "30s")]
    notice: Millis,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// # Errors
    /// Not a ready worker; a cluster that is not for exercises; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let Millis(in_ms) = self.notice;
        perform(Fault::Notice { worker: self.worker, in_ms }, self.common, global).await
    }
}
