//! `muster worker undrain ID`: placements again.

use crate::args::Global;
use crate::client::{Client, request_id, user};
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_proto::api::DrainRequest;
use serde_json::json;

/// Ends the drain of a worker: it takes work again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster worker undrain w1")]
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
    /// No such worker; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = DrainRequest {
            request_id: request_id(self.request_id.as_deref()),
            worker: self.id.clone(),
            user: user(),
            ..DrainRequest::default()
        };
        Client::new(global)?.call(async |api| api.undrain(request.clone()).await).await?;
        if self.output.is_json() {
            output::data(&json!({"worker": self.id}).to_string())?;
        }
        output::talk(&format!("worker {} takes work again", self.id));
        Ok(DONE)
    }
}
