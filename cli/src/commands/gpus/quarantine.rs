//! `muster gpus quarantine UUID`: a device out of service.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::commands::job::plural;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_proto::api::DeviceRequest;
use serde_json::json;

/// Takes a device out of service: nothing more is placed on it, and what holds it is evicted and queued again at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster gpus quarantine GPU-6c1f --reason 'slow since Monday'")]
pub struct Args {
    /// Its UUID, or enough of its beginning.
    #[arg(value_name = "UUID")]
    uuid: String,
    /// Shown to whoever asks why.
    #[arg(long, default_value = "taken out by an operator")]
    reason: String,
    /// The same id has the same effect once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such device; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = DeviceRequest {
            request_id: request_id(self.request_id.as_deref()),
            uuid: self.uuid.clone(),
            reason: self.reason,
            user: user(),
        };
        let reply =
            Client::new(global)?.call(async |api| api.quarantine_device(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"device": self.uuid, "indices": reply.indices}).to_string())?;
        }
        output::talk(&format!(
            "{} is out of service; {} evicted",
            self.uuid,
            plural(reply.indices, "attempt")
        ));
        Ok(DONE)
    }
}
