//! `muster drill cut WORKER`: no member hears it for a while.

use super::Common;
use super::fault::{Fault, SILENCE_MAX_MS};
use super::perform::perform;
use crate::args::Global;
use crate::failure::{Done, Failure};
use muster_core::model::duration::Millis;

/// Cuts a worker off for a while. Up to 4.9 s its lease outlasts it and nothing may be lost; from 15 s on it is lost, as in `lose-worker`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster drill cut w1 --for 4s")]
pub struct Args {
    /// Its name.
    #[arg(value_name = "WORKER")]
    worker: String,
    /// How long, at most 2m.
    #[arg(long = "for", value_name = "DURATION", default_value = "4s")]
    length: Millis,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// # Errors
    /// Not a ready worker; a cluster that is not for exercises; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let Millis(for_ms) = self.length;
        if !(1..=SILENCE_MAX_MS).contains(&for_ms) {
            return Err(Failure::usage(format!("a cut lasts from 1 ms to {} s", SILENCE_MAX_MS / 1_000)));
        }
        perform(Fault::Silence { worker: self.worker, for_ms, drill: "cut" }, self.common, global).await
    }
}
