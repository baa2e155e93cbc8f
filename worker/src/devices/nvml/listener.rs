//! The thread that waits for what the driver reports by itself: XIDs and double-bit ECC errors.

use super::board::Board;
use super::library::Library;
use super::{NvmlError, Options};
use crate::devices::EventKind;
use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError as Failure;
use nvml_wrapper::struct_wrappers::event::EventData;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// One wait, milliseconds: so long does the end of the worker take at most.
const WAIT_MS: u32 = 500;
const KINDS: EventTypes = EventTypes::CRITICAL_XID_ERROR.union(EventTypes::DOUBLE_BIT_ECC_ERROR);

/// Starts it, and waits until it listens, or until the deadline: events that come before are lost.
///
/// # Errors
/// No thread can be made.
pub fn start(
    options: &Options,
    board: &Arc<Board>,
    devices: &[crate::devices::Device],
) -> Result<(), NvmlError> {
    // A MIG instance hears of what happens to its GPU.
    let mut by_gpu: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for device in devices {
        let gpu = device.mig.as_ref().map_or(&device.uuid, |mig| &mig.parent);
        by_gpu.entry(gpu.clone()).or_default().push(device.uuid.clone());
    }
    let (ready, listens) = sync_channel(1);
    let (library, deadline, board) = (options.library.clone(), options.deadline, Arc::clone(board));
    let run = move || {
        let told = Library::open(&library).map_err(|e| e.to_string()).and_then(|library| {
            let ready = || ready.send(()).unwrap_or_default();
            listen(&library, &board, &by_gpu, ready).map_err(|e| e.to_string())
        });
        if let Err(error) = told {
            tracing::error!(error, "XID events can't be heard; devices are only read");
        }
    };
    std::thread::Builder::new().name("nvml-events".into()).spawn(run).map_err(NvmlError::Thread)?;
    // Also an end without a word is an answer: what can be read is read all the same.
    let _ = listens.recv_timeout(deadline);
    Ok(())
}

fn listen(
    library: &Library,
    board: &Board,
    by_gpu: &BTreeMap<String, Vec<String>>,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let nvml = &library.nvml;
    let mut set = nvml.create_event_set()?;
    let mut names = Names::new();
    for number in 0..nvml.device_count()? {
        // One that is dead already is left out, as in the inventory: the others are listened to all the same.
        let Ok(device) = nvml.device_by_index(number) else { continue };
        let Ok(uuid) = device.uuid() else { continue };
        names.insert(key(&device), uuid);
        // Registering a device that lacks one of the kinds fails, and loses the set with what was registered before.
        let kinds = device.supported_event_types().unwrap_or(EventTypes::empty()) & KINDS;
        if kinds.is_empty() {
            tracing::info!(number, "this GPU reports no XID events");
            continue;
        }
        set = device.register_events(kinds, set).map_err(|e| e.error)?;
    }
    ready();
    while !board.is_over() {
        match set.wait(WAIT_MS) {
            Ok(event) => hear(&event, &names, board, by_gpu),
            Err(Failure::Timeout) => {}
            // It falls off the bus: the reader says which.
            Err(Failure::GpuLost) => std::thread::sleep(std::time::Duration::from_millis(u64::from(WAIT_MS))),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// UUIDs by handle: a device that just fell off the bus does not tell its name any more.
type Names = BTreeMap<usize, String>;

fn key(device: &Device<'_>) -> usize {
    // SAFETY: the handle is compared and never used.
    unsafe { device.handle() as usize }
}

fn hear(event: &EventData<'_>, names: &Names, board: &Board, by_gpu: &BTreeMap<String, Vec<String>>) {
    let (kind, detail) = match event.event_data {
        Some(XidError::Value(code)) => {
            let code = u32::try_from(code).unwrap_or(u32::MAX);
            (EventKind::Xid(code), format!("the driver logged XID {code}"))
        }
        // NVML's word for an XID that it does not know.
        Some(XidError::Unknown) => (EventKind::Xid(999), "the driver logged an unknown XID".to_owned()),
        None if event.event_type.contains(EventTypes::DOUBLE_BIT_ECC_ERROR) => {
            (EventKind::EccUncorrected, "the driver reported a double-bit ECC error".to_owned())
        }
        None => return,
    };
    let Some(uuid) = names.get(&key(&event.device)) else { return };
    tracing::warn!(uuid, detail, "a device event");
    let uuids = by_gpu.get(uuid).into_iter().flatten().map(String::as_str);
    board.heard(uuids, &kind, &detail);
}
