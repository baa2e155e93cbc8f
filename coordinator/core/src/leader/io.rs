//! What reaches the leader and what it asks for.

use super::instruction::Instruction;
use crate::autoscale::{Decision, GroupReport, Order};
use crate::command::{Command, Report};
use crate::model::device_event::DeviceEvent;
use crate::model::fleet::Fleet;
use crate::model::ids::{Token, WorkerId};
use crate::model::notice::Notice;
use crate::model::time::Tick;
use crate::model::worker::Incarnation;
use crate::reply::Replies;
use crate::state::Delta;
use std::collections::BTreeMap;

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
    /// The pools as this member is configured; every leader writes its own into the log.
    Fleet(Box<Fleet>),
    /// What a provider says of the group of a pool.
    Group {
        pool: String,
        report: GroupReport,
    },
    /// The provider of a pool takes orders and says nothing: what was ordered counts as what it has.
    Unseen {
        pool: String,
    },
    /// A provider refused or failed: nothing is asked of it for so long. What it said before is still known.
    Trouble {
        pool: String,
        reason: String,
        for_ms: u64,
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
    /// What is wanted of every pool: reckoned once a second while there are pools.
    Signals(Box<Signals>),
    /// An order to the provider of a pool. `generation`: index of the entry of the log behind it.
    Drive {
        pool: String,
        generation: u64,
        order: Order,
    },
}

/// What is wanted of every pool, in this term.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signals {
    pub term: u64,
    /// Grows whenever anything but the time has changed.
    pub version: u64,
    pub tick: Tick,
    pub fleet: Fleet,
    pub decision: Decision,
    /// How used each pool is, by name.
    pub uses: BTreeMap<String, PoolUse>,
}

/// What of a pool's usable workers is granted, and what they have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolUse {
    pub gpu_milli: u64,
    pub gpu_milli_granted: u64,
    pub cpu_milli: u64,
    pub cpu_milli_granted: u64,
    /// Workers by state, in words.
    pub workers: BTreeMap<&'static str, u32>,
}
