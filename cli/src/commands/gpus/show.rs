//! `muster gpus show UUID`: one device and what has happened to it.

use super::list::{holders, model};
use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::DeviceDoc;
use muster_proto::api::GetRequest;
use std::fmt::Write;

/// Shows one device: its health, who has it, and its history over jobs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster gpus show GPU-6c1f")]
pub struct Args {
    /// Its UUID, or enough of its beginning.
    #[arg(value_name = "UUID")]
    uuid: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such device; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let ask = GetRequest { id: self.uuid.clone() };
        let (json, device) =
            client.document::<DeviceDoc>(async |api| api.get_device(ask.clone()).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&text(&device))?;
        }
        Ok(DONE)
    }
}

fn text(device: &DeviceDoc) -> String {
    let at = device.index.map_or_else(|| "gone from".to_owned(), |index| format!("GPU {index} of"));
    let mut out = format!(
        "{} {}\n{at} worker {}, {} of memory\n",
        device.uuid,
        model(device),
        device.worker,
        time::size(device.memory)
    );
    let _ = write!(out, "{}", device.health);
    if let (Some(reason), Some(since)) = (&device.reason, &device.since) {
        let by = if device.returns_by_itself {
            "returns when its worker finds nothing wrong"
        } else {
            "returns by `muster gpus return` alone"
        };
        let _ = write!(out, " since {since}: {reason}; {by}");
    }
    out.push('\n');
    if !device.holders.is_empty() {
        let _ = writeln!(out, "held by {}", holders(device));
    }
    if !device.ends.is_empty() {
        let ends: Vec<String> = device.ends.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let _ = writeln!(out, "attempts: {}; {} for its own fault", ends.join(", "), device.faults);
    }
    if !device.history.is_empty() {
        let mut table = Table::new(&["TIME", "EVENT", "HELD BY", "TEXT"]);
        for note in &device.history {
            table.row([note.time.clone(), note.event.clone(), note.attempts.join(","), note.text.clone()]);
        }
        let _ = write!(out, "\n{}", table.render());
    }
    out
}
