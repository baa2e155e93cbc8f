//! Reading one device: every field by itself, so that what a device does not have costs nothing but that field.

use super::inventory::Found;
use super::library::Library;
use super::topology::LINKS_MAX;
use crate::devices::Sample;
use muster_core::model::telemetry::DeviceProcess;
use nvml_wrapper::Device as Handle;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, RetirementCause, TemperatureSensor,
};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

/// What one look at a device gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub sample: Sample,
    /// It said that it is gone, or that it can't go on without a reset.
    pub lost: Option<String>,
    /// What every driver tells of every device was refused.
    pub refused: Option<String>,
    /// It slows down because it is too hot.
    pub is_hot: bool,
}

/// Reads everything of a device.
pub fn read(library: &Library, found: &Found<'_>) -> Reading {
    let (own, board) = (&found.handle, found.parent.as_ref().unwrap_or(&found.handle));
    let mut look = Look::default();
    let memory = own.memory_info();
    if let Err(error) = &memory {
        look.refused = Some(format!("memory: {error}"));
    }
    let memory_used = look.take(memory).map(|m| m.used);
    let throttle = look.take(board.current_throttle_reasons()).unwrap_or(ThrottleReasons::NONE);
    let sample = Sample {
        uuid: found.device.uuid.clone(),
        unhealthy: None,
        // Asked of the instance, not of the GPU: a number of the whole would pass for its own.
        utilization_permille: look.take(own.utilization_rates()).map(|u| u.gpu * 10),
        memory_used,
        temperature: look.take(board.temperature(TemperatureSensor::Gpu)),
        power_mw: look.take(board.power_usage()),
        power_limit_mw: look.take(board.enforced_power_limit()),
        sm_clock_mhz: look.take(board.clock_info(Clock::SM)),
        memory_clock_mhz: look.take(board.clock_info(Clock::Memory)),
        throttle: throttle.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect(),
        ecc_corrected: look.take(board.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile)),
        ecc_uncorrected: look.take(board.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)),
        retired_pages: retired(board, &mut look),
        retired_pending: look.take(board.are_pages_pending_retired()),
        remapped: library.remapped_rows(board),
        pcie_replays: look.take(board.pcie_replay_counter()),
        nvlink_errors: nvlink_errors(board, &mut look),
        processes: processes(own, &mut look),
    };
    let hot = ThrottleReasons::HW_THERMAL_SLOWDOWN;
    Reading { sample, lost: look.lost, refused: look.refused, is_hot: throttle.contains(hot) }
}

/// What the calls of one reading had in common.
#[derive(Default)]
struct Look {
    lost: Option<String>,
    refused: Option<String>,
}

impl Look {
    fn take<T>(&mut self, result: Result<T, NvmlError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => {
                self.lost = Some(error.to_string());
                None
            }
            Err(_) => None,
        }
    }
}

fn retired(board: &Handle<'_>, look: &mut Look) -> Option<u32> {
    let mut count = |cause| look.take(board.retired_pages(cause)).map(|pages| pages.len());
    let single = count(RetirementCause::MultipleSingleBitEccErrors);
    let double = count(RetirementCause::DoubleBitEccError);
    u32::try_from(single? + double?).ok()
}

fn nvlink_errors(board: &Handle<'_>, look: &mut Look) -> Option<u64> {
    let kinds =
        [ErrorCounter::DlReplay, ErrorCounter::DlRecovery, ErrorCounter::DlCrcFlit, ErrorCounter::DlCrcData];
    let mut sum = None;
    for link in (0..LINKS_MAX).map(|number| board.link_wrapper_for(number)) {
        // One without any links says so at the first.
        match look.take(link.is_active()) {
            Some(true) => {}
            Some(false) => continue,
            None => break,
        }
        for kind in &kinds {
            if let Some(count) = look.take(link.error_counter(*kind)) {
                sum = Some(sum.unwrap_or(0) + count);
            }
        }
    }
    sum
}

fn processes(own: &Handle<'_>, look: &mut Look) -> Vec<DeviceProcess> {
    let all = look.take(own.running_compute_processes()).unwrap_or_default();
    let memory = |used| match used {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    all.into_iter().map(|p| DeviceProcess { pid: p.pid, memory: memory(p.used_gpu_memory) }).collect()
}
