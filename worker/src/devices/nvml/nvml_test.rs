//! The real code on the fake library: loader, wrapper, threads. Only the library itself is not NVIDIA's.

use super::{Nvml, NvmlError, Options};
use crate::devices::{Device, Devices, Event, EventKind, Health, LinkClass, Residue, Sample};
use muster_core::model::telemetry::RemappedRows;
use muster_fake_nvml::{
    Event as Raised, Failure, Installed, Mig, Path as Way, Process, Remapped, Scenario, install,
};
use std::time::{Duration, Instant};

/// Longest wait for anything: a failure, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

struct Rig {
    _dir: tempfile::TempDir,
    installed: Installed,
    scenario: Scenario,
    nvml: Nvml,
    /// Seen so far.
    events: Vec<Event>,
}

impl Rig {
    fn new(scenario: Scenario) -> Self {
        Self::with(scenario, Duration::from_secs(120))
    }

    fn with(scenario: Scenario, deadline: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let installed = install(dir.path(), &scenario).unwrap();
        let library = installed.library.clone().into();
        let nvml = Nvml::open(&Options { library, period: Duration::from_millis(20), deadline }).unwrap();
        Self { _dir: dir, installed, scenario, nvml, events: Vec::new() }
    }

    fn change(&mut self, change: impl FnOnce(&mut Scenario)) {
        change(&mut self.scenario);
        self.installed.set(&self.scenario).unwrap();
    }

    fn until<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            self.events.extend(self.nvml.events());
            if let Some(value) = ready(self) {
                return value;
            }
            assert!(Instant::now() < end, "waited a minute for {what}; events so far: {:?}", self.events);
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits for an event of this kind and gives the UUIDs that had it.
    fn told(&mut self, kind: &EventKind, count: usize) -> Vec<String> {
        self.until(&format!("{count} × {kind:?}"), |rig| {
            let uuids: Vec<_> =
                rig.events.iter().filter(|e| e.kind == *kind).map(|e| e.uuid.clone()).collect();
            (uuids.len() >= count).then_some(uuids)
        })
    }

    fn sample(&self, n: usize) -> Sample {
        let uuid = self.nvml.fingerprint()[n].uuid.clone();
        self.nvml.sample().into_iter().find(|s| s.uuid == uuid).unwrap()
    }

    fn sick(&self) -> Vec<(String, String)> {
        let sick = |(uuid, health)| match health {
            Health::Unhealthy(why) => Some((uuid, why)),
            Health::Healthy => None,
        };
        self.nvml.health().into_iter().filter_map(sick).collect()
    }
}

#[test]
fn what_is_there_is_read_once() {
    let mut scenario = Scenario::healthy(1, 3);
    scenario.links.retain(|link| link.between != (1, 2));
    scenario.paths = vec![Way { between: (1, 2), level: 20 }];
    scenario.gpus[2].name = "NVIDIA L40S".to_owned();
    scenario.gpus[2].capability = (8, 9);
    scenario.gpus[2].cpus = vec![0, 1, 65];
    let rig = Rig::new(scenario.clone());

    let found = rig.nvml.fingerprint();
    let of =
        |device: &Device| (device.model.clone(), device.compute_capability, device.pci.clone(), device.minor);
    assert_eq!(of(&found[0]), ("H100".into(), Some((9, 0)), "0000:01:00.0".into(), Some(0)));
    assert_eq!(of(&found[2]), ("L40S".into(), Some((8, 9)), "0000:03:00.0".into(), Some(2)));
    assert_eq!((found[2].cpus.clone(), found[2].memory_bytes), (vec![0, 1, 65], 85_520_809_984));
    assert!(found.iter().zip(&scenario.gpus).all(|(d, gpu)| d.uuid == gpu.uuid && !d.simulated));
    let links = |n: usize| found[n].links.iter().map(|l| (l.peer, l.class, l.lanes)).collect::<Vec<_>>();
    assert_eq!(links(0), [(1, LinkClass::Nvlink, 2), (2, LinkClass::Nvlink, 2)]);
    assert_eq!(links(1), [(0, LinkClass::Nvlink, 2), (2, LinkClass::Switches, 0)]);
    let driver = rig.nvml.driver();
    assert_eq!((driver.version.as_str(), driver.cuda), ("570.86.15", (12, 8)));
    assert_eq!(rig.sick(), []);
}

