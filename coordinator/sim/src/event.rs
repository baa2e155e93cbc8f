//! Everything that can be due in the world, and on whom it waits while that one is stopped.

use crate::cloud::{Errand, Told};
use crate::faults::Fault;
use crate::register::JobAnswer;
use crate::saver::Upload;
use muster_core::command::{Command, Report};
use muster_core::leader::instruction::Instruction;
use muster_core::model::device_event::DeviceEvent;
use muster_core::model::ids::Token;
use muster_core::model::notice::Notice as Preemption;
use muster_core::reply::{Replies, Reply};

/// What a worker says over its session.
#[derive(Debug, Clone)]
pub enum Up {
    Heartbeat {
        seq: u64,
        held: Vec<Token>,
    },
    Reports(Vec<Report>),
    DeviceEvents(Vec<DeviceEvent>),
    /// Its machine goes, or stays.
    Preemption(Preemption),
}

/// What an agent's shell learns from the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    Started,
    Ended,
}

/// Something that is due. Numbers called `term`, `agent` and `boot` say for whom it was meant: a later one does not hear it.
#[derive(Debug, Clone)]
pub enum Event {
    // The log.
    CommitDue {
        member: usize,
        term: u64,
    },
    CatchUp {
        member: usize,
    },
    ElectionDue,
    Depose {
        member: usize,
        term: u64,
    },
    /// What the leader of `term` decided reaches the log, after what waited before it.
    Offered {
        member: usize,
        life: u32,
        term: u64,
        id: u64,
        commands: Vec<Command>,
    },
    // A leader's thread.
    Burst {
        member: usize,
        term: u64,
    },
    Timer {
        member: usize,
        term: u64,
    },
    QuorumAsked {
        member: usize,
        term: u64,
        batch: u64,
    },
    Confirmed {
        member: usize,
        term: u64,
        batch: u64,
        ok: bool,
    },
    Answered {
        member: usize,
        term: u64,
        id: u64,
        replies: Option<Replies>,
    },
    // Sessions.
    Connect {
        worker: usize,
        agent: u32,
    },
    Register {
        session: u64,
        via: usize,
    },
    Opened {
        session: u64,
    },
    Silence {
        session: u64,
    },
    Up {
        session: u64,
        up: Up,
    },
    Down {
        session: u64,
        instructions: Vec<Instruction>,
    },
    ClosedAtLeader {
        session: u64,
    },
    ClosedAtWorker {
        session: u64,
    },
    // Workers.
    Wake {
        worker: usize,
        agent: u32,
    },
    Prepared {
        worker: usize,
        agent: u32,
        token: Token,
    },
    Noticed {
        worker: usize,
        agent: u32,
        token: Token,
        notice: Notice,
    },
    ProcessEnds {
        worker: usize,
        boot: u32,
        token: Token,
        killed: bool,
    },
    Gone {
        worker: usize,
        boot: u32,
        token: Token,
    },
    Fence {
        worker: usize,
        boot: u32,
        token: Token,
    },
    // Checkpoints.
    SaveDue {
        worker: usize,
        boot: u32,
        token: Token,
    },
    Stored {
        worker: usize,
        agent: u32,
        upload: Upload,
        whole: bool,
    },
    Decay {
        number: u64,
    },
    // Clients.
    Ask {
        op: usize,
    },
    Call {
        op: usize,
        via: usize,
    },
    Answer {
        op: usize,
        reply: Reply,
    },
    Impatient {
        op: usize,
        tries: u32,
    },
    // People who look.
    Look {
        read: usize,
    },
    LookAt {
        read: usize,
        via: usize,
    },
    IndexAsked {
        read: usize,
        via: usize,
        leader: usize,
    },
    IndexConfirmed {
        read: usize,
        via: usize,
        leader: usize,
        term: u64,
        index: u64,
    },
    Serve {
        read: usize,
        via: usize,
        index: u64,
    },
    Seen {
        read: usize,
        answer: JobAnswer,
    },
    // The provider of the pools.
    CloudMoves,
    Configured {
        member: usize,
        number: usize,
    },
    GroupAsked {
        member: usize,
        term: u64,
        pool: String,
        goes_on: bool,
    },
    GroupTold {
        member: usize,
        term: u64,
        pool: String,
        told: Told,
    },
    OrderDue(Box<Errand>),
    // Operators.
    Retire,
    Roll {
        step: usize,
    },
    // Faults.
    NextFault,
    Break(Fault),
    Mend(Fault),
    ReleaseHeld,
}

/// Whom an event waits for while that one is stopped (SIGSTOP): it happens all the same, later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Member(usize),
    Agent(usize),
    Nobody,
}

