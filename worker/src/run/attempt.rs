//! What the shell knows of an attempt: on disk what a restarted agent needs, in memory where it stands.
//!
//! ```text
//! preparing → launched → finishing → over        (journal: started … finished … acknowledged)
//! ```

use super::vacate::HeldDevice;
use crate::checkpoint::{Saver, Savers, Whose};
use crate::executor::{Dirs, Exit, ExitStatus};
use crate::logs_upload::AttemptLogs;
use muster_agent::{Journaled, StartOrder};
use muster_core::model::artifact::Artifact;
use muster_core::model::attempt::Outcome;
use muster_core::model::ids::{IndexRef, Token};
use muster_core::model::job_spec::CheckpointSpec;
use muster_core::model::lease::KILL_BEFORE_MS;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What an attempt's end is: how, with which outputs, after how many milliseconds.
pub type Result3 = (Outcome, Vec<Artifact>, u64);

/// The journal's record of an attempt, written before its launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub at: IndexRef,
    pub number: u32,
    pub rank: u32,
    /// (name, path below the output directory)
    pub outputs: Vec<(String, String)>,
    /// Its real devices, which have to be free before its end is told.
    pub devices: Vec<HeldDevice>,
    /// How its progress is saved, and the signal that asks it to.
    pub checkpoint: CheckpointSpec,
    pub signal: i32,
    /// The step that it began from.
    pub resumed: Option<u64>,
}

impl Kept {
    /// Of an attempt about to be launched, or, without an order, of one that never will be.
    pub fn new(journaled: &Journaled, order: Option<&StartOrder>, devices: Vec<HeldDevice>) -> Self {
        let Journaled { at, number, rank, .. } = *journaled;
        let launch = order.map(|order| &order.launch);
        Self {
            at,
            number,
            rank,
            outputs: launch.map_or_else(Vec::new, |launch| launch.outputs.clone()),
            devices,
            checkpoint: launch.map(|launch| launch.checkpoint.clone()).unwrap_or_default(),
            signal: launch.map_or(0, |launch| launch.signal),
            resumed: launch.and_then(|launch| launch.resume.as_ref()).map(|resume| resume.step),
        }
    }

    /// As the agent reads it after a restart.
    pub fn journaled(&self, token: u64, result: Option<Result3>) -> Journaled {
        Journaled { at: self.at, number: self.number, rank: self.rank, token: Token(token), result }
    }
}

/// One attempt in memory.
#[derive(Debug)]
pub struct Local {
    pub kept: Kept,
    pub phase: Phase,
    pub logs: Arc<AttemptLogs>,
    /// Cancelled when its logs are complete.
    pub ended: CancellationToken,
    /// Boot time (ms) of its start, once known.
    pub started: Option<u64>,
    /// Commits its checkpoints.
    pub saver: Arc<Saver>,
    /// Boot time (ms) when it was asked to save last.
    pub asked: Option<u64>,
    /// Boot time (ms) when everything of it is over, once it is asked to stop.
    pub deadline: Option<u64>,
}

/// Where it stands.
#[derive(Debug)]
pub enum Phase {
    /// Its files are being fetched. `stop`: the signal it would have got.
    Preparing {
        deadline: u64,
        cancel: CancellationToken,
        stop: Option<i32>,
    },
    /// The shim has it.
    Launched,
    /// It ended; its outputs and logs are being stored.
    Finishing,
    Over,
}

impl Local {
    pub fn new(kept: Kept, token: u64, phase: Phase, dirs: &Dirs, log_cap: u64, savers: &Savers) -> Self {
        let dirs = dirs.of(token);
        let logs = Arc::new(AttemptLogs::new(kept.at, kept.number, kept.rank, &dirs, log_cap));
        let saver = savers.add(Whose {
            at: kept.at,
            attempt: kept.number,
            token: Token(token),
            rank: kept.rank,
            spec: kept.checkpoint.clone(),
            resumed: kept.resumed,
            root: dirs.root,
            dir: dirs.ckpt,
        });
        Self {
            kept,
            phase,
            logs,
            ended: CancellationToken::new(),
            started: None,
            saver,
            asked: None,
            deadline: None,
        }
    }
}

