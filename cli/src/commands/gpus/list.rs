//! `muster gpus`: one line a device.

use crate::args::Global;
use crate::client::Client;
use crate::failure::{DONE, Done};
use crate::output::{self, OutputArgs, table::Table, time};
use muster_core::view_doc::{DeviceDoc, DevicesDoc};
use muster_proto::api::ListRequest;

/// Lists devices.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  muster gpus --output json")]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    /// # Errors
    /// Nothing reachable.
    pub async fn run(self, global: &Global) -> Done {
        let mut client = Client::new(global)?;
        let (json, devices) =
            client.document::<DevicesDoc>(async |api| api.list_devices(ListRequest {}).await).await?;
        if self.output.is_json() {
            output::document(&json)?;
        } else {
            output::data(&table(&devices.devices))?;
        }
        Ok(DONE)
    }
}

fn table(devices: &[DeviceDoc]) -> String {
    let mut table = Table::new(&[
        "WORKER", ">GPU", "MODEL", "UUID", "HEALTH", "HELD BY", ">UTIL", ">MEMORY", ">TEMP", ">POWER",
    ]);
    for device in devices {
        let known = |value: Option<String>| value.unwrap_or_else(|| "n/a".to_owned());
        let sample = device.sample.clone().unwrap_or_default();
        table.row([
            device.worker.clone(),
            device.index.map_or_else(|| "gone".to_owned(), |index| index.to_string()),
            model(device),
            device.uuid.clone(),
            device.health.clone(),
            holders(device),
            known(sample.utilization_permille.map(|permille| format!("{}%", (permille + 5) / 10))),
            format!("{}/{}", known(sample.memory_used.map(time::size)), time::size(device.memory)),
            known(sample.temperature.map(|celsius| format!("{celsius}C"))),
            known(sample.power_milliwatts.map(|mw| format!("{}W", (mw + 500) / 1_000))),
        ]);
    }
    table.render()
}

/// The model; of a device that is none, with that word.
pub fn model(device: &DeviceDoc) -> String {
    format!("{}{}", device.model, if device.simulated { " (simulated)" } else { "" })
}

/// `42.train#1`, `42.train#1 50%, 43.eval#1 25%`.
pub fn holders(device: &DeviceDoc) -> String {
    let part = |milli: u32| if milli >= 1_000 { String::new() } else { format!(" {}%", (milli + 5) / 10) };
    let holders = device.holders.iter().map(|h| format!("{}{}", h.attempt, part(h.milli)));
    holders.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::view_doc::{GpuSampleDoc, HolderDoc};

    #[test]
    fn what_is_not_known_is_said_and_never_zero() {
        let holder =
            |attempt: &str, milli| HolderDoc { attempt: attempt.into(), milli, ..HolderDoc::default() };
        let one = DeviceDoc {
            uuid: "GPU-a".into(),
            worker: "w1".into(),
            index: Some(0),
            model: "H100".into(),
            memory: 80 << 30,
            simulated: true,
            health: "healthy".into(),
            holders: vec![holder("1.a#1", 500), holder("2.b#3", 250)],
            ..DeviceDoc::default()
        };
        let two = DeviceDoc {
            index: None,
            simulated: false,
            health: "quarantined".into(),
            holders: vec![holder("3.c[7]#1", 1_000)],
            sample: Some(GpuSampleDoc {
                utilization_permille: Some(0),
                memory_used: Some(1 << 30),
                temperature: Some(41),
                power_milliwatts: Some(71_600),
                ..GpuSampleDoc::default()
            }),
            ..one.clone()
        };
        let expected = "\
WORKER   GPU  MODEL             UUID   HEALTH       HELD BY               UTIL      MEMORY  TEMP  POWER
w1         0  H100 (simulated)  GPU-a  healthy      1.a#1 50%, 2.b#3 25%   n/a   n/a/80GiB   n/a    n/a
w1      gone  H100              GPU-a  quarantined  3.c[7]#1                0%  1GiB/80GiB   41C    72W
";
        assert_eq!(table(&[one, two]), expected);
    }
}
