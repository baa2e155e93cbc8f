//! How devices reach each other.

use super::{bus_id, put};
use crate::scenario::Scenario;
use crate::state::{Target, device_call};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_t, nvmlGpuTopologyLevel_t, nvmlNvLinkErrorCounter_t, nvmlPciInfo_t,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as INVALID,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as UNSUPPORTED, nvmlReturn_t,
};
use std::ffi::{c_uint, c_ulonglong};

/// Ports of a device, numbered as they are listed: the position of the other end of each.
fn ports(scenario: &Scenario, gpu: usize) -> Vec<usize> {
    let other = |between: (usize, usize)| match between {
        (a, b) if a == gpu => Some(b),
        (a, b) if b == gpu => Some(a),
        _ => None,
    };
    let ends = scenario.links.iter().filter_map(|link| Some((other(link.between)?, link.count)));
    ends.flat_map(|(end, count)| std::iter::repeat_n(end, count as usize)).collect()
}

/// # Safety
/// As NVML has it: `active` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    device: nvmlDevice_t,
    link: c_uint,
    active: *mut nvmlEnableState_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetNvLinkState", device, |scenario, gpu, target| {
        let (Target::Gpu(_), false) = (target, scenario.links.is_empty()) else { return UNSUPPORTED };
        // SAFETY: the caller's promise.
        unsafe { put(active, u32::from(ports(scenario, gpu).len() > link as usize)) }
    })
}

/// # Safety
/// As NVML has it: `pci` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: nvmlDevice_t,
    link: c_uint,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetNvLinkRemotePciInfo_v2", device, |scenario, gpu, _| {
        let end = ports(scenario, gpu).get(link as usize).and_then(|end| scenario.gpus.get(*end));
        let Some(end) = end else { return INVALID };
        let info = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: end.bus,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: bus_id(end.bus),
        };
        // SAFETY: the caller's promise.
        unsafe { put(pci, info) }
    })
}

/// # Safety
/// As NVML has it: `value` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: nvmlDevice_t,
    link: c_uint,
    _counter: nvmlNvLinkErrorCounter_t,
    value: *mut c_ulonglong,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetNvLinkErrorCounter", device, |scenario, gpu, target| {
        let Target::Gpu(of) = target else { return UNSUPPORTED };
        if ports(scenario, gpu).len() <= link as usize {
            return INVALID;
        }
        // SAFETY: the caller's promise.
        unsafe { put(value, of.nvlink_errors) }
    })
}

/// # Safety
/// As NVML has it: `level` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    device: nvmlDevice_t,
    other: nvmlDevice_t,
    level: *mut nvmlGpuTopologyLevel_t,
) -> nvmlReturn_t {
    device_call("nvmlDeviceGetTopologyCommonAncestor", device, |scenario, one, _| {
        let two = (other as usize).wrapping_sub(1);
        let path = scenario.paths.iter().find(|p| p.between == (one, two) || p.between == (two, one));
        // SAFETY: the caller's promise.
        unsafe { put(level, path.map_or(50, |p| p.level)) }
    })
}
