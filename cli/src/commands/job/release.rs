//! `muster release ID…`: undoes a hold.

use crate::args::Global;
use crate::client::mutate::{MutateArgs, mutate};
use crate::failure::Done;

/// Lets held jobs, tasks or indices start again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster release 42")]
pub struct Args {
    #[command(flatten)]
    mutate: MutateArgs,
}

impl Args {
    /// # Errors
    /// A name that names nothing, the server's refusal, nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        mutate(self.mutate, global, "released", async |api, request| api.release(request).await).await
    }
}
