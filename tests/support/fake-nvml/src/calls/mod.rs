//! The calls, one file a theme. Each is exported under NVML's own name.

mod inventory;
mod links;
mod samples;
mod system;

use nvml_wrapper_sys::bindings::{
    nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as SIZE, nvmlReturn_enum_NVML_SUCCESS as SUCCESS,
    nvmlReturn_t,
};
use std::ffi::c_char;

/// Writes what the caller asked for.
///
/// # Safety
/// `at` may be written.
unsafe fn put<T>(at: *mut T, value: T) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { at.write(value) };
    SUCCESS
}

/// Writes a string with its final zero, if it fits.
///
/// # Safety
/// `at` may be written for `length` bytes.
unsafe fn put_text(at: *mut c_char, length: u32, text: &str) -> nvmlReturn_t {
    if text.len() + 1 > length as usize {
        return SIZE;
    }
    // SAFETY: it fits, and the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
        at.add(text.len()).write(0);
    }
    SUCCESS
}

/// A bus id as NVML writes it.
fn bus_id(bus: u32) -> [c_char; 32] {
    let mut id = [0; 32];
    for (to, from) in id.iter_mut().zip(format!("00000000:{bus:02X}:00.0").bytes()) {
        *to = from as c_char;
    }
    id
}
