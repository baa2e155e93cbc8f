//! `muster rerun ID --failed`: runs again what failed, was skipped or was cancelled.

use crate::args::Global;
use crate::client::mutate::{MutateArgs, mutate};
use crate::failure::Done;

/// Runs what failed, was skipped or was cancelled in a job or task again; what succeeded stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster rerun 42 --failed")]
pub struct Args {
    /// Only what did not succeed (the one choice there is: said, so that nobody reruns a whole job by mistake).
    #[arg(long, required = true)]
    failed: bool,
    #[command(flatten)]
    mutate: MutateArgs,
}

impl Args {
    /// # Errors
    /// A name that names nothing, the server's refusal, nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        mutate(self.mutate, global, "reruns", async |api, request| api.rerun(request).await).await
    }
}
