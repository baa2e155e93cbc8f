//! Checkpoints, as far as they are the hands' own: the deadline file, requests to save, and what an end waits for.

use super::Hands;
use crate::checkpoint::deadline;
use crate::executor::{AttemptDirs, Exit, ExitStatus};
use crate::run::attempt::{Local, Phase};
use crate::shim::clock::boot_ms;
use muster_core::model::attempt::{EXIT_SAVED, TERM_TO_KILL_MS};
use std::time::Duration;

/// How long the end of an attempt waits for a commit that is under way.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// From here on a shell says with its exit code that a signal ended what it ran.
const EXIT_SIGNAL: i32 = 128;

/// Before the signal: a task that hears it finds when it will be over. A repeated order moves nothing back.
pub(super) fn tell_deadline(local: &mut Local, dirs: &AttemptDirs, grace_ms: u64, deadline: Option<u64>) {
    let file = dirs.deadline_file();
    // An earlier agent may have told it.
    let is_told = local.deadline.is_some() || file.exists();
    let at = match deadline {
        None if is_told => return,
        None => boot_ms() + grace_ms + TERM_TO_KILL_MS,
        Some(at) if local.deadline.is_some_and(|told| told <= at) => return,
        Some(at) => at,
    };
    local.deadline = Some(at);
    if let Err(error) = deadline::write(&file, at) {
        tracing::warn!(file = %file.display(), %error, "the deadline of a task was not written");
    }
}

/// What its end waits for: commits under way, and the last watched directory.
pub(super) fn last_of(local: &Local, exit: &Exit) -> impl Future<Output = ()> + Send + use<> {
    let saver = local.saver.clone();
    let left = local.deadline.map(|at| Duration::from_millis(at.saturating_sub(boot_ms())));
    let within = left.map_or(LAST_PATIENCE, |left| left.min(LAST_PATIENCE));
    let complete = is_complete(exit);
    async move { saver.finish(complete, within).await }
}

/// Whether the task ended in a way in which nothing is half written: by itself, and not because something went wrong.
fn is_complete(exit: &Exit) -> bool {
    match exit.status {
        ExitStatus::Code(0 | EXIT_SAVED) => true,
        ExitStatus::Code(code) => exit.stopped && code < EXIT_SIGNAL,
        ExitStatus::Signal(_) => false,
    }
}

impl Hands {
    /// Asks every task whose time it is to save its progress. Whoever has nothing but SIGTERM to be asked with saves when it likes.
    pub fn ask_to_save(&mut self, now: u64) {
        for (token, local) in &mut self.attempts {
            let (Some(every), Some(started)) = (local.kept.checkpoint.every_ms, local.started) else {
                continue;
            };
            let signal = local.kept.signal;
            let last = Some(started).max(local.saver.saved_at()).max(local.asked).unwrap_or(started);
            let is_due = matches!(local.phase, Phase::Launched) && local.deadline.is_none();
            if is_due && can_ask(signal) && last.saturating_add(every) <= now {
                local.asked = Some(now);
                self.shim.signal(*token, signal);
            }
        }
    }
}

/// Whether a signal can mean something else than the end.
fn can_ask(signal: i32) -> bool {
    signal > 0 && !matches!(signal, libc::SIGTERM | libc::SIGKILL | libc::SIGSTOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_orderly_end_leaves_whole_directories() {
        let exit = |status, stopped| Exit {
            token: 1,
            status,
            oom: false,
            fenced: false,
            stopped,
            started_boot_ms: 0,
            ended_boot_ms: 0,
            started_wall_ms: 0,
            ended_wall_ms: 0,
            max_rss_bytes: 0,
            cpu_usec: 0,
        };
        for (status, stopped, complete) in [
            (ExitStatus::Code(0), false, true),
            (ExitStatus::Code(85), false, true),
            (ExitStatus::Code(1), false, false),
            (ExitStatus::Code(1), true, true),
            (ExitStatus::Code(143), true, false),
            (ExitStatus::Signal(15), true, false),
            (ExitStatus::Signal(9), false, false),
        ] {
            assert_eq!(is_complete(&exit(status, stopped)), complete, "{status:?} {stopped}");
        }
    }

    #[test]
    fn a_signal_that_ends_is_no_request() {
        for (signal, can) in [(0, false), (15, false), (9, false), (10, true), (2, true)] {
            assert_eq!(can_ask(signal), can, "{signal}");
        }
    }
}
