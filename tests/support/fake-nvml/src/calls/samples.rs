//! How a device is.

use super::put;
use crate::scenario::{Gpu, Process};
use crate::state::{Target, device_call};
use nvml_wrapper_sys::bindings::{
    nvmlClockType_enum_NVML_CLOCK_MEM as CLOCK_MEM, nvmlClockType_t, nvmlDevice_t, nvmlEccCounterType_t,
    nvmlEnableState_t, nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED as CORRECTED,
    nvmlMemoryErrorType_t,
    nvmlPageRetirementCause_enum_NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR as DOUBLE_BIT,
    nvmlPageRetirementCause_t, nvmlProcessInfo_t, nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as SIZE,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as UNSUPPORTED, nvmlReturn_enum_NVML_SUCCESS as SUCCESS,
    nvmlReturn_t, nvmlTemperatureSensors_t, nvmlUtilization_t,
};
use std::ffi::{c_uint, c_ulonglong};

/// A number that only whole GPUs have.
///
/// # Safety
/// `at` may be written.
unsafe fn number<T>(
    name: &str,
    device: nvmlDevice_t,
    at: *mut T,
    of: impl FnOnce(&Gpu) -> T,
) -> nvmlReturn_t {
    device_call(name, device, |_, _, target| match target {
        // SAFETY: the caller's promise.
        Target::Gpu(gpu) => unsafe { put(at, of(gpu)) },
        Target::Mig(..) => UNSUPPORTED,
    })
}

/// # Safety
/// As NVML has it: `rates` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    rates: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetUtilizationRates", device, |_, _, target| match target {
        // As the real one does: no rates once the GPU is divided.
        Target::Gpu(gpu) if gpu.mig.is_none() => {
            // SAFETY: the caller's promise.
            unsafe { put(rates, nvmlUtilization_t { gpu: gpu.utilization, memory: gpu.utilization / 2 }) }
        }
        _ => UNSUPPORTED,
    })
}

/// # Safety
/// As NVML has it: `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: nvmlTemperatureSensors_t,
    value: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetTemperature", device, value, |gpu| gpu.temperature) }
}

/// # Safety
/// As NVML has it: `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, value: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetPowerUsage", device, value, |gpu| gpu.power) }
}

/// # Safety
/// As NVML has it: `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(
    device: nvmlDevice_t,
    value: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetEnforcedPowerLimit", device, value, |gpu| gpu.power_limit) }
}

/// # Safety
/// As NVML has it: `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: nvmlDevice_t,
    kind: nvmlClockType_t,
    value: *mut c_uint,
) -> nvmlReturn_t {
    let of = |gpu: &Gpu| if kind == CLOCK_MEM { gpu.clocks.1 } else { gpu.clocks.0 };
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetClockInfo", device, value, of) }
}

/// # Safety
/// As NVML has it: `reasons` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: nvmlDevice_t,
    reasons: *mut c_ulonglong,
) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetCurrentClocksThrottleReasons", device, reasons, |gpu| gpu.throttle) }
}

/// # Safety
/// As NVML has it: `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    kind: nvmlMemoryErrorType_t,
    _counter: nvmlEccCounterType_t,
    count: *mut c_ulonglong,
) -> nvmlReturn_t {
    let of = |gpu: &Gpu| if kind == CORRECTED { gpu.ecc.0 } else { gpu.ecc.1 };
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetTotalEccErrors", device, count, of) }
}

/// # Safety
/// As NVML has it: `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages(
    device: nvmlDevice_t,
    cause: nvmlPageRetirementCause_t,
    count: *mut c_uint,
    _addresses: *mut c_ulonglong,
) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetRetiredPages", device, count, |gpu| pages(gpu, cause)) }
}

/// # Safety
/// As NVML has it: `count` says for how many the two lists may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: nvmlDevice_t,
    cause: nvmlPageRetirementCause_t,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
    times: *mut c_ulonglong,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetRetiredPages_v2", device, |_, _, target| {
        let Target::Gpu(gpu) = target else { return UNSUPPORTED };
        let all = pages(gpu, cause);
        // SAFETY: the caller's promise.
        unsafe {
            if count.read() < all {
                return SIZE;
            }
            for n in 0..all as usize {
                put(addresses.add(n), n as u64);
                put(times.add(n), 0);
            }
            put(count, all)
        }
    })
}

fn pages(gpu: &Gpu, cause: nvmlPageRetirementCause_t) -> u32 {
    if cause == DOUBLE_BIT { gpu.retired.1 } else { gpu.retired.0 }
}

/// # Safety
/// As NVML has it: `pending` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPagesPendingStatus(
    device: nvmlDevice_t,
    pending: *mut nvmlEnableState_t,
) -> nvmlReturn_t {
    let of = |gpu: &Gpu| u32::from(gpu.retired_pending);
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetRetiredPagesPendingStatus", device, pending, of) }
}

/// # Safety
/// As NVML has it: all four may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRemappedRows(
    device: nvmlDevice_t,
    correctable: *mut c_uint,
    uncorrectable: *mut c_uint,
    pending: *mut c_uint,
    failed: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetRemappedRows", device, |_, _, target| {
        let Target::Gpu(gpu) = target else { return UNSUPPORTED };
        // SAFETY: the caller's promise.
        unsafe {
            put(correctable, gpu.remapped.correctable);
            put(uncorrectable, gpu.remapped.uncorrectable);
            put(pending, u32::from(gpu.remapped.pending));
            put(failed, u32::from(gpu.remapped.failed))
        }
    })
}

/// # Safety
/// As NVML has it: `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPcieReplayCounter(
    device: nvmlDevice_t,
    value: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { number("nvmlDeviceGetPcieReplayCounter", device, value, |gpu| gpu.pcie_replays) }
}

/// # Safety
/// As NVML has it: `count` says for how many `infos` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    infos: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetComputeRunningProcesses_v3", device, |_, _, target| {
        let processes: &[Process] = match target {
            Target::Gpu(gpu) => &gpu.processes,
            Target::Mig(_, mig) => &mig.processes,
        };
        let all = u32::try_from(processes.len()).unwrap_or(u32::MAX);
        // SAFETY: the caller's promise.
        unsafe {
            let room = count.read();
            put(count, all);
            if room < all {
                return SIZE;
            }
            for (n, process) in processes.iter().enumerate() {
                let info = nvmlProcessInfo_t {
                    pid: process.pid,
                    usedGpuMemory: process.memory,
                    gpuInstanceId: u32::MAX,
                    computeInstanceId: u32::MAX,
                };
                put(infos.add(n), info);
            }
        }
        SUCCESS
    })
}
