//! Why a provider did not do what was asked. No variant holds a secret.

use std::time::Duration;

/// Why a call failed. `what` names the call and the group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It cannot even be made: what the configuration names is not there or makes no sense.
    #[error("{what}: {reason}")]
    Unusable { what: String, reason: String },
    /// Too many calls: not before `after`, if the provider said when.
    #[error("{what}: the provider asks for fewer calls{}", after_text(*after))]
    Throttled { what: String, after: Option<Duration> },
    /// Its fault, or the network's: worth another try.
    #[error("{what}: {reason}")]
    Unavailable { what: String, reason: String },
    /// No answer in time.
    #[error("{what}: no answer within {seconds} s")]
    TimedOut { what: String, seconds: u64 },
    /// Who we are is not accepted, or may not do this.
    #[error("{what}: refused for its credentials: {reason}")]
    Denied { what: String, reason: String },
    /// No such group.
    #[error("{what}: there is no such group")]
    NoGroup { what: String },
    /// Understood and refused: beyond the group's own bounds, suspended, a group that is changed by another.
    #[error("{what}: refused: {reason}")]
    Refused { what: String, reason: String },
    /// An answer that makes no sense.
    #[error("{what}: an answer that is not understood: {reason}")]
    Garbled { what: String, reason: String },
}

fn after_text(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!(", the next one in {} s", after.as_secs_f64().ceil()))
}

impl DriverError {
    /// The next step, for people.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unusable { .. } => "correct the pool's driver in the configuration of the coordinators",
            Self::Throttled { .. } => {
                "it is tried again more slowly; other callers of the same account share the limit"
            }
            Self::Unavailable { .. } | Self::TimedOut { .. } => {
                "it is tried again; nothing changes until the provider answers"
            }
            Self::Denied { .. } => {
                "give the coordinators a role or key that may describe and change this group"
            }
            Self::NoGroup { .. } => "check group, region and project of the pool's driver",
            Self::Refused { .. } => {
                "compare the group's own bounds and suspended processes with the pool's min and max"
            }
            Self::Garbled { .. } => "check that the endpoint is the provider's",
        }
    }

    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. } | Self::TimedOut { .. })
    }
}
