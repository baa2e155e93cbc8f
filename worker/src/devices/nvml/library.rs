//! The open library: the safe wrapper, and beside it the raw table for the calls that the wrapper lacks.

use super::NvmlError;
use muster_core::model::telemetry::RemappedRows;
use nvml_wrapper::error::nvml_try;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::NvmlLib;
use std::ffi::OsStr;

/// Both views of one library: the loader maps it once.
pub struct Library {
    pub nvml: Nvml,
    raw: Option<NvmlLib>,
}

impl Library {
    /// Opens and initialises it.
    ///
    /// # Errors
    /// It is not there, or the driver is not.
    pub fn open(library: &OsStr) -> Result<Self, NvmlError> {
        let failed = |source| NvmlError::Open { library: library.display().to_string(), source };
        let nvml = Nvml::builder().lib_path(library).init().map_err(failed)?;
        // SAFETY: the library was opened a line above, so this runs no initialiser again.
        let raw = unsafe { NvmlLib::new(library) }.ok();
        Ok(Self { nvml, raw })
    }

    /// Rows of memory that were replaced; none where the device or the library does not tell.
    pub fn remapped_rows(&self, device: &Device<'_>) -> Option<RemappedRows> {
        let raw = self.raw.as_ref()?;
        // A symbol that an old library lacks would panic when called.
        raw.nvmlDeviceGetRemappedRows.as_ref().ok()?;
        let (mut correctable, mut uncorrectable, mut pending, mut failed) = (0, 0, 0, 0);
        // SAFETY: the handle is a live one of this library, and all four numbers may be written.
        let code = unsafe {
            raw.nvmlDeviceGetRemappedRows(
                device.handle(),
                &raw mut correctable,
                &raw mut uncorrectable,
                &raw mut pending,
                &raw mut failed,
            )
        };
        nvml_try(code).ok()?;
        Some(RemappedRows { correctable, uncorrectable, pending: pending != 0, failed: failed != 0 })
    }

    /// Which GPU instance and which compute instance in it a MIG device is.
    pub fn mig_ids(&self, device: &Device<'_>) -> Option<(u32, u32)> {
        let raw = self.raw.as_ref()?;
        raw.nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
        raw.nvmlDeviceGetComputeInstanceId.as_ref().ok()?;
        let (mut gpu, mut compute) = (0, 0);
        // SAFETY: the handle is a live one of this library, and both numbers may be written.
        unsafe {
            nvml_try(raw.nvmlDeviceGetGpuInstanceId(device.handle(), &raw mut gpu)).ok()?;
            nvml_try(raw.nvmlDeviceGetComputeInstanceId(device.handle(), &raw mut compute)).ok()?;
        }
        Some((gpu, compute))
    }
}
