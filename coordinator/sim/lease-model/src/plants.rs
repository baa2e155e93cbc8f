//! Mistakes that somebody could make. The search has to find what each of them breaks, or it proves nothing.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plant {
    CountsFromAck,
    CountsFromOrder,
    GrantsEarly,
    HastyLeader,
    RenewsAlone,
    RenewsLost,
    FencesInAgent,
    StopsWithShim,
    ClockStopsInPause,
    AcceptsOldToken,
    EndsAtRegistration,
    ForgetsJournal,
    HeedsOldSession,
    NeverCounts,
}

/// The properties, by the names under which stateright reports them.
pub const ONE_LIVE: &str = "at most one attempt lives";
pub const ONE_RESULT: &str = "at most one result is accepted";
pub const ONE_START: &str = "a token is started at most once";
pub const NO_DEPOSED: &str = "a deposed leader renews nothing";
pub const SETTLED: &str = "a lease is renewed, ended or granted again";

/// Plant, name, what has to catch it, what it does.
const TABLE: &[(Plant, &str, &str, &str)] = &[
    (
        Plant::CountsFromAck,
        "counts-from-ack",
        ONE_LIVE,
        "the deadline counts from the arrival of the acknowledgement",
    ),
    (
        Plant::CountsFromOrder,
        "counts-from-order",
        ONE_LIVE,
        "the first deadline counts from the arrival of the order",
    ),
    (
        Plant::GrantsEarly,
        "grants-early",
        ONE_LIVE,
        "the leader grants again after T(1−ρ), as the worker counts",
    ),
    (Plant::HastyLeader, "hasty-leader", ONE_LIVE, "a new leader does not restart the leases"),
    (
        Plant::RenewsAlone,
        "renews-alone",
        NO_DEPOSED,
        "a leader acknowledges heartbeats without asking a quorum",
    ),
    (
        Plant::RenewsLost,
        "renews-lost",
        ONE_LIVE,
        "a leader renews and starts while the worker's loss is on its way into the log",
    ),
    (
        Plant::FencesInAgent,
        "fences-in-agent",
        ONE_LIVE,
        "the fence is in the agent: whoever stops the agent stops it",
    ),
    (
        Plant::StopsWithShim,
        "stops-with-shim",
        ONE_LIVE,
        "not a mistake of ours but a limit: somebody stops the agent and the shim, and the task runs on",
    ),
    (
        Plant::ClockStopsInPause,
        "clock-stops",
        ONE_LIVE,
        "the worker's clock does not count while the machine is paused",
    ),
    (Plant::AcceptsOldToken, "accepts-old-token", ONE_RESULT, "a result is accepted whatever its token"),
    (
        Plant::EndsAtRegistration,
        "ends-at-registration",
        ONE_LIVE,
        "the registration of another incarnation ends the attempts of the one before",
    ),
    (Plant::ForgetsJournal, "forgets-journal", ONE_START, "a token is not written down before its launch"),
    (
        Plant::HeedsOldSession,
        "heeds-old-session",
        ONE_LIVE,
        "an order that came over an earlier session is obeyed",
    ),
    (
        Plant::NeverCounts,
        "never-counts",
        SETTLED,
        "a new leader waits to hear a worker before it counts its silence",
    ),
];

impl Plant {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The property that has to fail.
    #[must_use]
    pub fn breaks(self) -> &'static str {
        self.row().2
    }

    /// What it does.
    #[must_use]
    pub fn what(self) -> &'static str {
        self.row().3
    }
}
