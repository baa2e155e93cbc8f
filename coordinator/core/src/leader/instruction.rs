//! What the leader tells a worker. Instructions come from comparing state with what the worker last said, so any of them may
//! come twice or never; each is safe to repeat.

use crate::model::blob::BlobId;
use crate::model::checkpoint::{Part, Verdict};
use crate::model::device_event::DeviceEvent;
use crate::model::ids::{IndexRef, Token};
use crate::model::job_spec::CheckpointSpec;
use crate::model::notice::Notice;
use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instruction {
    /// Start this attempt under this token.
    Start(Box<StartOrder>),
    /// Signal, wait `grace_ms`, TERM, 2 s, KILL. Repeats change nothing.
    /// `within_ms`: everything has to be over by then, counted from the receipt; the grace is cut to fit.
    Stop { token: Token, signal: i32, grace_ms: u64, within_ms: Option<u64> },
    /// The worker holds a token that the state does not know: end it at once, report nothing.
    Kill { token: Token },
    /// The ends of these tokens are durable on a majority: forget them.
    Settled { tokens: Vec<Token> },
    /// The log knows that these run: it need not be said again.
    Heard { tokens: Vec<Token> },
    /// Events of devices up to this number are durable on a majority: forget them.
    EventsSettled { seq: u64 },
    /// What became of the checkpoint of this step that the worker said was stored.
    Checkpoint { token: Token, step: u64, verdict: Verdict },
    /// The worker's notice is durable on a majority: it need not be said again.
    NoticeHeard,
    /// Its machine is said to go, by somebody else than the worker.
    Notice(Notice),
    /// Look at these devices again and say which of them have nothing wrong.
    Probe { uuids: Vec<String> },
    /// Heartbeat `seq` was received and a quorum confirmed the leadership at or after its receipt; `term` is the leader's.
    Renewed { seq: u64, term: u64 },
    /// An exercise: say of a device that this was seen of it, as if it had been.
    Drill(DeviceEvent),
}

/// Everything an attempt needs, rendered: no template is left in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartOrder {
    pub at: IndexRef,
    pub number: u32,
    pub token: Token,
    pub term: u64,
    /// The `seq` of the worker's heartbeat from whose *sending* the first deadline counts.
    pub heartbeat: u64,
    /// Which rank of the attempt this worker runs; 0 unless it is a gang.
    pub rank: u32,
    /// By name: numbers may have shifted on a worker whose agent was started again.
    pub devices: Vec<DeviceOrder>,
    /// The rest: job and task names, command, environment, amounts, inputs, outputs. Opaque to the rules.
    pub launch: LaunchOrder,
}

/// A part of a device of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceOrder {
    pub uuid: String,
    /// 1..=1000, 1000 = all of it.
    pub milli: u16,
    /// Bytes of its memory; 0 = in proportion to `milli`.
    pub memory: u64,
}

/// What the executor reads of a start order; the rules never look inside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaunchOrder {
    pub job_name: String,
    pub task_name: String,
    pub queue: String,
    /// The index as the user wrote it (`MUSTER_INDEX`); none for a task without an array. `at.index` is its position.
    pub index: Option<u32>,
    /// `/bin/sh -c` script.
    pub shell: Option<String>,
    /// Executed as it is when `shell` is none.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cpu_milli: u64,
    pub memory: u64,
    pub disk: u64,
    /// The workdir's manifest blob.
    pub workdir: Option<BlobId>,
    pub inputs: Vec<InputOrder>,
    /// (name, path below the output directory)
    pub outputs: Vec<(String, String)>,
    pub restart_count: u32,
    /// Where it begins: the newest committed checkpoint.
    pub resume: Option<ResumeOrder>,
    pub checkpoint: CheckpointSpec,
    /// The signal that asks it to save, and its grace: what it is stopped with when its machine goes.
    pub signal: i32,
    pub grace_ms: u64,
    /// Where the other ranks are, of a gang.
    pub gang: Option<GangOrder>,
}

/// A committed checkpoint that an attempt begins from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeOrder {
    pub step: u64,
    /// Of the attempt that made it.
    pub token: Token,
    /// The rank whose part it is.
    pub rank: u32,
    pub part: Part,
}

/// What a rank has to know of its gang.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GangOrder {
    /// By rank.
    pub hosts: Vec<GangHost>,
    /// Where they meet, on the first of them.
    pub port: u16,
}

/// The machine of a rank.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GangHost {
    /// Name or address, as the others reach it.
    pub address: String,
    /// Processes that it is meant for: its GPUs, at least 1.
    pub slots: u32,
}

/// One input: the artifacts of the parent's indices. An array parent gives a directory with one subdirectory an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputOrder {
    pub name: String,
    pub from_array: bool,
    /// (index, manifest)
    pub manifests: Vec<(u32, BlobId)>,
}