#[test]
fn a_sample_is_what_the_device_says_now() {
    let mut rig = Rig::new(Scenario::healthy(2, 1));
    rig.change(|s| {
        let gpu = &mut s.gpus[0];
        (gpu.utilization, gpu.temperature, gpu.power, gpu.clocks) = (73, 66, 512_000, (1980, 2619));
        gpu.throttle = 4 | 32;
        (gpu.ecc, gpu.retired, gpu.pcie_replays, gpu.nvlink_errors) = ((5, 0), (2, 1), 9, 0);
        gpu.remapped = Remapped { correctable: 1, uncorrectable: 2, ..Remapped::default() };
        gpu.processes = vec![Process { pid: 42, memory: 3 << 30 }];
        gpu.memory_used = 1 << 20;
    });
    let sample =
        rig.until("the new numbers", |rig| Some(rig.sample(0)).filter(|s| s.temperature == Some(66)));

    assert_eq!((sample.utilization_permille, sample.memory_used), (Some(730), Some((3 << 30) + (1 << 20))));
    assert_eq!((sample.power_mw, sample.power_limit_mw), (Some(512_000), Some(700_000)));
    assert_eq!((sample.sm_clock_mhz, sample.memory_clock_mhz), (Some(1980), Some(2619)));
    assert_eq!(sample.throttle, ["sw_power_cap", "sw_thermal_slowdown"]);
    assert_eq!(
        (sample.ecc_corrected, sample.ecc_uncorrected, sample.retired_pages),
        (Some(5), Some(0), Some(3))
    );
    let rows = RemappedRows { correctable: 1, uncorrectable: 2, ..RemappedRows::default() };
    assert_eq!((sample.remapped, sample.pcie_replays), (Some(rows), Some(9)));
    // It has no links.
    assert_eq!(sample.nvlink_errors, None);
    assert_eq!(sample.processes.iter().map(|p| (p.pid, p.memory)).collect::<Vec<_>>(), [(42, Some(3 << 30))]);
    assert_eq!(sample.unhealthy, None);
}

#[test]
fn errors_of_all_links_are_one_number() {
    let mut scenario = Scenario::healthy(3, 2);
    scenario.gpus[0].nvlink_errors = 3;
    let rig = Rig::new(scenario);
    // Two links, four kinds of errors.
    assert_eq!((rig.sample(0).nvlink_errors, rig.sample(1).nvlink_errors), (Some(24), Some(0)));
}

#[test]
fn instances_are_devices_and_have_no_utilisation() {
    let mut scenario = Scenario::healthy(4, 2);
    let instance = |uuid: &str, profile: &str, memory| Mig {
        uuid: uuid.into(),
        profile: profile.into(),
        memory,
        processes: vec![Process { pid: 7, memory: 1 << 30 }],
        ..Mig::default()
    };
    scenario.gpus[0].mig =
        Some(vec![instance("MIG-a", "1g.10gb", 10 << 30), instance("MIG-b", "3g.40gb", 40 << 30)]);
    scenario.gpus[0].utilization = 90;
    let mut rig = Rig::new(scenario);

    let found = rig.nvml.fingerprint();
    let names: Vec<_> = found.iter().map(|d| (d.uuid.as_str(), d.index, d.memory_bytes >> 30)).collect();
    let whole = found[2].uuid.clone();
    assert_eq!(names, [("MIG-a", 0, 10), ("MIG-b", 1, 40), (whole.as_str(), 2, 79)]);
    let mig = found[1].mig.clone().unwrap();
    assert_eq!((mig.profile.as_str(), mig.parent.clone()), ("3g.40gb", rig.scenario.gpus[0].uuid.clone()));
    assert_eq!((found[1].minor, found[1].links.len(), found[2].links.len()), (Some(0), 0, 0));

    let sample = rig.sample(1);
    assert_eq!((sample.utilization_permille, sample.memory_used), (None, Some(1 << 30)));
    assert_eq!((sample.temperature, sample.processes.len()), (Some(31), 1));
    assert_eq!(rig.sample(2).utilization_permille, Some(0));
    // What happens to the GPU happens to its instances.
    rig.change(|s| s.events.push(Raised { gpu: 0, xid: Some(63) }));
    assert_eq!(rig.told(&EventKind::Xid(63), 2), ["MIG-a", "MIG-b"]);
}

#[test]
fn what_a_device_does_not_have_is_none() {
    let mut scenario = Scenario::healthy(5, 1);
    let calls = ["nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetRemappedRows"];
    scenario.failures = calls.map(|call| Failure { call: call.into(), gpu: None, code: 3 }).to_vec();
    let rig = Rig::new(scenario);
    let sample = rig.sample(0);
    assert_eq!((sample.ecc_corrected, sample.power_mw, sample.remapped), (None, None, None));
    assert_eq!((sample.temperature, sample.unhealthy), (Some(31), None));
}

#[test]
fn an_xid_is_heard_even_of_a_device_that_falls_off_the_bus() {
    let mut rig = Rig::new(Scenario::healthy(6, 2));
    let uuid = rig.scenario.gpus[1].uuid.clone();
    rig.change(|s| {
        s.gpus[1].lost = true;
        s.events.push(Raised { gpu: 1, xid: Some(79) });
    });
    assert_eq!(rig.told(&EventKind::Xid(79), 1), [uuid.as_str()]);
    assert_eq!(rig.told(&EventKind::LostFromBus, 1), [uuid.as_str()]);
    assert_eq!(rig.sick().iter().map(|(uuid, _)| uuid.as_str()).collect::<Vec<_>>(), [uuid.as_str()]);
    assert!(rig.sample(1).unhealthy.is_some());

    rig.change(|s| s.gpus[1].lost = false);
    assert_eq!(rig.told(&EventKind::Recovered, 1), [uuid]);
    assert_eq!(rig.sick(), []);
}

