//! What a device is.

use super::{bus_id, put, put_text};
use crate::state::{Target, device_call, mig_handle};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlMemory_v2_t, nvmlPciInfo_t,
    nvmlReturn_enum_NVML_ERROR_NOT_FOUND as NOT_FOUND,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as UNSUPPORTED, nvmlReturn_t,
};
use std::ffi::{c_char, c_int, c_uint, c_ulong};

/// # Safety
/// As NVML has it: `name` may be written for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    name: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetName", device, |_, _, target| {
        let text = match target {
            Target::Gpu(gpu) => gpu.name.clone(),
            Target::Mig(gpu, mig) => format!("{} MIG {}", gpu.name, mig.profile),
        };
        // SAFETY: the caller's promise.
        unsafe { put_text(name, length, &text) }
    })
}

/// # Safety
/// As NVML has it: `uuid` may be written for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    uuid: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetUUID", device, |_, _, target| {
        let text = match target {
            Target::Gpu(gpu) => &gpu.uuid,
            Target::Mig(_, mig) => &mig.uuid,
        };
        // SAFETY: the caller's promise.
        unsafe { put_text(uuid, length, text) }
    })
}

/// # Safety
/// As NVML has it: `pci` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetPciInfo_v3", device, |_, _, target| {
        let (Target::Gpu(gpu) | Target::Mig(gpu, _)) = target;
        let info = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: gpu.bus,
            device: 0,
            pciDeviceId: 0x2330_10DE,
            pciSubSystemId: 0,
            busId: bus_id(gpu.bus),
        };
        // SAFETY: the caller's promise.
        unsafe { put(pci, info) }
    })
}

/// # Safety
/// As NVML has it: `minor` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: *mut c_uint) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMinorNumber", device, |_, _, target| {
        let (Target::Gpu(gpu) | Target::Mig(gpu, _)) = target;
        // SAFETY: the caller's promise.
        unsafe { put(minor, gpu.minor) }
    })
}

/// # Safety
/// As NVML has it: both numbers may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: *mut c_int,
    minor: *mut c_int,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetCudaComputeCapability", device, |_, _, target| {
        let (Target::Gpu(gpu) | Target::Mig(gpu, _)) = target;
        // SAFETY: the caller's promise.
        unsafe {
            put(major, gpu.capability.0);
            put(minor, gpu.capability.1)
        }
    })
}

/// # Safety
/// As NVML has it: `memory` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMemoryInfo_v2", device, |_, _, target| {
        let (total, idle, processes) = match target {
            Target::Gpu(gpu) => (gpu.memory, gpu.memory_used, &gpu.processes),
            Target::Mig(_, mig) => (mig.memory, mig.memory_used, &mig.processes),
        };
        let used = (idle + processes.iter().map(|p| p.memory).sum::<u64>()).min(total);
        // SAFETY: the caller's promise.
        unsafe { put(memory, nvmlMemory_v2_t { version: 0, total, reserved: 0, free: total - used, used }) }
    })
}

/// # Safety
/// As NVML has it: `set` may be written for `words` words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCpuAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    set: *mut c_ulong,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetCpuAffinity", device, |_, _, target| {
        let (Target::Gpu(gpu) | Target::Mig(gpu, _)) = target;
        let mut result = UNSUPPORTED;
        for word in 0..words {
            let bits = gpu.cpus.iter().filter(|cpu| **cpu / 64 == word).map(|cpu| 1 << (cpu % 64)).sum();
            // SAFETY: the caller's promise.
            result = unsafe { put(set.add(word as usize), bits) };
        }
        result
    })
}

/// # Safety
/// As NVML has it: both modes may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMigMode", device, |_, _, target| {
        let Target::Gpu(gpu) = target else { return UNSUPPORTED };
        let on = u32::from(gpu.mig.is_some());
        // SAFETY: the caller's promise.
        unsafe {
            put(current, on);
            put(pending, on)
        }
    })
}

/// # Safety
/// As NVML has it: `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMaxMigDeviceCount", device, |_, _, _| {
        // SAFETY: the caller's promise.
        unsafe { put(count, 7) }
    })
}

/// # Safety
/// As NVML has it: `instance` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    instance: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetMigDeviceHandleByIndex", device, |_, number, target| {
        let Target::Gpu(gpu) = target else { return UNSUPPORTED };
        match &gpu.mig {
            // SAFETY: the caller's promise.
            Some(all) if (index as usize) < all.len() => unsafe {
                put(instance, mig_handle(number, index as usize))
            },
            _ => NOT_FOUND,
        }
    })
}

/// # Safety
/// As NVML has it: `attributes` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    attributes: *mut nvmlDeviceAttributes_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetAttributes_v2", device, |_, _, target| {
        let Target::Mig(_, mig) = target else { return UNSUPPORTED };
        let slices = mig.profile.split('g').next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let value = nvmlDeviceAttributes_t {
            multiprocessorCount: 16 * slices,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: slices,
            computeInstanceSliceCount: slices,
            memorySizeMB: mig.memory >> 20,
        };
        // SAFETY: the caller's promise.
        unsafe { put(attributes, value) }
    })
}

/// # Safety
/// As NVML has it: `id` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: *mut c_uint) -> nvmlReturn_t {
    device_call("nvmlDeviceGetGpuInstanceId", device, |_, _, target| {
        let Target::Mig(gpu, mig) = target else { return UNSUPPORTED };
        let position = gpu.mig.iter().flatten().position(|m| m.uuid == mig.uuid).unwrap_or(0);
        // SAFETY: the caller's promise.
        unsafe { put(id, u32::try_from(position).unwrap_or(0)) }
    })
}

/// # Safety
/// As NVML has it: `id` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(
    device: nvmlDevice_t,
    id: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    device_call("nvmlDeviceGetComputeInstanceId", device, |_, _, _| unsafe { put(id, 0) })
}
