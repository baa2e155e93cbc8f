//! Faults of simulated devices, from a file that somebody writes while the worker runs: how tests and drills make a device sick.
//!
//! One fault a line, `WHAT WHICH [TEXT]`: `xid 79 GPU…`, `ecc`, `lost`, `thermal`, `hung` or `recovered`; WHICH is a UUID or a number. Only
//! lines that are added count: what is there when the worker starts is history. A line counts once it has its line feed.

use super::event::{Event, EventKind, seen};
use super::simulated::Simulated;
use super::{Device, Devices, Health, Sample};
use crate::config::WorkerConfig;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Its name in the worker's data directory, unless `devices.fault_file` says another.
pub const NAME: &str = "gpu-faults";

/// Simulated devices that get sick as a file says.
#[derive(Debug)]
pub struct Faulty {
    devices: Simulated,
    uuids: Vec<String>,
    file: Mutex<FaultFile>,
}

/// The simulated devices of a worker, with the file that makes them sick.
#[must_use]
pub fn faulty(config: &WorkerConfig, devices: Simulated) -> Arc<dyn Devices> {
    let path = config.devices.fault_file.clone().unwrap_or_else(|| config.data_dir.join(NAME));
    let uuids = devices.fingerprint().into_iter().map(|device| device.uuid).collect();
    Arc::new(Faulty { devices, uuids, file: Mutex::new(FaultFile::open(path)) })
}

impl Devices for Faulty {
    fn fingerprint(&self) -> Vec<Device> {
        self.devices.fingerprint()
    }

    fn health(&self) -> Vec<(String, Health)> {
        let file = self.file.lock();
        let of =
            |uuid: &String| file.sick.get(uuid).map_or(Health::Healthy, |why| Health::Unhealthy(why.clone()));
        self.uuids.iter().map(|uuid| (uuid.clone(), of(uuid))).collect()
    }

    fn sample(&self) -> Vec<Sample> {
        self.devices.sample()
    }

    fn events(&self) -> Vec<Event> {
        if self.uuids.is_empty() { Vec::new() } else { self.file.lock().events(&self.uuids) }
    }
}

/// The file, how much of it was taken in, and what it says of each device now.
#[derive(Debug)]
pub struct FaultFile {
    path: PathBuf,
    /// Lines that were taken in.
    lines: usize,
    changed: Option<(SystemTime, u64)>,
    /// UUIDs of devices that are sick, and why.
    pub sick: BTreeMap<String, String>,
}

impl FaultFile {
    /// The file at `path`, which need not exist yet.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let mut file = Self { path, lines: 0, changed: None, sick: BTreeMap::new() };
        file.lines = file.read().len();
        file
    }

    /// The complete lines, if the file has changed since it was read last.
    fn read(&mut self) -> Vec<String> {
        let found = std::fs::metadata(&self.path).and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
        if found.is_none() || found == self.changed {
            return Vec::new();
        }
        self.changed = found;
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(str::to_owned).collect()
    }

    /// What was added since the last call. `uuids` are the worker's devices by number.
    pub fn events(&mut self, uuids: &[String]) -> Vec<Event> {
        let lines = self.read();
        if lines.is_empty() {
            return Vec::new();
        }
        // A file that became shorter was written anew.
        let first = if lines.len() < self.lines { 0 } else { self.lines };
        self.lines = lines.len();
        let mut events = Vec::new();
        for (number, line) in lines.iter().enumerate().skip(first) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match event(line, uuids) {
                Ok(event) => {
                    self.note(&event);
                    events.push(event);
                }
                Err(reason) => {
                    tracing::warn!(file = %self.path.display(), line = number + 1, reason, "no fault of a device");
                }
            }
        }
        events
    }

    fn note(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Recovered => {
                self.sick.remove(&event.uuid);
            }
            EventKind::Xid(_) => {}
            kind => {
                self.sick.insert(event.uuid.clone(), format!("{kind:?}"));
            }
        }
    }
}

fn event(line: &str, uuids: &[String]) -> Result<Event, String> {
    let mut words = line.split_whitespace();
    let mut next = |what: &str| words.next().ok_or_else(|| format!("`{line}` lacks {what}"));
    let kind = match next("what happened")? {
        "xid" => {
            let code = next("the code of the XID")?;
            EventKind::Xid(code.parse().map_err(|_| format!("`{code}` is no XID"))?)
        }
        "ecc" => EventKind::EccUncorrected,
        "lost" => EventKind::LostFromBus,
        "thermal" => EventKind::Thermal,
        "hung" => EventKind::DriverHung,
        "recovered" => EventKind::Recovered,
        other => return Err(format!("`{other}` is none of xid, ecc, lost, thermal, hung, recovered")),
    };
    let which = next("the device")?;
    let by_number = || which.parse::<usize>().ok().and_then(|number| uuids.get(number));
    let uuid = uuids.iter().find(|uuid| *uuid == which).or_else(by_number);
    let uuid = uuid.ok_or_else(|| format!("`{which}` is no device of this worker"))?;
    Ok(seen(uuid, kind, words.collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (device, kind, detail) of what was added.
    fn added(file: &mut FaultFile) -> Vec<(String, EventKind, String)> {
        let uuids = ["GPU-a".to_owned(), "GPU-b".to_owned()];
        file.events(&uuids).into_iter().map(|e| (e.uuid, e.kind, e.detail)).collect()
    }

    #[test]
    fn added_lines_are_events_and_each_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults");
        std::fs::write(&path, "xid 48 0\n").unwrap();
        let mut file = FaultFile::open(path.clone());
        assert_eq!(added(&mut file), []);

        std::fs::write(&path, "xid 48 0\nxid 79 1 pid 7\nbroken\nxid 1").unwrap();
        assert_eq!(added(&mut file), [("GPU-b".into(), EventKind::Xid(79), "pid 7".into())]);
        assert_eq!(added(&mut file), []);

        std::fs::write(&path, "thermal GPU-a\n").unwrap();
        assert_eq!(added(&mut file), [("GPU-a".into(), EventKind::Thermal, String::new())]);
        assert!(file.sick.contains_key("GPU-a"));
        std::fs::write(&path, "thermal GPU-a\nrecovered 0\n").unwrap();
        assert_eq!(added(&mut file), [("GPU-a".into(), EventKind::Recovered, String::new())]);
        assert!(file.sick.is_empty());
    }

    #[test]
    fn bad_lines_say_what_is_missing() {
        let uuids = ["GPU-a".to_owned()];
        for (line, word) in [
            ("xid", "code"),
            ("xid x 0", "`x`"),
            ("xid 79", "device"),
            ("xid 79 5", "`5`"),
            ("boom 0", "boom"),
        ] {
            let reason = event(line, &uuids).expect_err(line);
            assert!(reason.contains(word), "{line}: {reason}");
        }
    }
}