impl Event {
    /// A short name and two numbers, for the trace.
    #[must_use]
    pub fn digest(&self) -> (&'static str, u64, u64) {
        match self {
            Self::CommitDue { member, term } => ("commit", *member as u64, *term),
            Self::CatchUp { member } => ("catch-up", *member as u64, 0),
            Self::ElectionDue => ("election", 0, 0),
            Self::Depose { member, term } => ("depose", *member as u64, *term),
            Self::Offered { member, id, .. } => ("offered", *member as u64, *id),
            Self::Burst { member, term } => ("burst", *member as u64, *term),
            Self::Timer { member, term } => ("timer", *member as u64, *term),
            Self::QuorumAsked { member, batch, .. } => ("quorum", *member as u64, *batch),
            Self::Confirmed { member, batch, ok, .. } => {
                ("confirmed", *member as u64, batch * 2 + u64::from(*ok))
            }
            Self::Answered { member, id, replies, .. } => {
                ("answered", *member as u64, id * 2 + u64::from(replies.is_some()))
            }
            Self::Connect { worker, agent } => ("connect", *worker as u64, u64::from(*agent)),
            Self::Register { session, via } => ("register", *session, *via as u64),
            Self::Opened { session } => ("opened", *session, 0),
            Self::Silence { session } => ("silence", *session, 0),
            Self::Up { session, up: Up::Heartbeat { seq, held } } => {
                ("heartbeat", *session, seq * 1000 + held.len() as u64)
            }
            Self::Up { session, up: Up::Reports(reports) } => {
                ("reports", *session, reports.iter().map(|r| r.token.0).sum())
            }
            Self::Up { session, up: Up::DeviceEvents(events) } => {
                ("device-events", *session, events.iter().map(|e| e.seq).sum())
            }
            Self::Up { session, up: Up::Preemption(notice) } => {
                ("preemption", *session, notice.in_ms.unwrap_or(u64::MAX))
            }
            Self::Down { session, instructions } => ("down", *session, instructions.len() as u64),
            Self::ClosedAtLeader { session } => ("closed-l", *session, 0),
            Self::ClosedAtWorker { session } => ("closed-w", *session, 0),
            Self::Wake { worker, agent } => ("wake", *worker as u64, u64::from(*agent)),
            Self::Prepared { worker, token, .. } => ("prepared", *worker as u64, token.0),
            Self::Noticed { worker, token, notice, .. } => {
                ("noticed", *worker as u64, token.0 * 2 + u64::from(*notice == Notice::Ended))
            }
            Self::ProcessEnds { worker, token, killed, .. } => {
                ("ends", *worker as u64, token.0 * 2 + u64::from(*killed))
            }
            Self::Gone { worker, token, .. } => ("gone", *worker as u64, token.0),
            Self::Fence { worker, token, .. } => ("fence", *worker as u64, token.0),
            Self::SaveDue { worker, token, .. } => ("save", *worker as u64, token.0),
            Self::Stored { worker, whole, .. } => ("stored", *worker as u64, u64::from(*whole)),
            Self::Decay { number } => ("decay", *number, 0),
            Self::Ask { op } => ("ask", *op as u64, 0),
            Self::Call { op, via } => ("call", *op as u64, *via as u64),
            Self::Answer { op, .. } => ("answer", *op as u64, 0),
            Self::Impatient { op, tries } => ("impatient", *op as u64, u64::from(*tries)),
            Self::Look { read } => ("look", *read as u64, 0),
            Self::LookAt { read, via } => ("look-at", *read as u64, *via as u64),
            Self::IndexAsked { read, leader, .. } => ("index-asked", *read as u64, *leader as u64),
            Self::IndexConfirmed { read, index, .. } => ("index", *read as u64, *index),
            Self::Serve { read, via, .. } => ("serve", *read as u64, *via as u64),
            Self::Seen { read, .. } => ("seen", *read as u64, 0),
            Self::CloudMoves => ("cloud", 0, 0),
            Self::Configured { member, number } => ("configured", *member as u64, *number as u64),
            Self::GroupAsked { member, term, .. } => ("group-asked", *member as u64, *term),
            Self::GroupTold { member, term, told, .. } => {
                ("group-told", *member as u64, term * 2 + u64::from(matches!(told, Told::Trouble)))
            }
            Self::OrderDue(errand) => ("order", errand.member as u64, errand.given),
            Self::Retire => ("retire", 0, 0),
            Self::Roll { step } => ("roll", *step as u64, 0),
            Self::NextFault => ("next-fault", 0, 0),
            Self::Break(fault) => ("break", fault.number(), 0),
            Self::Mend(fault) => ("mend", fault.number(), 0),
            Self::ReleaseHeld => ("release-held", 0, 0),
        }
    }
}
