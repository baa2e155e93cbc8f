//! What the worker measures of itself: processor, memory, disk, load, and its devices. It travels beside the log, for people.

use crate::devices::Devices;
use crate::shim::clock::wall_ms;
use muster_core::model::telemetry::{MachineSample, Telemetry};
use std::path::PathBuf;
use std::time::Duration;

/// Between two measurements.
pub const EVERY: Duration = Duration::from_secs(5);

/// Measures one machine. Processor time is counted from one measurement to the next.
pub struct Gauge {
    system: Option<sysinfo::System>,
    /// Where attempts write.
    dir: PathBuf,
}

impl Gauge {
    /// For a worker whose attempts write below `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        let mut system = sysinfo::System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self { system, dir }
    }

    /// How things are now. What the system does not tell is zero.
    pub fn measure(&mut self, devices: &dyn Devices) -> Telemetry {
        let at = i64::try_from(wall_ms()).unwrap_or(i64::MAX);
        Telemetry { at, machine: self.machine(), devices: devices.sample() }
    }

    fn machine(&mut self) -> MachineSample {
        let (disk_free, disk_total) = rustix::fs::statvfs(&self.dir).map_or((0, 0), |fs| {
            (fs.f_bavail.saturating_mul(fs.f_frsize), fs.f_blocks.saturating_mul(fs.f_frsize))
        });
        let load = sysinfo::System::load_average().map(|l| [l.one, l.five, l.fifteen]).unwrap_or_default();
        let mut sample = MachineSample {
            disk_free,
            disk_total,
            load_milli: load.map(thousandths),
            ..MachineSample::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            sample.cpu_permille = thousandths(f64::from(system.global_cpu_usage()) / 100.0).min(1000);
            (sample.memory_used, sample.memory_total) = (system.used_memory(), system.total_memory());
        }
        sample
    }
}

/// A float becomes an integer here and nowhere later; the cast saturates.
fn thousandths(value: f64) -> u32 {
    (value * 1000.0).round().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::simulated::Simulated;

    #[test]
    fn a_measurement_has_the_machine_and_every_device() {
        let devices = Simulated::parse("2xH100-80GB", "w1").unwrap();
        let measured = Gauge::new("/".into()).measure(&devices);
        let machine = &measured.machine;
        assert!(machine.memory_total > 0 && machine.memory_used <= machine.memory_total, "{machine:?}");
        assert!(machine.disk_total >= machine.disk_free && machine.disk_total > 0, "{machine:?}");
        assert!(machine.cpu_permille <= 1000 && measured.at > 0);
        let uuids: Vec<_> = measured.devices.iter().map(|d| d.uuid.clone()).collect();
        assert_eq!(uuids, devices.fingerprint().iter().map(|d| d.uuid.clone()).collect::<Vec<_>>());
    }

    #[test]
    fn thousandths_are_rounded_and_bounded() {
        assert_eq!([0.0, 0.0004, 0.9996, 12.5, -1.0, f64::NAN].map(thousandths), [0, 0, 1000, 12_500, 0, 0]);
    }
}
