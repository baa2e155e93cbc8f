//! The eight classes of time (SPEC section 10): every thousandth of a device is in exactly one of them at any moment.

use serde::{Deserialize, Serialize};

/// What a part of a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// A task computes on it.
    Useful = 0,
    /// Nobody has it.
    Idle = 1,
    /// A task that runs has it, and nothing computes on it.
    HeldEmpty = 2,
    /// A rank of a gang has it, and waits for other ranks to start or to end.
    WaitingForPeers = 3,
    /// A first attempt is on its way to run.
    Starting = 4,
    /// A later attempt is, or one that begins from a checkpoint.
    Restarting = 5,
    /// What was computed on it is gone: the attempt ended without success and had not saved it.
    Lost = 6,
    /// It is out of service, and nobody has it.
    Unhealthy = 7,
}

impl Class {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Useful,
        Self::Idle,
        Self::HeldEmpty,
        Self::WaitingForPeers,
        Self::Starting,
        Self::Restarting,
        Self::Lost,
        Self::Unhealthy,
    ];

    /// The word in documents and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Useful => "useful",
            Self::Idle => "idle",
            Self::HeldEmpty => "held_empty",
            Self::WaitingForPeers => "waiting_for_peers",
            Self::Starting => "starting",
            Self::Restarting => "restarting",
            Self::Lost => "lost",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_the_order_of_their_numbers() {
        for (number, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number, "{}", class.as_str());
        }
    }
}
