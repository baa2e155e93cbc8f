//! `muster worker drain ID`: no new placements; what runs finishes, or is evicted at the deadline.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_core::model::duration::Millis;
use muster_proto::api::DrainRequest;
use serde_json::json;

/// Places nothing new on a worker; what runs finishes, or is evicted and queued again at the deadline.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster worker drain w1 --deadline 10m --reason 'new kernel'")]
pub struct Args {
    /// Its name or number.
    #[arg(value_name = "ID")]
    id: String,
    /// Evict what still runs after this long; without it everything may finish.
    #[arg(long, value_name = "DURATION")]
    deadline: Option<Millis>,
    /// Shown to whoever asks why.
    #[arg(long, default_value = "drained by an operator")]
    reason: String,
    /// The same id has the same effect once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such worker; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = DrainRequest {
            request_id: request_id(self.request_id.as_deref()),
            worker: self.id.clone(),
            deadline_ms: self.deadline.map(|Millis(ms)| ms),
            reason: self.reason,
            user: user(),
        };
        let reply = Client::new(global)?.call(async |api| api.drain(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"worker": self.id, "indices": reply.indices}).to_string())?;
        }
        output::talk(&format!("draining worker {}", self.id));
        Ok(DONE)
    }
}
