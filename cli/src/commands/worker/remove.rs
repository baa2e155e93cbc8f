//! `muster worker remove ID`: one that is gone is forgotten.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_proto::api::WorkerRequest;
use serde_json::json;

/// Forgets a worker that is lost, or drained with nothing on it. A machine that comes back joins as a new worker.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster worker remove w1")]
pub struct Args {
    /// Its name or number.
    #[arg(value_name = "ID")]
    id: String,
    /// The same id has the same effect once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such worker; one that is there; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = WorkerRequest {
            request_id: request_id(self.request_id.as_deref()),
            worker: self.id.clone(),
            user: user(),
        };
        Client::new(global)?.call(async |api| api.remove_worker(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"worker": self.id}).to_string())?;
        }
        output::talk(&format!("worker {} is forgotten", self.id));
        Ok(DONE)
    }
}
