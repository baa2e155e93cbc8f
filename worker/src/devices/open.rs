//! Which devices a worker has: simulated ones when it is told to, else the machine's own, which one worker of a machine has.

use super::Devices;
use super::fault_file::faulty;
use super::nvml::{LIBRARY, Nvml, Options};
use super::simulated::Simulated;
use crate::config::WorkerConfig;
use muster_core::model::gpu_spec::GpuSpecError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A worker's devices; while this lives, no other worker of the machine takes real ones.
#[derive(Clone)]
pub struct Opened {
    pub devices: Arc<dyn Devices>,
    _lock: Option<Arc<OwnedFd>>,
}

impl Opened {
    fn simulated(config: &WorkerConfig, devices: Simulated) -> Self {
        Self { devices: faulty(config, devices), _lock: None }
    }
}

/// Opens the devices of the worker `name`. A machine without any, a driver that does not work, and GPUs that another worker of this
/// machine has are no errors: the worker has none then, and says why, once.
///
/// # Errors
/// A bad specification of simulated ones.
pub fn open(config: &WorkerConfig, name: &str) -> Result<Opened, GpuSpecError> {
    let simulated = Simulated::parse(config.gpus.as_deref().unwrap_or(""), name)?;
    if config.gpus.is_some() {
        return Ok(Opened::simulated(config, simulated));
    }
    let library = config.devices.nvml_path.clone().map_or_else(|| LIBRARY.into(), OsString::from);
    let options = Options { library: library.clone(), ..Options::default() };
    let nvml = match Nvml::open(&options) {
        Ok(nvml) if nvml.fingerprint().is_empty() => {
            tracing::info!(library = %library.display(), "no GPUs: the driver knows of none");
            return Ok(Opened::simulated(config, simulated));
        }
        Ok(nvml) => nvml,
        Err(error) => {
            let why = &error as &dyn std::error::Error;
            // A path that somebody wrote down is meant to be there.
            if error.is_absence() && config.devices.nvml_path.is_none() {
                tracing::info!(error = why, "no GPUs: this machine has no NVIDIA driver");
            } else {
                tracing::error!(error = why, "no GPUs: the driver does not work; the worker offers none");
            }
            return Ok(Opened::simulated(config, simulated));
        }
    };
    match take(&lock_path(&library)) {
        Ok(lock) => Ok(Opened { devices: Arc::new(nvml), _lock: Some(Arc::new(lock)) }),
        Err(error) => {
            tracing::error!(%error, "no GPUs: another worker of this machine has them; the worker offers none");
            Ok(Opened::simulated(config, simulated))
        }
    }
}

/// One file a library, where every user of the machine looks.
fn lock_path(library: &OsStr) -> PathBuf {
    let hash = blake3::hash(library.as_encoded_bytes()).to_hex();
    let dir = Path::new("/run/lock");
    let dir = if dir.is_dir() { dir.to_owned() } else { std::env::temp_dir() };
    dir.join(format!("muster-gpus-{}", &hash[..8]))
}

/// Not inherited by what the worker starts: it ends with the worker, however that ends.
fn take(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DevicesConfig;
    use muster_fake_nvml::{Scenario, install};

    fn config(library: &Path) -> WorkerConfig {
        let devices = DevicesConfig { nvml_path: Some(library.to_owned()), ..DevicesConfig::default() };
        WorkerConfig { devices, ..WorkerConfig::default() }
    }

    fn count(opened: &Opened) -> usize {
        opened.devices.fingerprint().len()
    }

    #[test]
    fn the_gpus_of_a_machine_are_one_workers_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let library = install(dir.path(), &Scenario::healthy(20, 2)).unwrap().library;
        let first = open(&config(&library), "w1").unwrap();
        assert_eq!((count(&first), count(&open(&config(&library), "w2").unwrap())), (2, 0));
        drop(first);
        assert_eq!(count(&open(&config(&library), "w2").unwrap()), 2);
    }

    #[test]
    fn simulated_devices_are_asked_for_and_leave_real_ones_alone() {
        let dir = tempfile::tempdir().unwrap();
        let library = install(dir.path(), &Scenario::healthy(21, 2)).unwrap().library;
        let with = |gpus: &str| WorkerConfig { gpus: Some(gpus.into()), ..config(&library) };
        let opened = open(&with("4xH100-80GB"), "w1").unwrap();
        assert!(count(&opened) == 4 && opened.devices.fingerprint()[0].simulated);
        // An empty specification is none at all.
        assert_eq!(count(&open(&with(""), "w1").unwrap()), 0);
    }

    #[test]
    fn a_machine_without_the_library_has_no_gpus() {
        assert_eq!(count(&open(&config(Path::new("/nonexistent/libnvidia-ml.so.1")), "w1").unwrap()), 0);
    }
}
