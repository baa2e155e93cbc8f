//! What holds on any machine with GPUs: on the fake library by default, on the real one with `make test-gpu`, which sets
//! `MUSTER_TEST_NVML` to the library's name or path.

use muster_worker::devices::nvml::{Nvml, Options};
use muster_worker::devices::{Devices, Health, LinkClass, Residue, nodes};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for anything: a failure, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine's library, or a fake one in a directory that goes with it.
fn open() -> (Nvml, Option<tempfile::TempDir>) {
    let options = |library| Options { library, period: Duration::from_millis(50), deadline: PATIENCE };
    if let Some(library) = std::env::var_os("MUSTER_TEST_NVML") {
        return (Nvml::open(&options(library)).expect("the real library"), None);
    }
    let dir = tempfile::tempdir().unwrap();
    let scenario = muster_fake_nvml::Scenario::healthy(0x6d75, 4);
    let fake = muster_fake_nvml::install(dir.path(), &scenario).unwrap();
    (Nvml::open(&options(fake.library.into())).unwrap(), Some(dir))
}

#[test]
fn every_device_says_what_the_scheduler_needs() {
    let (nvml, _dir) = open();
    let found = nvml.fingerprint();
    assert!(!found.is_empty(), "no GPU");
    for (n, device) in found.iter().enumerate() {
        assert!(device.uuid.starts_with("GPU-") || device.uuid.starts_with("MIG-"), "{device:?}");
        assert!(device.index as usize == n && !device.simulated, "{device:?}");
        assert!(device.memory_bytes > 1 << 28 && !device.model.is_empty(), "{device:?}");
        assert!(device.compute_capability.is_some_and(|(major, _)| major >= 3), "{device:?}");
        assert!(device.minor.is_some() && device.pci.len() == 12, "{device:?}");
    }
    let driver = nvml.driver();
    assert!(!driver.version.is_empty() && driver.cuda.0 >= 10, "{driver:?}");
}

#[test]
fn links_are_seen_alike_from_both_ends() {
    let (nvml, _dir) = open();
    let found = nvml.fingerprint();
    for device in &found {
        for link in &device.links {
            let back = found[link.peer as usize].links.iter().find(|l| l.peer == device.index);
            let back = back.unwrap_or_else(|| panic!("{device:?} is not linked back"));
            assert_eq!((link.class, link.lanes), (back.class, back.lanes));
            assert_eq!(link.class == LinkClass::Nvlink, link.lanes > 0);
        }
    }
}

#[test]
fn a_sample_is_within_what_a_device_can_be() {
    let (nvml, _dir) = open();
    let found = nvml.fingerprint();
    let samples = nvml.sample();
    assert_eq!(samples.len(), found.len());
    for device in &found {
        let sample = samples.iter().find(|s| s.uuid == device.uuid).unwrap();
        assert!(sample.memory_used.is_some_and(|used| used <= device.memory_bytes), "{sample:?}");
        assert!(sample.utilization_permille.is_none_or(|u| u <= 1000), "{sample:?}");
        // There is no such number for an instance, and none is made up.
        assert!(device.mig.is_none() || sample.utilization_permille.is_none(), "{sample:?}");
        assert!(sample.temperature.is_none_or(|t| t < 120), "{sample:?}");
    }
}

#[test]
fn idle_devices_are_healthy_and_clean() {
    let (nvml, _dir) = open();
    let uuids: Vec<String> = nvml.fingerprint().into_iter().map(|d| d.uuid).collect();
    nvml.granted(&uuids);
    for uuid in &uuids {
        let (ended, end) = (Instant::now(), Instant::now() + PATIENCE);
        let seen = loop {
            match nvml.residue(uuid, false, ended) {
                Residue::Unknown => assert!(Instant::now() < end, "not looked at for a minute"),
                seen => break seen,
            }
            std::thread::yield_now();
        };
        assert_eq!(seen, Residue::Clean, "{uuid}");
    }
    assert!(nvml.health().iter().all(|(_, health)| *health == Health::Healthy), "{:?}", nvml.health());
}

#[test]
fn a_task_without_gpus_is_denied_every_gpu() {
    let (nvml, _dir) = open();
    let found = nvml.fingerprint();
    let majors = nodes::Majors::read();
    let denied = nodes::denied(&found, &[], majors, Path::new("/dev"));
    for device in &found {
        let minor = device.minor.unwrap();
        assert!(denied.iter().any(|node| (node.major, node.minor) == (195, minor)), "{device:?}");
        let given = nodes::denied(&found, &[device.index as usize], majors, Path::new("/dev"));
        assert!(!given.iter().any(|node| (node.major, node.minor) == (195, minor)), "{device:?}");
    }
}
