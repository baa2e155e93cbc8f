//! The scenario in force, and which device a handle is.

use crate::scenario::{Gpu, Mig, Scenario};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST as LOST,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as INVALID, nvmlReturn_enum_NVML_SUCCESS as SUCCESS,
    nvmlReturn_t,
};
use parking_lot::Mutex;
use std::ffi::{CStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A handle is the GPU's position from 1, and, for an instance, its position from 1 in the higher bits.
const MIG_SHIFT: usize = 16;
/// How often a call that hangs looks whether it still has to.
const LOOK: Duration = Duration::from_millis(5);

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

struct Loaded {
    /// Inode, seconds, nanoseconds and size of what was read.
    mark: (u64, i64, i64, u64),
    scenario: Arc<Scenario>,
}

/// The scenario as the file has it now; an unreadable file leaves the last one in force.
pub fn current() -> Arc<Scenario> {
    let path = file();
    let mark = std::fs::metadata(&path).map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len())).ok();
    let mut loaded = LOADED.lock();
    if let Some(mark) = mark
        && loaded.as_ref().is_none_or(|l| l.mark != mark)
        && let Some(scenario) =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Scenario>(&bytes).ok())
    {
        *loaded = Some(Loaded { mark, scenario: Arc::new(scenario) });
    }
    loaded.as_ref().map_or_else(Arc::default, |l| Arc::clone(&l.scenario))
}

/// `NAME.json` beside this very library: its own path is where the loader found it.
fn file() -> PathBuf {
    // SAFETY: an all-zero Dl_info is valid, and dladdr fills it for an address in this library.
    let name = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let found = libc::dladdr(file as *const c_void, &raw mut info);
        if found == 0 || info.dli_fname.is_null() {
            return PathBuf::new();
        }
        CStr::from_ptr(info.dli_fname)
    };
    let mut path = std::ffi::OsStr::from_bytes(name.to_bytes()).to_owned();
    path.push(".json");
    path.into()
}

/// What a handle stands for.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    Gpu(&'a Gpu),
    Mig(&'a Gpu, &'a Mig),
}

/// One call that concerns no device. `answer` returns NVML's number.
pub fn call(name: &str, answer: impl FnOnce(&Scenario) -> nvmlReturn_t) -> nvmlReturn_t {
    match held_up(name, None) {
        Ok(scenario) => answer(&scenario),
        Err(code) => code,
    }
}

/// One call of a device.
pub fn device_call(
    name: &str,
    device: nvmlDevice_t,
    answer: impl FnOnce(&Scenario, usize, Target<'_>) -> nvmlReturn_t,
) -> nvmlReturn_t {
    let number = device as usize;
    let (gpu, mig) = ((number & ((1 << MIG_SHIFT) - 1)).wrapping_sub(1), number >> MIG_SHIFT);
    let scenario = match held_up(name, Some(gpu)) {
        Ok(scenario) => scenario,
        Err(code) => return code,
    };
    let Some(found) = scenario.gpus.get(gpu) else { return INVALID };
    if found.lost {
        return LOST;
    }
    if mig == 0 {
        return answer(&scenario, gpu, Target::Gpu(found));
    }
    match found.mig.as_ref().and_then(|all| all.get(mig - 1)) {
        Some(instance) => answer(&scenario, gpu, Target::Mig(found, instance)),
        None => INVALID,
    }
}

/// Waits while the call is to hang, and fails it if it is to fail.
fn held_up(name: &str, gpu: Option<usize>) -> Result<Arc<Scenario>, nvmlReturn_t> {
    let mut scenario = current();
    while scenario.hangs.iter().any(|h| h == name) {
        std::thread::sleep(LOOK);
        scenario = current();
    }
    let fails = |f: &&crate::scenario::Failure| f.call == name && (f.gpu.is_none() || f.gpu == gpu);
    match scenario.failures.iter().find(fails) {
        Some(failure) if failure.code != SUCCESS => Err(failure.code),
        _ => Ok(scenario),
    }
}

/// The handle of a GPU.
pub fn gpu_handle(gpu: usize) -> nvmlDevice_t {
    (gpu + 1) as nvmlDevice_t
}

/// The handle of an instance.
pub fn mig_handle(gpu: usize, instance: usize) -> nvmlDevice_t {
    ((gpu + 1) | ((instance + 1) << MIG_SHIFT)) as nvmlDevice_t
}