/// What becomes of an attempt whose files are there, or failed to come. `stop`: the signal it would have got meanwhile; `deadline`: its
/// lease's (boot time, ms). Nothing is launched that was to be stopped, or that could not run until its lease is renewed.
///
/// # Errors
/// How it ends instead.
pub fn fate<T>(
    prepared: Result<T, Outcome>,
    stop: Option<i32>,
    deadline: u64,
    now: u64,
) -> Result<T, Outcome> {
    match (prepared, stop) {
        (_, Some(signal)) => Err(Outcome::Signal(signal)),
        (Ok(_), None) if now + KILL_BEFORE_MS >= deadline => Err(Outcome::Fenced),
        (prepared, None) => prepared,
    }
}

/// How the process ended, in the coordinator's words. `stopping`: the worker is ending its tasks to end itself, which is not their fault.
pub fn outcome(exit: &Exit, stopping: bool) -> Outcome {
    match exit.status {
        _ if exit.fenced => Outcome::Fenced,
        ExitStatus::Code(0) => Outcome::Exit(0),
        _ if stopping => Outcome::Fenced,
        _ if exit.oom => Outcome::Oom,
        ExitStatus::Code(code) => Outcome::Exit(code),
        ExitStatus::Signal(signal) => Outcome::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: ExitStatus) -> Exit {
        Exit {
            token: 1,
            status,
            oom: false,
            fenced: false,
            stopped: false,
            started_boot_ms: 0,
            ended_boot_ms: 0,
            started_wall_ms: 0,
            ended_wall_ms: 0,
            max_rss_bytes: 0,
            cpu_usec: 0,
        }
    }

    #[test]
    fn how_it_ended_is_said_in_the_coordinators_words() {
        let (ok, failed, killed) =
            (exit(ExitStatus::Code(0)), exit(ExitStatus::Code(3)), exit(ExitStatus::Signal(9)));
        let fenced = Exit { fenced: true, ..killed.clone() };
        let oom = Exit { oom: true, ..killed.clone() };
        for (exit, stopping, expected) in [
            (&ok, false, Outcome::Exit(0)),
            (&ok, true, Outcome::Exit(0)),
            (&failed, false, Outcome::Exit(3)),
            (&failed, true, Outcome::Fenced),
            (&killed, false, Outcome::Signal(9)),
            (&fenced, false, Outcome::Fenced),
            (&oom, false, Outcome::Oom),
        ] {
            assert_eq!(outcome(exit, stopping), expected, "{exit:?} {stopping}");
        }
    }

    /// It may be prepared by the time that the kill comes: its launch is on the way then, and has to be stopped all the same.
    #[test]
    fn what_was_killed_while_it_was_prepared_is_never_launched() {
        let failed = || Err(Outcome::Launch("no workdir".into()));
        let soon = 1_000 + KILL_BEFORE_MS;
        for (prepared, stop, deadline, expected) in [
            (Ok("launch"), None, soon + 1, Ok("launch")),
            (Ok("launch"), None, soon, Err(Outcome::Fenced)),
            (Ok("launch"), Some(libc::SIGKILL), soon + 1, Err(Outcome::Signal(libc::SIGKILL))),
            (Ok("launch"), Some(libc::SIGTERM), soon, Err(Outcome::Signal(libc::SIGTERM))),
            (Err(Outcome::Fenced), Some(libc::SIGKILL), soon + 1, Err(Outcome::Signal(libc::SIGKILL))),
            (failed(), None, soon, failed()),
        ] {
            let what = format!("{prepared:?} {stop:?} {deadline}");
            assert_eq!(fate(prepared, stop, deadline, 1_000), expected, "{what}");
        }
    }
}
