//! `muster hold ID…`: keeps what has not started from starting.

use crate::args::Global;
use crate::client::mutate::{MutateArgs, mutate};
use crate::failure::Done;

/// Keeps jobs, tasks or indices from starting until they are released; what runs goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster hold 42")]
pub struct Args {
    #[command(flatten)]
    mutate: MutateArgs,
}

impl Args {
    /// # Errors
    /// A name that names nothing, the server's refusal, nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        mutate(self.mutate, global, "held", async |api, request| api.hold(request).await).await
    }
}
