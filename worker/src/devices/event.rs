//! What happens to a device, as the worker sees it.

use crate::shim::clock::wall_ms;

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub uuid: String,
    pub kind: EventKind,
    /// Milliseconds since 1970-01-01 UTC: for people.
    pub at: i64,
    /// What the driver said of it.
    pub detail: String,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The driver logged this XID.
    Xid(u32),
    /// Memory errors that ECC could not correct.
    EccUncorrected,
    /// The device answers no more, or is gone from the bus.
    LostFromBus,
    /// Too hot to go on.
    Thermal,
    /// The driver did not answer in time.
    DriverHung,
    /// An attempt ended and its device did not become free, for this reason.
    NotClean(String),
    /// The worker looked again and found nothing wrong.
    Recovered,
}

impl Event {
    /// Seen now.
    #[must_use]
    pub fn now(uuid: &str, kind: EventKind, detail: impl Into<String>) -> Self {
        let at = i64::try_from(wall_ms()).unwrap_or(i64::MAX);
        Self { uuid: uuid.to_owned(), kind, at, detail: detail.into() }
    }
}
