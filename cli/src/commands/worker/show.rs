//! `muster worker show ID`: one machine, its devices, its leases.

use super::list;
use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::{GpuDoc, WorkerDoc};
use muster_proto::api::GetRequest;
use std::fmt::Write;

/// Shows one worker: what it has, its devices, what runs on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster worker show w1")]
pub struct Args {
    /// Its name or number.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// No such worker; nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, worker) = client
            .document::<WorkerDoc>(async |api| api.get_worker(GetRequest { id: self.id.clone() }).await)
            .await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&text(&worker))?;
        }
        Ok(DONE)
    }
}

fn text(worker: &WorkerDoc) -> String {
    let mut out = format!("worker {} `{}` {}", worker.id, worker.name, worker.state);
    if let Some(reason) = &worker.drain_reason {
        let _ = write!(out, ": {reason}");
    }
    if let Some(notice) = &worker.notice {
        let _ = write!(out, "\nnotice of {}, {}", notice.since, list::notice(notice, time::now_ms()));
        if !notice.detail.is_empty() {
            let _ = write!(out, ": {}", notice.detail);
        }
    }
    let _ = write!(
        out,
        "\npool {}{}, host {}, version {}\nCPUs {}/{} used, memory {}/{}, disk {}/{}, isolation {}\n",
        worker.pool,
        if worker.spot { " (spot)" } else { "" },
        worker.host,
        worker.version,
        worker.used_cpu_milli.div_ceil(1000),
        worker.cpus,
        time::size(worker.used_memory),
        time::size(worker.memory),
        time::size(worker.used_disk),
        time::size(worker.disk),
        worker.isolation,
    );
    if !worker.labels.is_empty() {
        let labels: Vec<String> = worker.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let _ = writeln!(out, "labels {}", labels.join(" "));
    }
    if !worker.notice_sources.is_empty() {
        let sources = worker.notice_sources.join(", ");
        let _ = match worker.notice_seconds {
            Some(seconds) => writeln!(out, "hears of a preemption from {sources}, {seconds} s before"),
            None => writeln!(out, "hears of a preemption from {sources}"),
        };
    }
    if let Some(drill) = &worker.drill {
        let _ = writeln!(out, "drill {drill}");
    }
    if let Some(breaker) = &worker.breaker {
        let next = match breaker.state.as_str() {
            "open" => format!("a probe goes in {} s", breaker.probe_in),
            "half_open" => "the next attempt is its probe".to_owned(),
            _ => "its probe is under way".to_owned(),
        };
        let _ = writeln!(out, "circuit breaker open since {}: {}; {next}", breaker.since, breaker.reason);
    }
    if !worker.gpus.is_empty() {
        let mut table = Table::new(&["GPU", "MODEL", "MEMORY", "KIND", "HEALTH", "LINKS", "HELD BY"]);
        for gpu in &worker.gpus {
            let kind = if gpu.simulated { "simulated" } else { "real" };
            let held = gpu.held_by.clone().unwrap_or_default();
            table.row([
                gpu.uuid.clone(),
                gpu.model.clone(),
                time::size(gpu.memory),
                kind.to_owned(),
                gpu.health.clone(),
                links(gpu),
                held,
            ]);
        }
        let _ = write!(out, "\n{}", table.render());
    }
    if !worker.leases.is_empty() {
        let mut table = Table::new(&["ATTEMPT", "STATE", ">TOKEN", "DEVICES"]);
        for lease in &worker.leases {
            table.row([
                lease.attempt.clone(),
                lease.state.clone(),
                lease.token.to_string(),
                lease.devices.join(","),
            ]);
        }
        let _ = write!(out, "\n{}", table.render());
    }
    out
}

/// `nvlink 1,2,3; node 4`: the numbers of the others by how they are reached.
fn links(gpu: &GpuDoc) -> String {
    let mut classes: Vec<(&str, Vec<String>)> = Vec::new();
    for link in &gpu.links {
        let peer = link.peer.to_string();
        match classes.iter_mut().find(|(class, _)| *class == link.class) {
            Some((_, peers)) => peers.push(peer),
            None => classes.push((&link.class, vec![peer])),
        }
    }
    let said = classes.iter().map(|(class, peers)| format!("{class} {}", peers.join(",")));
    said.collect::<Vec<_>>().join("; ")
}
