//! What reaches the leader and what it asks for.

use super::instruction::Instruction;
use crate::command::{Command, Report};
use crate::model::device_event::DeviceEvent;
use crate::model::ids::{Token, WorkerId};
use crate::model::notice::Notice;
use crate::model::worker::Incarnation;
use crate::reply::Replies;
use crate::state::Delta;

/// One open stream of a worker, as the shell counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What reaches the leader.
#[derive(Debug, Clone)]
pub enum Input {
    /// The first entry of the own term is applied; `state` is everything.
    Elected {
        term: u64,
        state: Box<Delta>,
    },
    Deposed,
    /// After every applied batch, in order.
    Delta(Box<Delta>),
    /// After the worker's `Register` was applied.
    SessionOpened {
        session: SessionId,
        worker: WorkerId,
        incarnation: Incarnation,
        held: Vec<Token>,
    },
    SessionClosed {
        session: SessionId,
    },
    Heartbeat {
        session: SessionId,
        seq: u64,
        held: Vec<Token>,
    },
    Reports {
        session: SessionId,
        reports: Vec<Report>,
    },
    /// What a worker saw of its devices; said again until it is settled.
    DeviceEvents {
        session: SessionId,
        events: Vec<DeviceEvent>,
    },
    /// A worker says that its machine goes, or stays; said again until it is heard.
    Notice {
        session: SessionId,
        notice: Notice,
    },
    /// What a worker measured: the devices on which something computes, and those on which nothing does; others cannot be judged. It never
    /// enters the log.
    Measured {
        worker: WorkerId,
        computing: Vec<String>,
        empty: Vec<String>,
    },
    /// An exercise: the worker is to say that this was seen of its device. Lost when it is not connected.
    Drill {
        worker: WorkerId,
        event: DeviceEvent,
    },
    /// A quorum confirmed (or not) the leadership after `Output::Confirm`.
    Confirmed {
        batch: u64,
        ok: bool,
    },
    /// A proposal was applied, or its fate is unknown (`replies` none).
    Proposed {
        id: u64,
        replies: Option<Replies>,
    },
    /// Nothing of a proposal is in the log, and nothing of it will be.
    Refused {
        id: u64,
    },
    /// The end of a burst of inputs, and at least every 100 ms.
    Tick,
}

/// What the leader asks of its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Propose {
        id: u64,
        commands: Vec<Command>,
    },
    Instruct {
        session: SessionId,
        instructions: Vec<Instruction>,
    },
    /// End the stream: the worker registers again.
    Close {
        session: SessionId,
    },
    /// Ask a quorum whether this member still leads; answer with `Input::Confirmed`.
    Confirm {
        batch: u64,
    },
}
