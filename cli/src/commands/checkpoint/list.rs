//! `muster checkpoint list ID`: one line a committed checkpoint that is kept.

use crate::args::Global;
use crate::client::Client;
use crate::client::mutate::target;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::{CheckpointDoc, CheckpointsDoc};
use muster_proto::api::GetRequest;

/// Lists the committed checkpoints of a job, a task or an index: what its next attempt begins from is the last one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster checkpoint list 42\n  muster checkpoint list 42.train[7] --output json"
)]
pub struct Args {
    /// 42 is a job, 42.train a task, 42.train[7] an index.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing of that name; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        target(&self.id)?;
        let request = GetRequest { id: self.id.clone() };
        let mut client = Client::new(global)?;
        let (json, found) = client
            .document::<CheckpointsDoc>(async |api| api.list_checkpoints(request.clone()).await)
            .await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&table(&found.checkpoints, time::now_ms()))?;
        }
        Ok(DONE)
    }
}

fn table(rows: &[CheckpointDoc], now_ms: i64) -> String {
    let mut table =
        Table::new(&["ATTEMPT", ">STEP", ">SIZE", ">FILES", ">RANKS", ">TOOK", ">AGE", "RESUMED BY"]);
    for row in rows {
        let index = row.index.map(|index| format!("[{index}]")).unwrap_or_default();
        table.row([
            format!("{}.{}{index}#{}", row.job, row.task, row.attempt),
            row.step.to_string(),
            time::size(row.size),
            row.files.to_string(),
            row.ranks.to_string(),
            format!("{:.1}s", row.took_seconds),
            time::ago(&row.committed, now_ms),
            row.resumed_by.map(|number| format!("#{number}")).unwrap_or_default(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_a_line() {
        let json = r#"{"checkpoints": [
            {"job": 42, "task": "train", "index": 7, "step": 500, "attempt": 2, "token": 99, "size": 1572864, "files": 3,
             "ranks": 1, "committed": "1970-01-01T00:01:00Z", "took_seconds": 1.25, "resumed_by": 3},
            {"job": 42, "task": "train", "index": null, "step": 600, "attempt": 3, "token": 100, "size": 0, "files": 0,
             "ranks": 4, "committed": "1970-01-01T00:02:00Z", "took_seconds": 0.0, "resumed_by": null}], "omitted": 0}"#;
        let found: CheckpointsDoc = serde_json::from_str(json).unwrap();
        let expected = "\
ATTEMPT        STEP    SIZE  FILES  RANKS  TOOK  AGE  RESUMED BY
42.train[7]#2   500  1.5MiB      3      1  1.2s   2m  #3
42.train#3      600      0B      0      4  0.0s   1m  -
";
        assert_eq!(table(&found.checkpoints, 180_000), expected);
    }
}
