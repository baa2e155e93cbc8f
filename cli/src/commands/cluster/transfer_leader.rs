//! `muster cluster transfer-leader [ID]`: another member leads, without an election's wait.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_proto::api::TransferLeaderRequest;
use serde_json::json;

/// Makes another member the leader: the one named, or the one that has the most of the log. A member that gets SIGTERM does this by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster cluster transfer-leader\n  muster cluster transfer-leader 3")]
pub struct Args {
    /// Who is to lead; without it any other.
    #[arg(value_name = "ID")]
    id: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// A member that does not vote or answer; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = TransferLeaderRequest { to: self.id };
        let done = Client::new(global)?.call(async |api| api.transfer_leader(request).await).await?;
        if self.output.is_json() {
            output::data(&json!({"from": done.from, "to": done.to, "took_ms": done.took_ms}).to_string())?;
        }
        if done.changed {
            output::talk(&format!(
                "member {} leads after member {}, within {} ms",
                done.to, done.from, done.took_ms
            ));
        } else {
            output::talk(&format!("member {} leads already", done.to));
        }
        Ok(DONE)
    }
}
