//! Of the machine as a whole.

use super::{put, put_text};
use crate::state::{call, gpu_handle};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as INVALID,
    nvmlReturn_enum_NVML_SUCCESS as SUCCESS, nvmlReturn_t,
};
use std::ffi::{c_char, c_int, c_uint};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    call("nvmlInit_v2", |_| SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    SUCCESS
}

/// # Safety
/// As NVML has it: `version` may be written for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    call("nvmlSystemGetDriverVersion", |s| unsafe { put_text(version, length, &s.driver) })
}

/// # Safety
/// As NVML has it: `version` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    call("nvmlSystemGetCudaDriverVersion_v2", |s| unsafe { put(version, s.cuda) })
}

/// # Safety
/// As NVML has it: `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    call("nvmlDeviceGetCount_v2", |s| unsafe { put(count, u32::try_from(s.gpus.len()).unwrap_or(0)) })
}

/// # Safety
/// As NVML has it: `device` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    call("nvmlDeviceGetHandleByIndex_v2", |s| {
        if index as usize >= s.gpus.len() {
            return INVALID;
        }
        // SAFETY: the caller's promise.
        unsafe { put(device, gpu_handle(index as usize)) }
    })
}
