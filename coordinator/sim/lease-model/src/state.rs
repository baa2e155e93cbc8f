//! What there is at one instant.

/// Real time, milliseconds.
pub type Ms = u64;

/// Who has the task, as the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Token 1, worker 1.
    First,
    /// Token 2, worker 2: it lives from the moment of the grant.
    Second,
    /// A result was accepted.
    Done,
}

/// What the log says, and who may write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    /// The term to which a quorum belongs: 1 or 2.
    pub term: u8,
    pub owner: Owner,
    /// The registered incarnation of worker 1.
    pub incarnation: u8,
    /// Token 1 was granted to an older incarnation than the registered one: it is never ordered again.
    pub former: bool,
    /// Results accepted: one is right.
    pub accepted: u8,
    /// Proposed and not yet committed.
    pub pending: Option<Pending>,
}

/// How the leader gives token 1 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pending {
    /// The worker was silent: all it had is lost, if this is still its incarnation.
    Lose { incarnation: u8 },
    /// The worker denies what an older incarnation of it had: that attempt alone ends.
    End,
}

/// The leader of the log's term. One that was deposed and does not know it can do nothing but acknowledge, and may not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Receipt of the last acknowledged heartbeat, or the election.
    pub heard: Option<Ms>,
    /// When the incarnation before the registered one was heard last, or the election.
    pub former: Ms,
    /// Since when token 1 counts as denied.
    pub missing: Option<Ms>,
}

/// To the leader at the other end of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    pub sent: Ms,
    /// It names token 1.
    pub holds: bool,
}

/// To the agent, over the session that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Renewed {
    pub sent: Ms,
    pub term: u8,
    /// For the properties alone: the leader that says so had been deposed before.
    pub deposed: bool,
}

/// The order to start token 1, under the heartbeat from whose sending its first deadline counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Start {
    pub heartbeat: Ms,
    pub term: u8,
}

/// Whether a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runs {
    Yes,
    /// SIGSTOP.
    Stopped,
    /// Killed; the next one finds the journal.
    Dead,
    /// The whole machine is gone for good.
    Gone,
}

/// How token 1's attempt ended. Either is said only once its processes are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    Well,
    /// By the shim, at the deadline.
    Fenced,
}

/// Worker 1: agent, shim and task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Since when all of it is paused.
    pub paused: Option<Ms>,
    pub agent: Runs,
    pub incarnation: u8,
    /// The term of the leader at the other end of its session, the highest it has seen; 0 without a session.
    pub session: u8,
    /// Token 1 is in the journal.
    pub journaled: bool,
    /// The attempt lives, until this at the latest: the shim's deadline.
    pub task: Option<Ms>,
    /// The machine resumed after that deadline: the shim's timer fires within a tick.
    pub late: bool,
    /// How it ended; in the journal, and repeated until it is settled.
    pub end: Option<End>,
    /// How often token 1 was started.
    pub started: u8,
}

/// Everything. Of each message the newest is on its way, for as long as it likes; what it pushes out is lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Ms,
    /// Percent of real time at which the clocks of the leaders and of worker 1 run. A duration is measured on one clock, so one rate for
    /// both leaders is enough.
    pub rates: (u8, u8),
    pub log: Log,
    pub leader: Leader,
    pub machine: Machine,
    pub heartbeat: Option<Heartbeat>,
    pub renewed: Option<Renewed>,
    pub start: Option<Start>,
    /// A registration that a dead incarnation of worker 1 had sent is still on its way.
    pub stale_register: bool,
    /// Faults that may still happen.
    pub faults: u8,
    /// What happened, for the properties alone.
    pub seen: Seen,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub deposed_renewal: bool,
    /// After the last fault: renewed, ended or granted again.
    pub settled: bool,
    pub renewed_by_second: bool,
    pub refused: bool,
}

impl World {
    /// Worker 1 is registered, token 1 is granted to it and not yet ordered, the leader of term 1 counts from now.
    #[must_use]
    pub fn new(rates: (u8, u8), faults: u8) -> Self {
        let log =
            Log { term: 1, owner: Owner::First, incarnation: 1, former: false, accepted: 0, pending: None };
        let machine = Machine {
            paused: None,
            agent: Runs::Yes,
            incarnation: 1,
            session: 1,
            journaled: false,
            task: None,
            late: false,
            end: None,
            started: 0,
        };
        Self {
            now: 0,
            rates,
            log,
            leader: Leader { heard: Some(0), former: 0, missing: None },
            machine,
            heartbeat: Some(Heartbeat { sent: 0, holds: false }),
            renewed: None,
            start: None,
            stale_register: true,
            faults,
            seen: Seen::default(),
        }
    }

    /// The agent can do something.
    #[must_use]
    pub fn agent_runs(&self) -> bool {
        self.machine.paused.is_none() && self.machine.agent == Runs::Yes
    }

    /// Token 1's processes run at this instant.
    #[must_use]
    pub fn first_lives(&self) -> bool {
        self.machine.paused.is_none() && self.machine.task.is_some()
    }

    #[must_use]
    pub fn second_lives(&self) -> bool {
        self.log.owner == Owner::Second
    }

    /// Nothing that is still to come can matter.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let first =
            self.machine.task.is_some() || self.start.is_some() || self.machine.end == Some(End::Well);
        self.log.owner != Owner::First && !first || self.seen.refused
    }
}
