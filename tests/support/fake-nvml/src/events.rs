//! Event sets: which devices they listen to, and what they have delivered.

use crate::state::{call, current, device_call, gpu_handle};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeDoubleBitEccError as ECC,
    nvmlEventTypeXidCriticalError as XID, nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as INVALID,
    nvmlReturn_enum_NVML_ERROR_TIMEOUT as TIMEOUT, nvmlReturn_enum_NVML_SUCCESS as SUCCESS, nvmlReturn_t,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::raw::{c_uint, c_ulonglong};
use std::time::{Duration, Instant};

/// Of a set that waits.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Set {
    /// Position of a GPU → types.
    listens: BTreeMap<usize, u64>,
    /// Events of the scenario that are behind it.
    seen: usize,
}

static SETS: Mutex<BTreeMap<usize, Set>> = Mutex::new(BTreeMap::new());

/// # Safety
/// As NVML has it: `set` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    call("nvmlEventSetCreate", |scenario| {
        let mut sets = SETS.lock();
        let number = sets.keys().next_back().map_or(1, |last| last + 1);
        sets.insert(number, Set { seen: scenario.events.len(), ..Set::default() });
        // SAFETY: the caller's promise.
        unsafe { set.write(number as nvmlEventSet_t) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    SETS.lock().remove(&(set as usize)).map_or(INVALID, |_| SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    types: c_ulonglong,
    set: nvmlEventSet_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceRegisterEvents", device, |_, gpu, _| {
        let mut sets = SETS.lock();
        let Some(set) = sets.get_mut(&(set as usize)) else { return INVALID };
        *set.listens.entry(gpu).or_default() |= types;
        SUCCESS
    })
}

/// # Safety
/// As NVML has it: `types` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: nvmlDevice_t,
    types: *mut c_ulonglong,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetSupportedEventTypes", device, |_, _, _| {
        // SAFETY: the caller's promise.
        unsafe { types.write(u64::from(ECC | XID)) };
        SUCCESS
    })
}

/// # Safety
/// As NVML has it: `data` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    let until = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
    loop {
        let next = call("nvmlEventSetWait_v2", |_| match next(set as usize) {
            Err(code) => code,
            Ok(None) => TIMEOUT,
            Ok(Some(event)) => {
                // SAFETY: the caller's promise.
                unsafe { data.write(event) };
                SUCCESS
            }
        });
        if next != TIMEOUT || Instant::now() >= until {
            return next;
        }
        std::thread::sleep(LOOK);
    }
}

fn next(set: usize) -> Result<Option<nvmlEventData_t>, nvmlReturn_t> {
    let scenario = current();
    let mut sets = SETS.lock();
    let set = sets.get_mut(&set).ok_or(INVALID)?;
    while let Some(event) = scenario.events.get(set.seen) {
        set.seen += 1;
        let kind = u64::from(if event.xid.is_some() { XID } else { ECC });
        if set.listens.get(&event.gpu).is_some_and(|types| types & kind != 0) {
            return Ok(Some(nvmlEventData_t {
                device: gpu_handle(event.gpu),
                eventType: kind,
                eventData: event.xid.unwrap_or(0),
                gpuInstanceId: u32::MAX,
                computeInstanceId: u32::MAX,
            }));
        }
    }
    Ok(None)
}
