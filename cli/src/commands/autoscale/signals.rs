//! `muster autoscale signals`: how many workers each pool has and is to have, and why.

use crate::args::Global;
use crate::client::Client;
use crate::client::watch::retry_or;
use crate::failure::{DONE, Done, Failure};
use crate::output::{self, OutputArgs, money::usd, table::Table};
use muster_core::view_doc::{PoolSignalDoc, SignalsDoc};
use muster_proto::api::SignalsRequest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

/// How long one question of `--watch` waits at the member, ms: below the minute that it waits at most.
const WAIT_MS: u64 = 30_000;

/// Shows how many workers each pool has (`2+1`: one more was asked for), how many it is to have, and why.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster autoscale signals\n  muster autoscale signals --watch --pool h100-spot\n  muster autoscale signals --output json"
)]
pub struct Args {
    /// This pool alone.
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Stay, and print what changes: a line a pool, or with `--output json` a document a line.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such pool; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (mut json, mut doc) = ask(&mut client, None).await?;
        if let Some(name) = self.pool.as_deref().filter(|name| !has(&doc, name)) {
            return Err(unknown(name, &doc));
        }
        if !self.watch {
            self.only(&mut json, &mut doc)?;
            if self.output.is_json() {
                output::document(&json)?;
            } else {
                output::data(&table(&doc.pools))?;
                said_beside(&doc);
            }
            return Ok(DONE);
        }
        if !self.output.is_json() {
            said_beside(&doc);
        }
        let (mut printed, mut shown) = (None, BTreeMap::new());
        loop {
            let known = (doc.term, doc.version);
            self.only(&mut json, &mut doc)?;
            if !self.output.is_json() {
                changes(&mut shown, &doc).iter().try_for_each(|line| output::data(line))?;
            } else if printed.replace(known) != Some(known) {
                output::data(&json)?;
            }
            (json, doc) = next(&mut client, known).await?;
        }
    }

    /// Leaves the pool that was asked for. The rest of the document stays as it came.
    fn only(&self, json: &mut String, doc: &mut SignalsDoc) -> Result<(), Failure> {
        let Some(name) = self.pool.as_deref() else { return Ok(()) };
        doc.pools.retain(|pool| pool.pool == name);
        let unreadable = |error: serde_json::Error| Failure::new("BAD_DOCUMENT", error.to_string());
        let mut value: Value = serde_json::from_str(json).map_err(unreadable)?;
        if let Some(pools) = value.get_mut("pools").and_then(Value::as_array_mut) {
            pools.retain(|pool| pool["pool"] == name);
        }
        *json = value.to_string();
        Ok(())
    }
}

async fn ask(client: &mut Client, after: Option<(u64, u64)>) -> Result<(String, SignalsDoc), Failure> {
    let request = SignalsRequest {
        term: after.map(|(term, _)| term),
        version: after.map(|(_, version)| version),
        wait_ms: if after.is_some() { WAIT_MS } else { 0 },
    };
    client.document::<SignalsDoc>(async |api| api.get_signals(request).await).await
}

/// The signals that come after those, over the death of any member.
async fn next(client: &mut Client, known: (u64, u64)) -> Result<(String, SignalsDoc), Failure> {
    let mut broken_since = None;
    loop {
        match ask(client, Some(known)).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => {
                broken_since.get_or_insert_with(Instant::now);
                retry_or(&mut broken_since, failure).await?;
            }
        }
    }
}

fn has(doc: &SignalsDoc, name: &str) -> bool {
    doc.pools.iter().any(|pool| pool.pool == name)
}