#[test]
fn ecc_errors_are_events_too() {
    let mut rig = Rig::new(Scenario::healthy(7, 2));
    let uuid = rig.scenario.gpus[0].uuid.clone();
    rig.change(|s| s.events.push(Raised { gpu: 0, xid: None }));
    assert_eq!(rig.told(&EventKind::EccUncorrected, 1), [uuid.as_str()]);
    rig.change(|s| s.gpus[0].ecc.1 = 2);
    assert_eq!(rig.told(&EventKind::EccUncorrected, 2), [uuid.clone(), uuid]);
}

#[test]
fn a_driver_that_hangs_makes_the_devices_unhealthy_and_holds_nobody() {
    let mut rig = Rig::with(Scenario::healthy(8, 2), Duration::from_secs(2));
    rig.change(|s| s.hangs.push("nvmlDeviceGetTemperature".into()));
    assert_eq!(rig.told(&EventKind::DriverHung, 2).len(), 2);
    let sick = rig.sick();
    assert!(sick.len() == 2 && sick[0].1.starts_with("the driver does not answer for "), "{sick:?}");
    assert!(rig.sample(0).unhealthy.is_some_and(|why| why.starts_with("the driver does not answer")));
    // It is told once.
    assert!(rig.nvml.events().is_empty());

    rig.change(|s| s.hangs.clear());
    assert_eq!(rig.told(&EventKind::Recovered, 2).len(), 2);
    assert_eq!(rig.sick(), []);
}

#[test]
fn a_driver_that_hangs_at_the_start_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = Scenario { hangs: vec!["nvmlInit_v2".into()], ..Scenario::healthy(9, 1) };
    let installed = install(dir.path(), &scenario).unwrap();
    let deadline = Duration::from_millis(50);
    let options = Options { library: installed.library.clone().into(), period: deadline, deadline };
    let error = Nvml::open(&options).unwrap_err();
    assert!(matches!(error, NvmlError::Hung(_)) && !error.is_absence(), "{error}");
    // Lets the thread end.
    installed.set(&Scenario::default()).unwrap();
}

#[test]
fn a_machine_without_library_or_driver_is_told_apart_from_a_broken_one() {
    let open =
        |library: std::ffi::OsString| Nvml::open(&Options { library, ..Options::default() }).unwrap_err();
    let error = open("/nonexistent/libnvidia-ml.so.1".into());
    assert!(error.is_absence(), "{error}");
    assert_eq!(error.to_string(), "cannot open /nonexistent/libnvidia-ml.so.1");

    let dir = tempfile::tempdir().unwrap();
    let fails = |code| Scenario {
        failures: vec![Failure { call: "nvmlInit_v2".into(), gpu: None, code }],
        ..Scenario::default()
    };
    // 9: no driver is loaded; 18: library and driver do not fit together.
    let installed = install(dir.path(), &fails(9)).unwrap();
    assert!(open(installed.library.clone().into()).is_absence());
    installed.set(&fails(18)).unwrap();
    assert!(!open(installed.library.into()).is_absence());
}

#[test]
fn a_device_is_clean_when_processes_and_memory_of_the_attempt_are_gone() {
    let mut rig = Rig::new(Scenario::healthy(10, 1));
    let uuid = rig.scenario.gpus[0].uuid.clone();
    // Somebody else's process, there before the grant.
    let foreign = Process { pid: 1, memory: 2 << 30 };
    rig.change(|s| s.gpus[0].processes = vec![foreign.clone()]);
    rig.until("the foreign process", |rig| (rig.sample(0).processes.len() == 1).then_some(()));
    rig.nvml.granted(std::slice::from_ref(&uuid));

    let own = Process { pid: 4_000_000, memory: 4 << 30 };
    rig.change(|s| s.gpus[0].processes.push(own));
    let look = |rig: &mut Rig| {
        let ended = Instant::now();
        let uuid = uuid.clone();
        rig.until("a look", move |rig| match rig.nvml.residue(&uuid, false, ended) {
            Residue::Unknown => None,
            seen => Some(seen),
        })
    };
    assert_eq!(look(&mut rig), Residue::Left("process 4000000 is still on it".into()));
    rig.change(|s| {
        s.gpus[0].processes = vec![foreign];
        s.gpus[0].memory_used = 1 << 30;
    });
    assert!(matches!(look(&mut rig), Residue::Left(why) if why.contains("without a process")));
    rig.nvml.not_clean(&uuid, "memory");
    assert_eq!(rig.told(&EventKind::NotClean("memory".into()), 1), [uuid.as_str()]);
    rig.change(|s| s.gpus[0].memory_used = 0);
    assert_eq!(look(&mut rig), Residue::Clean);
    assert_eq!(rig.told(&EventKind::Recovered, 1), [uuid.as_str()]);
}
