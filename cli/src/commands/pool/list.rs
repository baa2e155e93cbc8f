//! `muster pool list`: one line a pool.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, money::usd, table::Table};
use muster_core::view_doc::{PoolDoc, PoolsDoc};
use muster_proto::api::ListRequest;

/// Lists pools: those of the coordinators' file, and those that a worker names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster pool list")]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, pools) =
            client.document::<PoolsDoc>(async |api| api.list_pools(ListRequest {}).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&table(&pools.pools))?;
        }
        Ok(DONE)
    }
}

fn table(pools: &[PoolDoc]) -> String {
    let mut table =
        Table::new(&["POOL", ">WORKERS", ">WANTED", ">MIN", ">MAX", "SPOT", ">USD/H", "DRIVER", "MACHINE"]);
    for pool in pools {
        let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
        table.row([
            pool.name.clone(),
            pool.workers.to_string(),
            number(pool.signal.as_ref().map(|signal| signal.desired)),
            number(pool.min),
            number(pool.max),
            if pool.spot { "spot" } else { "" }.to_owned(),
            pool.usd_per_hour.map(usd).unwrap_or_default(),
            driver(pool),
            pool.template.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

/// Who carries out what is wanted; of a pool that no file has, that word.
#[must_use]
pub fn driver(pool: &PoolDoc) -> String {
    if pool.configured {
        pool.signal.as_ref().map(|signal| signal.driver.clone()).unwrap_or_default()
    } else {
        "(not configured)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::PoolSignalDoc;

    #[test]
    fn configured_pools_and_others_are_told_apart() {
        let spot = PoolDoc {
            name: "h100-spot".into(),
            configured: true,
            spot: true,
            min: Some(0),
            max: Some(64),
            usd_per_hour: Some(19.8),
            template: Some("96 cpus, 1TiB, 8xH100-80GB".into()),
            workers: 2,
            signal: Some(PoolSignalDoc { desired: 4, driver: "aws-asg".into(), ..PoolSignalDoc::default() }),
            ..PoolDoc::default()
        };
        let other = PoolDoc { name: "default".into(), workers: 1, ..PoolDoc::default() };
        let expected = "\
POOL       WORKERS  WANTED  MIN  MAX  SPOT  USD/H  DRIVER            MACHINE
default          1       -    -    -  -         -  (not configured)  -
h100-spot        2       4    0   64  spot  19.80  aws-asg           96 cpus, 1TiB, 8xH100-80GB
";
        assert_eq!(table(&[other, spot]), expected);
    }
}
