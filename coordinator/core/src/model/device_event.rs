//! What happens to a device, as its worker reports it, and what the leader makes of it. Left out: which code means what (`health`).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text that is kept of a report, bytes.
pub const DETAIL_MAX: usize = 200;

/// One thing that a worker saw of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEvent {
    /// Counts up over the life of the worker's incarnation; 0 until the agent has numbered it. What was heard already changes nothing.
    pub seq: u64,
    pub uuid: String,
    pub kind: DeviceEventKind,
    /// When the worker saw it, milliseconds since 1970-01-01 UTC: for people.
    pub at: i64,
    /// What the driver said of it, at most [`DETAIL_MAX`] bytes.
    pub detail: String,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceEventKind {
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

impl DeviceEventKind {
    /// What is wrong with the device then; none for a recovery.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Xid(code) => Fault::Xid(*code),
            Self::EccUncorrected => Fault::EccUncorrected,
            Self::LostFromBus => Fault::LostFromBus,
            Self::Thermal => Fault::Thermal,
            Self::DriverHung => Fault::DriverHung,
            Self::NotClean(_) => Fault::NotClean,
            Self::Recovered => return None,
        })
    }
}

/// Why a device is out of service, in a word. It is what stands between the brackets of the cause `device(…)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    Xid(u32),
    EccUncorrected,
    LostFromBus,
    Thermal,
    DriverHung,
    NotClean,
    /// Somebody took it out.
    Operator,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xid(code) => return write!(f, "{code}"),
            Self::EccUncorrected => "ecc_uncorrected",
            Self::LostFromBus => "lost_from_bus",
            Self::Thermal => "thermal",
            Self::DriverHung => "driver_hung",
            Self::NotClean => "not_clean",
            Self::Operator => "operator",
        })
    }
}

/// Who ends a quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returns {
    /// Only an operator: it needs a reset, a reboot or a replacement.
    Operator,
    /// Also the worker, once it has looked again and found nothing wrong.
    Probe,
}

/// What is to be done about an event: the leader's judgement by its policy, so that apply needs none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It goes into the device's history and nothing else happens.
    Note,
    /// The device is out of service, and what holds it is evicted.
    Quarantine { fault: Fault, returns: Returns },
    /// The worker found nothing wrong.
    Recover,
}

/// An event and its verdict: what goes into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub event: DeviceEvent,
    pub verdict: Verdict,
    /// A sentence for people, e.g. `XID 79: the GPU has fallen off the bus`.
    pub text: String,
}

/// `text` cut to [`DETAIL_MAX`] bytes at a character.
#[must_use]
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(DETAIL_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        let long = "é".repeat(DETAIL_MAX);
        assert_eq!(cut(&long).len(), DETAIL_MAX);
        assert_eq!(cut("short"), "short");
        let odd = format!("x{}", "é".repeat(DETAIL_MAX));
        assert_eq!(cut(&odd).len(), DETAIL_MAX - 1);
    }
}
