//! `muster workers`: machines and what they have.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::{NoticeDoc, WorkerDoc, WorkersDoc, parse_rfc3339};
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
            "NOTICE",
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
                worker.notice.as_ref().map(|n| notice(n, time::now_ms())).unwrap_or_default(),
                worker.isolation.clone(),
                worker.version.clone(),
            ]);
        }
        output::data(&table.render())?;
        Ok(DONE)
    }
}

/// `aws: goes in 27 s`, with what is to be known beside it.
#[must_use]
pub fn notice(notice: &NoticeDoc, now_ms: i64) -> String {
    let what = match (notice.kind.as_str(), notice.deadline.as_deref().and_then(|at| parse_rfc3339(at).ok()))
    {
        ("advice", _) => "may go".to_owned(),
        (_, Some(at)) if at > now_ms => format!("goes in {} s", (at - now_ms + 999) / 1_000),
        (_, Some(_)) => "is due".to_owned(),
        (_, None) => "goes".to_owned(),
    };
    format!("{}: {what}{}", notice.source, if notice.drill { " (drill)" } else { "" })
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
    fn a_notice_says_who_and_when() {
        let said = |kind: &str, deadline: Option<&str>, drill| {
            let (kind, source) = (kind.to_owned(), "aws".to_owned());
            let deadline = deadline.map(str::to_owned);
            notice(&NoticeDoc { kind, source, deadline, drill, ..NoticeDoc::default() }, 1_000)
        };
        assert_eq!(said("preemption", Some("1970-01-01T00:00:30.500Z"), false), "aws: goes in 30 s");
        assert_eq!(said("preemption", Some("1970-01-01T00:00:00.500Z"), true), "aws: is due (drill)");
        assert_eq!(said("preemption", None, false), "aws: goes");
        assert_eq!(said("advice", None, false), "aws: may go");
    }

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
