//! What happens to a device, as the worker sees it. The agent numbers it.

use crate::shim::clock::wall_ms;
pub use muster_core::model::device_event::{DeviceEvent as Event, DeviceEventKind as EventKind};

/// Seen now.
#[must_use]
pub fn seen(uuid: &str, kind: EventKind, detail: impl Into<String>) -> Event {
    let at = i64::try_from(wall_ms()).unwrap_or(i64::MAX);
    Event { seq: 0, uuid: uuid.to_owned(), kind, at, detail: detail.into() }
}
