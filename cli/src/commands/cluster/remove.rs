//! `muster cluster remove ID`: a member leaves, dead or alive.

use crate::args::Global;
use crate::client::Client;
use crate::context;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs};
use muster_proto::api::RemoveMemberRequest;
use serde_json::json;

/// Takes a member out of the cluster, dead or alive: it stops, and its data directory is never used again. Of the leader another member
/// makes the leader first. Refused where the rest would have no majority that answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster cluster remove 2")]
pub struct Args {
    /// Its id, as `muster cluster status` shows it.
    #[arg(value_name = "ID")]
    id: u64,
    /// Also when no member could fail afterwards without stopping the cluster. Never where no majority would answer.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such member; a rest without a majority; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let request = RemoveMemberRequest { member: self.id, force: self.force };
        let done = Client::new(global)?.call(async |api| api.remove_member(request).await).await?;
        if !done.address.is_empty() {
            context::drop_address(global, &done.address)?;
        }
        if self.output.is_json() {
            output::data(
                &json!({"member": done.member, "removed_now": done.removed_now, "address": done.address})
                    .to_string(),
            )?;
        }
        let said = if done.removed_now { "removed" } else { "was removed before:" };
        output::talk(&format!("{said} member {}", done.member));
        if !done.warning.is_empty() {
            output::talk(&format!("warning: {}", done.warning));
        }
        Ok(DONE)
    }
}
