//! A death on purpose, for `muster drill kill-leader`: this process ends as in a crash, without a word to anybody, stays away for a
//! while, and starts again as it was started. It keeps its number all the while, so that nobody has to start it: a supervisor sees no end,
//! and there may be none.
//!
//! What goes is what a SIGKILL takes: threads, memory, connections, the listener, locks. What stays is what a SIGKILL leaves: files as the
//! kernel has them, and shims, which are processes of their own.

use crate::failure::{Failure, REFUSED};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The first argument of a process that is dead for a while.
pub const VERB: &str = "drill-dead";

/// Dies. It returns only where the system refuses, with nothing changed.
#[must_use]
pub fn die(away: Duration) -> Failure {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "muster".into());
    let error =
        Command::new(image()).arg0(name).arg(VERB).arg(away.as_millis().to_string()).args(args).exec();
    Failure::new("IO", format!("a drill wants this process to die, and it cannot: {error}"))
}

/// Stays away and becomes what it was. `args`: what follows [`VERB`].
pub fn stay_dead(name: OsString, mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let away =
        args.next().and_then(|ms| ms.to_str()?.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
    std::thread::sleep(away);
    let error = Command::new(image()).arg0(name).args(args).exec();
    crate::output::talk(&format!("error: this process died in a drill and cannot start again: {error}"));
    ExitCode::from(REFUSED)
}

/// The program of this process, also where its file was replaced.
fn image() -> PathBuf {
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into())
}
