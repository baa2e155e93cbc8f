//! `muster cancel ID…`: ends jobs, tasks or indices that are not final.

use crate::args::Global;
use crate::client::mutate::{MutateArgs, mutate};
use crate::failure::Done;

/// Ends jobs, tasks or indices: what runs is stopped, what waits never starts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster cancel 42 43.train 44.train[7]")]
pub struct Args {
    #[command(flatten)]
    mutate: MutateArgs,
}

impl Args {
    /// # Errors
    /// A name that names nothing, the server's refusal, nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        mutate(self.mutate, global, "cancelled", async |api, request| api.cancel(request).await).await
    }
}
