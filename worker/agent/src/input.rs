//! What reaches the agent and what it asks to be done.

use muster_core::command::Report;
use muster_core::model::artifact::Artifact;
use muster_core::model::attempt::Outcome;
use muster_core::model::checkpoint::{Saved, Verdict};
use muster_core::model::device_event::DeviceEvent;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::notice::Notice;
use serde::{Deserialize, Serialize};

pub use muster_core::leader::instruction::{InputOrder, Instruction, LaunchOrder, StartOrder};

/// An attempt as the journal keeps it over a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journaled {
    pub at: IndexRef,
    pub number: u32,
    /// Which rank of the attempt runs here; 0 unless it is a gang.
    pub rank: u32,
    pub token: Token,
    /// Known once it ended; the result stays until it is settled.
    pub result: Option<(Outcome, Vec<Artifact>, u64)>,
}

/// What reaches the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A session is open (registered with the held tokens). Heartbeats and unsettled reports start anew.
    SessionOpened,
    SessionClosed,
    /// The clock moved: heartbeats and deadlines are looked at.
    Tick,
    Instruction(Instruction),
    /// The shim started it.
    Started {
        token: Token,
    },
    /// It ended, its outputs are stored.
    Ended {
        token: Token,
        outcome: Outcome,
        artifacts: Vec<Artifact>,
        ran_ms: u64,
    },
    /// This was seen of its devices; the agent numbers it.
    DeviceEvents(Vec<DeviceEvent>),
    /// A source says that this machine goes, or stays.
    Notice(Notice),
    /// A rank's checkpoint is stored: it is to be committed.
    Saved {
        token: Token,
        saved: Saved,
    },
}

/// What the agent asks its shell to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send over the session; `seq` counts up from 1 in this agent process.
    Heartbeat {
        seq: u64,
        held: Vec<Token>,
    },
    Report(Vec<Report>),
    /// Write before anything that follows.
    Journal(Journaled),
    /// Forget in journal and on disk.
    Forget {
        token: Token,
    },
    /// Prepare and start; the shim's deadline is `deadline` (boot-time clock, ms).
    Launch {
        order: Box<StartOrder>,
        deadline: u64,
    },
    /// The new deadline of all attempts.
    Renew {
        deadline: u64,
    },
    /// `deadline`: everything has to be over by then (boot-time clock, ms); the grace fits it.
    Stop {
        token: Token,
        signal: i32,
        grace_ms: u64,
        deadline: Option<u64>,
    },
    Kill {
        token: Token,
    },
    /// Send over the session.
    DeviceEvents(Vec<DeviceEvent>),
    /// Send over the session.
    Notice(Notice),
    /// What became of a checkpoint: to be told to the task.
    Verdict {
        token: Token,
        step: u64,
        verdict: Verdict,
    },
    /// Look at these devices again; those that have nothing wrong come back as [`Input::DeviceEvents`].
    Probe {
        uuids: Vec<String>,
    },
}
