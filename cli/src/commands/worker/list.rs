//! `muster workers`: machines and what they have.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::{WorkerDoc, WorkersDoc};
use muster_proto::api::ListRequest;
use std::collections::BTreeMap;

/// Lists workers with what they have and what is used of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster workers --output json")]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, workers) =
            client.document::<WorkersDoc>(async |api| api.list_workers(ListRequest {}).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
            return Ok(DONE);
        }
        let mut table = Table::new(&[
            ">ID",
            "NAME",
            "STATE",
            "POOL",
            ">CPUS",
            "MEMORY",
            "GPUS",
            ">LEASES",
            "ISOLATION",
            "VERSION",
        ]);
        for worker in &workers.workers {
            table.row([
                worker.id.to_string(),
                worker.name.clone(),
                worker.state.clone(),
                worker.pool.clone(),
                format!("{}/{}", worker.used_cpu_milli.div_ceil(1000), worker.cpus),
                format!("{}/{}", time::size(worker.used_memory), time::size(worker.memory)),
                gpus(worker),
                worker.leases.len().to_string(),
                worker.isolation.clone(),
                worker.version.clone(),
            ]);
        }
        output::data(&table.render())?;
        Ok(DONE)
    }
}

/// `3/8 H100 (simulated)`: used, all, model.
#[must_use]
pub fn gpus(worker: &WorkerDoc) -> String {
    let mut models: BTreeMap<(&str, bool), (u64, u64)> = BTreeMap::new();
    for gpu in &worker.gpus {
        let (used, all) = models.entry((&gpu.model, gpu.simulated)).or_default();
        *used += u64::from(gpu.held_by.is_some());
        *all += 1;
    }
    models
        .iter()
        .map(|((model, simulated), (used, all))| {
            format!("{used}/{all} {model}{}", if *simulated { " (simulated)" } else { "" })
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::GpuDoc;

    #[test]
    fn simulated_devices_are_marked() {
        let gpu = |held: Option<&str>| GpuDoc {
            model: "H100".into(),
            simulated: true,
            held_by: held.map(str::to_owned),
            ..GpuDoc::default()
        };
        let worker = WorkerDoc { gpus: vec![gpu(None), gpu(Some("1.a#1"))], ..WorkerDoc::default() };
        assert_eq!(gpus(&worker), "1/2 H100 (simulated)");
    }
}
