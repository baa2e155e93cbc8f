//! Planted bugs: mistakes that somebody could make, made on purpose. A simulator that passes proves little unless it fails when it should.
//!
//! The code under test stays as it is; every mistake sits at a seam of the simulator, between the core and what the core is told, asks
//! for, or remembers. `state.rs` perverts what the log and the rows say, `leader.rs` what the leader hears and says, `worker.rs` the
//! agent, its journal and the shim, `checkpoint.rs` what any of them does about checkpoints, `scale.rs` about machines of pools.

mod checkpoint;
mod hunt;
mod leader;
mod scale;
mod state;
mod worker;

pub use hunt::Caught;
use muster_core::autoscale::GroupReport;
use muster_core::model::attempt::Attempt;
use muster_core::model::ids::{Token, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    AnswersEarly,
    ForgetsRequests,
    RetiresOpen,
    EndsTwice,
    MixesTokens,
    SettlesEarly,
    ReusesTokens,
    HeedsOldTokens,
    DeafShim,
    LongLease,
    LaunchesTwice,
    ForgetsJournal,
    RenewsAlone,
    LosesEarly,
    HeedsOldDecisions,
    EndsAtRegistration,
    SharesDevices,
    ForgetsDevices,
    ForgetsQuarantine,
    SettlesEventsEarly,
    ShiftsNumbers,
    DropsNeeds,
    StartsEarly,
    CancelLoses,
    RerunsByItself,
    RetriesMore,
    ForgetsReturned,
    SaysOnce,
    ReadsLocally,
    ReadsUnconfirmed,
    CancelsEarly,
    LosesCommits,
    OneDiffers,
    OwnClock,
    LosesRows,
    ReportsEarly,
    HastyLeader,
    WallTicks,
    ShrinksGangs,
    LosesGangs,
    TakesOneForAll,
    CommitsForeign,
    StepsGoBack,
    DropsNewest,
    ResumesOldest,
    SavesTorn,
    CommitsHalf,
    CollectsEarly,
    ForgetsNotices,
    ChargesEvictions,
    ForgetsIdle,
    EndsUndrained,
    EndsUndrainedYet,
    BelievesOldReports,
    ForgetsLeaving,
    BuysInPart,
}

