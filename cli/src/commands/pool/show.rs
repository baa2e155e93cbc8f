//! `muster pool show NAME`: one pool, what was learnt of it, and what is wanted of it.

use super::list::driver;
use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, money::usd, time::span};
use muster_core::view_doc::{PoolDoc, PoolSignalDoc};
use muster_proto::api::GetRequest;
use std::fmt::Write;

/// Shows one pool: what a machine of it is and costs, how long one lasts, and what is wanted of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster pool show h100-spot")]
pub struct Args {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such pool; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let ask = GetRequest { id: self.name.clone() };
        let (json, pool) = client.document::<PoolDoc>(async |api| api.get_pool(ask.clone()).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&text(&pool))?;
        }
        Ok(DONE)
    }
}

fn seconds(seconds: f64) -> String {
    span((seconds * 1_000.0) as i64)
}

fn text(pool: &PoolDoc) -> String {
    let mut out = format!("pool {}", pool.name);
    if pool.spot {
        out.push_str(" (spot)");
    }
    let _ = write!(out, ": {} workers", pool.workers);
    match (pool.min, pool.max) {
        (Some(min), Some(max)) => {
            let _ = writeln!(out, ", {min} to {max}");
        }
        _ => out.push_str("; no coordinator's file has it, so nothing is asked for\n"),
    }
    if let Some(template) = &pool.template {
        let _ = writeln!(out, "a machine has {template}");
    }
    if let Some(price) = pool.usd_per_hour {
        let _ = writeln!(out, "a machine costs {} USD an hour", usd(price));
    }
    if let Some(mtbf) = pool.mtbf_seconds {
        let _ = writeln!(out, "a machine lasts {} on average, by what was seen", seconds(mtbf));
    }
    if let Some(boot) = pool.boot_seconds {
        let _ = writeln!(out, "from the order to the first heartbeat {}", seconds(boot));
    }
    if pool.failures > 0 {
        let _ = writeln!(out, "asked for {} times in a row, and no machine came", pool.failures);
    }
    if let Some(signal) = &pool.signal {
        wanted(&mut out, signal, &driver(pool));
    }
    out
}

fn wanted(out: &mut String, signal: &PoolSignalDoc, driver: &str) {
    let _ = write!(out, "\nwanted {}, there {}", signal.desired, signal.current);
    if signal.booting > 0 {
        let _ = write!(out, ", on its way {}", signal.booting);
    }
    let _ = match driver {
        "" | "none" => writeln!(out, "; nobody carries it out: the signal alone says it"),
        driver => writeln!(out, "; {driver} carries it out"),
    };
    if !signal.reason.is_empty() {
        let _ = writeln!(out, "why: {}", signal.reason);
    }
    if let Some(hold) = &signal.hold {
        let _ = writeln!(out, "held: {hold}");
    }
    let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if !signal.jobs.is_empty() {
        let _ = writeln!(out, "for jobs {}", list(&signal.jobs));
    }
    if !signal.remove.is_empty() {
        let _ = writeln!(out, "to go: workers {}", list(&signal.remove));
    }
    if signal.use_ratio.waiting > 0 {
        let longest = seconds(signal.use_ratio.queue_wait_seconds);
        let _ =
            writeln!(out, "{} task indices wait here, the longest for {longest}", signal.use_ratio.waiting);
    }
    if let Some(load) = signal.use_ratio.load {
        let _ = writeln!(out, "load {load:.2} (1 is full, above it more is wanted)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::UseDoc;

    #[test]
    fn a_pool_says_what_it_is_and_what_is_wanted() {
        let signal = PoolSignalDoc {
            current: 2,
            desired: 4,
            booting: 1,
            reason: "2 x 8xH100-80GB spot".into(),
            hold: Some("cool-down".into()),
            jobs: vec![7, 9],
            remove: vec![3],
            driver: "aws-asg".into(),
            use_ratio: UseDoc {
                waiting: 12,
                queue_wait_seconds: 200.0,
                load: Some(1.5),
                ..UseDoc::default()
            },
            ..PoolSignalDoc::default()
        };
        let pool = PoolDoc {
            name: "h100-spot".into(),
            configured: true,
            spot: true,
            min: Some(0),
            max: Some(64),
            usd_per_hour: Some(19.8),
            template: Some("96 cpus, 1TiB, 8xH100-80GB".into()),
            workers: 2,
            mtbf_seconds: Some(18_000.0),
            boot_seconds: Some(95.0),
            failures: 2,
            signal: Some(signal),
        };
        let expected = "\
pool h100-spot (spot): 2 workers, 0 to 64
a machine has 96 cpus, 1TiB, 8xH100-80GB
a machine costs 19.80 USD an hour
a machine lasts 5h on average, by what was seen
from the order to the first heartbeat 1m35s
asked for 2 times in a row, and no machine came

wanted 4, there 2, on its way 1; aws-asg carries it out
why: 2 x 8xH100-80GB spot
held: cool-down
for jobs 7, 9
to go: workers 3
12 task indices wait here, the longest for 3m20s
load 1.50 (1 is full, above it more is wanted)
";
        assert_eq!(text(&pool), expected);
        let other = PoolDoc { name: "default".into(), workers: 1, ..PoolDoc::default() };
        assert_eq!(
            text(&other),
            "pool default: 1 workers; no coordinator's file has it, so nothing is asked for\n"
        );
    }
}
