//! `muster rerun ID --failed`: runs again what failed, and what was skipped because of it.

use crate::args::Global;
use crate::client::mutate::{MutateArgs, mutate};
use crate::failure::Done;

/// Runs the failed indices of a job or task again, and what was skipped because of them; what succeeded stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster rerun 42 --failed")]
pub struct Args {
    /// Only what failed (the one choice there is: said, so that nobody reruns a whole job by mistake).
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
