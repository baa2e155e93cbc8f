//! `muster queue list`: queues and what waits in them.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table};
use muster_core::view_doc::QueuesDoc;
use muster_proto::api::ListRequest;

/// Lists queues with what waits and runs in them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster queue list")]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, queues) =
            client.document::<QueuesDoc>(async |api| api.list_queues(ListRequest {}).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
            return Ok(DONE);
        }
        let mut table = Table::new(&["QUEUE", ">JOBS", ">WAITING", ">READY", ">HELD", ">RUNNING"]);
        for queue in &queues.queues {
            let tasks = &queue.tasks;
            let numbers = [queue.jobs, tasks.waiting, tasks.ready, tasks.held, tasks.live()];
            table.row(std::iter::once(queue.name.clone()).chain(numbers.map(|n| n.to_string())));
        }
        output::data(&table.render())?;
        Ok(DONE)
    }
}