fn unknown(name: &str, doc: &SignalsDoc) -> Failure {
    let known: Vec<&str> = doc.pools.iter().map(|pool| pool.pool.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new("POOL_NOT_FOUND", format!("no pool {name:?} is configured; there is {known}"))
        .hint("a coordinator's file configures pools: [[pool]]")
}

fn table(pools: &[PoolSignalDoc]) -> String {
    let mut table = Table::new(&["POOL", ">NOW", ">WANTED", ">MIN", ">MAX", ">USD/H", "WHY", "HOLD"]);
    for pool in pools {
        table.row([
            pool.pool.clone(),
            now(pool),
            pool.desired.to_string(),
            pool.min.to_string(),
            pool.max.to_string(),
            pool.usd_per_hour.map(usd).unwrap_or_default(),
            pool.reason.clone(),
            pool.hold.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

/// `2`, or `2+1` where one more was asked for and has not joined.
fn now(pool: &PoolSignalDoc) -> String {
    match pool.booting {
        0 => pool.current.to_string(),
        booting => format!("{}+{booting}", pool.current),
    }
}

/// What the table has no place for, for people.
fn said_beside(doc: &SignalsDoc) {
    if doc.pools.is_empty() {
        output::talk("no pool is configured: a coordinator's file does it, [[pool]]");
    }
    for unmet in &doc.unmet {
        output::talk(&format!("no pool can serve {} x {}: {}", unmet.count, unmet.task, unmet.reason));
    }
}

/// A line for each pool that is not as it was shown last. What is measured all the time (waits, use) is no change to people.
fn changes(shown: &mut BTreeMap<String, String>, doc: &SignalsDoc) -> Vec<String> {
    let at = doc.at.as_deref().unwrap_or("-");
    let mut lines = Vec::new();
    for pool in &doc.pools {
        let text = sentence(pool);
        if shown.get(&pool.pool) != Some(&text) {
            lines.push(format!("{at} {}: {text}", pool.pool));
            shown.insert(pool.pool.clone(), text);
        }
    }
    shown.retain(|name, _| {
        let stays = has(doc, name);
        if !stays {
            lines.push(format!("{at} {name}: is configured no more"));
        }
        stays
    });
    lines
}

/// `2+1 now, 3 wanted (0 to 64): 3 jobs wait; held: cool-down`.
fn sentence(pool: &PoolSignalDoc) -> String {
    let mut text = format!("{} now, {} wanted ({} to {})", now(pool), pool.desired, pool.min, pool.max);
    if !pool.reason.is_empty() {
        let _ = write!(text, ": {}", pool.reason);
    }
    if let Some(hold) = &pool.hold {
        let _ = write!(text, "; held: {hold}");
    }
    if !pool.remove.is_empty() {
        let going: Vec<String> = pool.remove.iter().map(u64::to_string).collect();
        let _ = write!(text, "; to go: worker {}", going.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot() -> PoolSignalDoc {
        PoolSignalDoc {
            pool: "h100-spot".into(),
            current: 2,
            booting: 1,
            desired: 4,
            max: 64,
            reason: "2 x 8xH100-80GB spot for about 40 min: 3 jobs, 51 USD".into(),
            usd_per_hour: Some(19.8),
            ..PoolSignalDoc::default()
        }
    }

    fn cpu() -> PoolSignalDoc {
        PoolSignalDoc {
            pool: "cpu".into(),
            current: 1,
            desired: 1,
            min: 1,
            max: 8,
            reason: "nothing waits".into(),
            hold: Some("cool-down, 3m20s".into()),
            ..PoolSignalDoc::default()
        }
    }

    #[test]
    fn each_pool_is_a_line_with_its_reason() {
        let expected = "\
POOL       NOW  WANTED  MIN  MAX  USD/H  WHY                                                    HOLD
cpu          1       1    1    8      -  nothing waits                                          cool-down, 3m20s
h100-spot  2+1       4    0   64  19.80  2 x 8xH100-80GB spot for about 40 min: 3 jobs, 51 USD  -
";
        assert_eq!(table(&[cpu(), spot()]), expected);
        assert_eq!(table(&[]), "POOL  NOW  WANTED  MIN  MAX  USD/H  WHY  HOLD\n");
    }

    #[test]
    fn only_what_changed_is_said_again() {
        let mut shown = BTreeMap::new();
        let doc = |pools| SignalsDoc { pools, at: Some("T1".into()), ..SignalsDoc::default() };
        let first = changes(&mut shown, &doc(vec![cpu(), spot()]));
        assert_eq!(
            first,
            [
                "T1 cpu: 1 now, 1 wanted (1 to 8): nothing waits; held: cool-down, 3m20s",
                "T1 h100-spot: 2+1 now, 4 wanted (0 to 64): 2 x 8xH100-80GB spot for about 40 min: 3 jobs, 51 USD",
            ]
        );
        let mut busier = spot();
        busier.use_ratio.queue_wait_seconds = 7.0;
        assert_eq!(changes(&mut shown, &doc(vec![cpu(), busier.clone()])), [""; 0]);
        busier.remove = vec![3, 5];
        assert_eq!(
            changes(&mut shown, &doc(vec![busier])),
            [
                "T1 h100-spot: 2+1 now, 4 wanted (0 to 64): 2 x 8xH100-80GB spot for about 40 min: 3 jobs, 51 USD; to go: worker 3, 5",
                "T1 cpu: is configured no more",
            ]
        );
    }

    #[test]
    fn one_pool_alone_leaves_the_rest_of_the_document() {
        let args = Args { pool: Some("cpu".into()), watch: false, output: OutputArgs::default() };
        let mut doc = SignalsDoc { pools: vec![cpu(), spot()], term: 3, ..SignalsDoc::default() };
        let mut json = r#"{"pools":[{"pool":"cpu","new":1},{"pool":"h100-spot"}],"term":3}"#.to_owned();
        args.only(&mut json, &mut doc).expect("readable");
        assert_eq!(doc.pools, [cpu()]);
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value, serde_json::json!({"pools": [{"pool": "cpu", "new": 1}], "term": 3}));
    }
}
