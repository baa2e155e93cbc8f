//! `muster cluster status`: members, who leads, how far each has applied.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table};
use muster_core::view_doc::ClusterDoc;
use muster_proto::api::ListRequest;

/// Shows the members, the leader, and how far each has applied the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster cluster status --output json")]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, cluster) =
            client.document::<ClusterDoc>(async |api| api.cluster_status(ListRequest {}).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
            return Ok(DONE);
        }
        let leader = cluster.leader.map_or_else(|| "no leader".to_owned(), |id| format!("leader {id}"));
        let mut table = Table::new(&[">MEMBER", "ADDRESS", "ROLE", ">APPLIED"]);
        for member in &cluster.members {
            let applied = member.last_applied.map(|index| index.to_string()).unwrap_or_default();
            table.row([member.id.to_string(), member.address.clone(), member.role.clone(), applied]);
        }
        output::data(&format!("{leader}, term {}\n\n{}", cluster.term, table.render()))?;
        Ok(DONE)
    }
}