/// Plant, name, the invariant that has to catch it, what it does.
const TABLE: &[(Plant, &str, &str, &str)] = &[
    (Plant::AnswersEarly, "answers-early", "I1", "a member answers a submission before it is committed"),
    (Plant::ForgetsRequests, "forgets-requests", "I1", "the state forgets which request ids it has seen"),
    (Plant::RetiresOpen, "retires-open", "I1", "retirement takes a job that has not ended"),
    (Plant::EndsTwice, "ends-twice", "I2", "the state accepts the same end twice"),
    (Plant::MixesTokens, "mixes-tokens", "I2", "an agent reports an end again under another of its tokens"),
    (Plant::SettlesEarly, "settles-early", "I2", "the leader settles a report before it is durable"),
    (Plant::ReusesTokens, "reuses-tokens", "I2", "the state forgets the last token it granted"),
    (
        Plant::HeedsOldTokens,
        "heeds-old-tokens",
        "I2",
        "the end that an old token reports is taken for the current one's",
    ),
    (Plant::DeafShim, "deaf-shim", "I3", "the shim does not kill at its deadline"),
    (Plant::LongLease, "long-lease", "I3", "the agent hands the shim a deadline 20 s too late"),
    (Plant::LaunchesTwice, "launches-twice", "I3", "the agent launches each start order twice"),
    (Plant::ForgetsJournal, "forgets-journal", "I3", "a restarted agent does not read its journal"),
    (Plant::RenewsAlone, "renews-alone", "I3", "a leader renews leases without asking a quorum"),
    (Plant::LosesEarly, "loses-early", "I3", "a leader gives a worker up when its stream breaks"),
    (
        Plant::HeedsOldDecisions,
        "heeds-old-decisions",
        "I3",
        "what a leader decided in an earlier term of its own is committed in a later one",
    ),
    (
        Plant::EndsAtRegistration,
        "ends-at-registration",
        "I3",
        "a registration of another incarnation ends at once what the one before it ran",
    ),
    (Plant::SharesDevices, "shares-devices", "I4", "every start order names a worker's first devices"),
    (Plant::ForgetsDevices, "forgets-devices", "I4", "the state forgets the devices of what it grants"),
    (
        Plant::ForgetsQuarantine,
        "forgets-quarantine",
        "I4",
        "neither the leader nor the state remembers which devices are out of service",
    ),
    (
        Plant::SettlesEventsEarly,
        "settles-events-early",
        "I4",
        "the leader settles an event of a device before it is durable",
    ),
    (
        Plant::ShiftsNumbers,
        "shifts-numbers",
        "I4",
        "a worker that registers again has its devices in another order, whatever is granted of them",
    ),
    (Plant::DropsNeeds, "drops-needs", "I5", "the log holds a job without the needs of its last task"),
    (Plant::StartsEarly, "starts-early", "I5", "the leader orders a waiting task to start beside its parent"),
    (Plant::CancelLoses, "cancel-loses", "I10", "a success that comes after a cancel is accepted"),
    (Plant::RerunsByItself, "reruns-by-itself", "I10", "a member reruns jobs that nobody asked to rerun"),
    (
        Plant::RetriesMore,
        "retries-more",
        "I11",
        "the log holds a job with three more attempts than submitted",
    ),
    (Plant::ForgetsReturned, "forgets-returned", "I11", "the leader does not hear what may be placed again"),
    (
        Plant::SaysOnce,
        "says-once",
        "I11",
        "an agent says once that something runs, whether it is heard or not",
    ),
    (Plant::ReadsLocally, "reads-locally", "I14", "a member answers a read from what it has applied so far"),
    (
        Plant::ReadsUnconfirmed,
        "reads-unconfirmed",
        "I14",
        "a leader gives out its read index without asking a majority whether it leads",
    ),
    (Plant::CancelsEarly, "cancels-early", "I14", "a member answers a cancel before it is committed"),
    (
        Plant::LosesCommits,
        "loses-commits",
        "I15",
        "a new leader lacks the last entries that were acknowledged",
    ),
    (Plant::OneDiffers, "one-differs", "I15", "one member applies submissions with another priority"),
    (Plant::OwnClock, "own-clock", "I15", "one member applies entries at its own clock"),
    (Plant::LosesRows, "loses-rows", "I15", "members do not write the rows of requests to disk"),
    (Plant::ReportsEarly, "reports-early", "I19", "the shim reports an end while the cgroup is not empty"),
    (Plant::HastyLeader, "hasty-leader", "I20", "the leader's clock is a minute ahead of the log's"),
    (Plant::WallTicks, "wall-ticks", "I20", "the log's ticks are taken from the wall clock"),
    (Plant::ShrinksGangs, "shrinks-gangs", "I9", "the log holds a job whose gangs may run on one worker"),
    (Plant::LosesGangs, "loses-gangs", "I9", "the failure of one rank ends the whole gang at once"),
    (Plant::TakesOneForAll, "takes-one-for-all", "I9", "the success of one rank is taken for that of all"),
    (
        Plant::CommitsForeign,
        "commits-foreign",
        "I8",
        "a checkpoint that an old token has stored is committed for the current one",
    ),
    (
        Plant::StepsGoBack,
        "steps-go-back",
        "I7",
        "neither the leader nor the state remembers which step an attempt has come to",
    ),
    (Plant::DropsNewest, "drops-newest", "I7", "of too many checkpoints the newest is not kept"),
    (
        Plant::ResumesOldest,
        "resumes-oldest",
        "I7",
        "an attempt is ordered to begin from the oldest checkpoint",
    ),
    (Plant::SavesTorn, "saves-torn", "I8", "a worker says that a checkpoint is stored before it is"),
    (Plant::CommitsHalf, "commits-half", "I8", "the checkpoint of one rank is taken for that of all"),
    (
        Plant::CollectsEarly,
        "collects-early",
        "I7",
        "a worker removes the older checkpoints once a newer one is stored, committed or not",
    ),
    (
        Plant::ForgetsNotices,
        "forgets-notices",
        "I11",
        "neither the leader nor the state remembers which machines go",
    ),
    (
        Plant::ChargesEvictions,
        "charges-evictions",
        "I11",
        "how an attempt ends that a notice evicts is taken for its own failure",
    ),
    (
        Plant::ForgetsIdle,
        "forgets-idle",
        "I21",
        "what nobody had of a worker until something ended there is not booked",
    ),
    (
        Plant::EndsUndrained,
        "ends-undrained",
        "I13",
        "the leader orders the end of a machine although its worker was told that it stays",
    ),
    (
        Plant::EndsUndrainedYet,
        "ends-undrained-yet",
        "I13",
        "the leader orders the end of a machine when it decides it, before its worker is drained",
    ),
    (
        Plant::BelievesOldReports,
        "believes-old-reports",
        "I13",
        "while a provider says nothing, what it said last is taken for what it says",
    ),
    (
        Plant::ForgetsLeaving,
        "forgets-leaving",
        "I13",
        "neither the leader nor the state remembers which workers leave",
    ),
    (
        Plant::BuysInPart,
        "buys-in-part",
        "I13",
        "the log holds one machine less than a growing pool is to have",
    ),
];

impl Plant {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The plant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The invariant that has to catch it.
    #[must_use]
    pub fn invariant(self) -> &'static str {
        self.row().2
    }

    /// What it does.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        &TABLE[self as usize]
    }
}

/// The plant of a run, and what it has to remember for its mischief.
#[derive(Default)]
pub struct Planted {
    which: Option<Plant>,
    attempts: BTreeMap<Token, Attempt>,
    made_up: u64,
    /// What each pool's provider said last.
    pub(crate) last_reports: BTreeMap<String, GroupReport>,
    /// Workers that were once to leave.
    leavers: BTreeSet<WorkerId>,
}

impl Planted {
    pub(crate) fn new(which: Option<Plant>) -> Self {
        Self { which, ..Self::default() }
    }

    pub(crate) fn is(&self, plant: Plant) -> bool {
        self.which == Some(plant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_plants_and_names_are_unique() {
        for (n, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, n, "{}", row.1);
            assert_eq!(Plant::named(row.1), Some(row.0));
        }
    }
}
