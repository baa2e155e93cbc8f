//! `muster gpus return UUID`: a device back into service.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_proto::api::DeviceRequest;
use serde_json::json;

/// Puts a device back into service. Do what it needs first: a reset, a reboot, a new part.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster gpus return GPU-6c1f --reason 'replaced the riser'")]
pub struct Args {
    /// Its UUID, or enough of its beginning.
    #[arg(value_name = "UUID")]
    uuid: String,
    /// Shown to whoever asks why.
    #[arg(long, default_value = "returned by an operator")]
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
        let reply = Client::new(global)?.call(async |api| api.return_device(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"device": self.uuid, "indices": reply.indices}).to_string())?;
        }
        let said = if reply.indices > 0 { "is in service again" } else { "was in service already" };
        output::talk(&format!("{} {said}", self.uuid));
        Ok(DONE)
    }
}
