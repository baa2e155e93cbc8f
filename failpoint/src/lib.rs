//! muster-failpoint: named places at every step of persistence where a test can make the process die, fail, wait or tear a write.
//!
//! A crate of its own, of the standard library alone, because coordinator and worker share it and neither may depend on the other;
//! the wire crate is no place for it. The points are compiled into the one binary, so what is tested is what is shipped, and
//! are inert: an unarmed process pays one relaxed load a point. They are armed once, at process start, by
//! `MUSTER_FAILPOINTS="NAME=ACTION[*COUNT][@SKIP];…"`; an unknown name is refused. Actions: `abort` (as SIGKILL: nothing is unwound or
//! flushed), `error`, `error(eio)`, `error(enospc)`, `sleep(MS)`, `torn(BYTES)` (the first bytes of the write, then death).
//! With `MUSTER_FAILPOINTS_ONCE=DIR` a point leaves `DIR/NAME` when it kills and is not armed where that file is already there, so that
//! a process that is started again by another (the shim by its agent) dies once.
//!
//! Architecture invariant: nothing here is reachable by a client or a configuration file.

mod action;
mod points;

pub use action::{Action, SpecError};
pub use points::{Place, Point};

use action::Rule;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The variable that arms points.
pub const VARIABLE: &str = "MUSTER_FAILPOINTS";
/// The variable that names the directory where a kill leaves its mark.
pub const ONCE: &str = "MUSTER_FAILPOINTS_ONCE";

static ARMED: AtomicBool = AtomicBool::new(false);
static RULES: OnceLock<Rules> = OnceLock::new();

struct Rules {
    rules: Vec<Armed>,
    once: Option<PathBuf>,
}

struct Armed {
    rule: Rule,
    hits: AtomicU32,
}

/// Arms what the environment says, and returns it for the log; none when it says nothing. To be called once, before threads.
///
/// # Errors
/// A text that names no point or no action.
pub fn arm_from_environment() -> Result<Option<String>, SpecError> {
    let Ok(spec) = std::env::var(VARIABLE) else { return Ok(None) };
    arm(&spec, std::env::var_os(ONCE).map(PathBuf::from))?;
    Ok((!spec.is_empty()).then_some(spec))
}

/// Arms points in this process, once.
///
/// # Errors
/// A text that names no point or no action.
pub fn arm(spec: &str, once: Option<PathBuf>) -> Result<(), SpecError> {
    let mut rules = action::parse(spec)?;
    if let Some(dir) = &once {
        rules.retain(|rule| !dir.join(rule.point.name()).exists());
    }
    let any = !rules.is_empty();
    let rules = rules.into_iter().map(|rule| Armed { rule, hits: AtomicU32::new(0) }).collect();
    let _ = RULES.set(Rules { rules, once });
    ARMED.store(any, Ordering::Release);
    Ok(())
}

/// The process passes `point`.
///
/// # Errors
/// What the test wants to fail here.
#[inline]
pub fn hit(point: Point) -> io::Result<()> {
    if ARMED.load(Ordering::Relaxed) { act(point) } else { Ok(()) }
}

/// The process passes `point`, at a place where nothing can fail: an armed error has no effect.
#[inline]
pub fn pass(point: Point) {
    if ARMED.load(Ordering::Relaxed) {
        let _ = act(point);
    }
}

/// The process is about to write `bytes` at `point`. A torn write hands `write` the first of them and dies.
///
/// # Errors
/// What the test wants to fail here.
#[inline]
pub fn tear(point: Point, bytes: &[u8], write: impl FnOnce(&[u8])) -> io::Result<()> {
    if !ARMED.load(Ordering::Relaxed) {
        return Ok(());
    }
    match due(point) {
        Some(Action::Torn(count)) => {
            write(&bytes[..bytes.len().min(count)]);
            die(point)
        }
        Some(action) => perform(point, action),
        None => Ok(()),
    }
}

#[cold]
fn act(point: Point) -> io::Result<()> {
    due(point).map_or(Ok(()), |action| perform(point, action))
}

/// The action of `point`, when it is its turn.
fn due(point: Point) -> Option<Action> {
    let armed = RULES.get()?.rules.iter().find(|armed| armed.rule.point == point)?;
    let hit = armed.hits.fetch_add(1, Ordering::Relaxed);
    let past = hit.checked_sub(armed.rule.skip)?;
    armed.rule.count.is_none_or(|count| past < count).then_some(armed.rule.action)
}

fn perform(point: Point, action: Action) -> io::Result<()> {
    match action {
        // Where no bytes are at hand a torn write is a write of none.
        Action::Abort | Action::Torn(_) => die(point),
        Action::Error(0) => Err(io::Error::other(format!("failpoint {}", point.name()))),
        Action::Error(number) => Err(io::Error::from_raw_os_error(number)),
        Action::Sleep(time) => {
            std::thread::sleep(time);
            Ok(())
        }
    }
}

/// Death as SIGKILL gives it. Nothing runs after it, so what is on disk is what was written.
fn die(point: Point) -> ! {
    if let Some(dir) = RULES.get().and_then(|rules| rules.once.as_ref()) {
        let _ = std::fs::write(dir.join(point.name()), b"");
    }
    loop {
        // SAFETY: kill takes plain numbers; the process is our own.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_fails_when_it_is_its_turn_and_others_do_not() {
        assert!(hit(Point::LogSyncBefore).is_ok(), "not armed yet");
        arm("log.sync.before=error(eio)*2@1", None).expect("arm");
        let codes: Vec<_> =
            (0..5).map(|_| hit(Point::LogSyncBefore).err().and_then(|error| error.raw_os_error())).collect();
        assert_eq!(codes, [None, Some(libc::EIO), Some(libc::EIO), None, None]);
        assert!(hit(Point::LogSyncAfter).is_ok());
    }
}
