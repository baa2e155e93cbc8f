//! What the verbs that change one device have in common.

use crate::client::{request_id, user};
use crate::failure::Failure;
use crate::output::{self, OutputArgs};
use muster_proto::api::DeviceRequest;
use serde_json::json;

/// Which device, and why.
#[derive(Debug, clap::Args)]
pub struct DeviceArgs {
    /// Its UUID, or enough of its beginning.
    #[arg(value_name = "UUID")]
    pub uuid: String,
    /// Shown to whoever asks why [default: an operator did it].
    #[arg(long)]
    reason: Option<String>,
    /// The same id has the same effect once.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl DeviceArgs {
    /// The request; `reason` where none was given.
    #[must_use]
    pub fn request(&self, reason: &str) -> DeviceRequest {
        DeviceRequest {
            request_id: request_id(self.request_id.as_deref()),
            uuid: self.uuid.clone(),
            reason: self.reason.clone().unwrap_or_else(|| reason.to_owned()),
            user: user(),
        }
    }

    /// Prints what changed, for programs.
    ///
    /// # Errors
    /// stdout is gone or full.
    pub fn print(&self, indices: u64) -> Result<(), Failure> {
        if self.output.is_json() {
            output::data(&json!({"device": self.uuid, "indices": indices}).to_string())?;
        }
        Ok(())
    }
}
