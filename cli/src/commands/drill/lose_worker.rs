//! `muster drill lose-worker WORKER`: no member hears it until its lease is over.

use super::Common;
use super::fault::{Fault, LOSS_MS};
use super::perform::perform;
use crate::args::Global;
use crate::failure::Done;

/// Cuts a worker off until it is lost: its shim ends its tasks by itself, and they go on elsewhere. Then it may come back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster drill lose-worker w1")]
pub struct Args {
    /// Its name.
    #[arg(value_name = "WORKER")]
    worker: String,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// # Errors
    /// Not a ready worker; a cluster that is not for exercises; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let fault = Fault::Silence { worker: self.worker, for_ms: LOSS_MS, drill: "lose-worker" };
        perform(fault, self.common, global).await
    }
}
