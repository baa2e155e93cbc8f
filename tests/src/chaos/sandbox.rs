//! Namespaces of one run: process ids, mounts and network. Whatever happens to the run, when its first process ends the kernel ends all
//! others and takes away links, mounts and loop devices with them.
//!
//! Three processes of this program: the *outer* one that was called, which cleans up; *init*, the first of the new process ids, which
//! reaps orphans (shims outlive their agents on purpose) and thaws what would not die frozen; and the *driver*, which does the work.

use super::{sweep, sys};
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of the three a process is; the run's directory is in the other.
const STAGE: &str = "CHAOS_STAGE";
const DIR: &str = "CHAOS_DIR";

/// What a process of this program is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Stage {
    Outer,
    Init,
    /// With the directory of the run.
    Driver(PathBuf),
}

/// What this process is.
#[must_use]
pub fn stage() -> Stage {
    match std::env::var(STAGE).as_deref() {
        Ok("init") => Stage::Init,
        Ok("driver") => Stage::Driver(PathBuf::from(std::env::var_os(DIR).unwrap_or_default())),
        _ => Stage::Outer,
    }
}

/// Why there can be no run here, if there can be none.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root: network namespaces, cgroups and mounts".into());
    }
    for (program, package) in [("ip", "iproute2"), ("mount", "mount"), ("unshare", "util-linux")] {
        if !sys::has(program) {
            return Some(format!("`{program}` is not installed (Debian: {package})"));
        }
    }
    let probe = sys::run("unshare", &["--mount", "--net", "--pid", "--fork", "--mount-proc", "true"]);
    probe.err().map(|error| format!("the kernel gives no namespaces: {error:#}"))
}

/// The outer process: makes the directory of the run and the namespaces, waits, cleans up. Returns the exit code. The seed was drawn
/// here, and the others are told.
///
/// # Errors
/// The namespaces cannot be made.
pub fn outer(seed: u64) -> Result<i32> {
    sweep::sweep();
    let dir = sweep::run_dir(std::process::id());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNET).context("cannot make namespaces")?;
    let mut command = again("init", &dir)?;
    if !std::env::args().any(|word| word == "--seed" || word.starts_with("--seed=")) {
        command.args(["--seed", &seed.to_string()]);
    }
    // SAFETY: prctl is async-signal-safe and takes plain numbers.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let code = supervise(command)?;
    sweep::remove(std::process::id());
    Ok(code)
}

/// The first process of the run: private mounts, its own `/proc`, and the driver.
///
/// # Errors
/// The mounts cannot be made.
pub fn init() -> Result<i32> {
    let none = None::<&str>;
    // Not the outer process's: it removes the directory when these mounts are gone with everybody in here.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("cannot mount /proc")?;
    std::fs::create_dir_all("/run/netns").context("cannot make /run/netns")?;
    mount(Some("netns"), "/run/netns", Some("tmpfs"), MsFlags::empty(), none)
        .context("cannot mount /run/netns")?;
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap_or_default());
    let code = supervise(again("driver", &dir)?);
    // A frozen process or one that waits for a frozen disk does not die, and the kernel would wait for it for ever.
    sweep::thaw_all(&dir);
    code
}

fn again(stage: &str, dir: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.args(std::env::args_os().skip(1)).env(STAGE, stage).env(DIR, dir);
    // Blocked signals are inherited, and the daemons must hear theirs.
    // SAFETY: a system call on plain memory.
    unsafe {
        command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(std::io::Error::from));
    }
    Ok(command)
}

/// Starts a child, passes SIGINT and SIGTERM on to it, reaps everything, and returns the child's exit code.
fn supervise(mut command: Command) -> Result<i32> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    let child = command.spawn().context("cannot start this program again")?;
    let pid = Pid::from_raw(child.id().cast_signed());
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::Exited(who, code) if who == pid => return Ok(code),
                WaitStatus::Signaled(who, signal, _) if who == pid => return Ok(128 + signal as i32),
                WaitStatus::StillAlive => break,
                _ => {}
            }
        }
        match signals.wait() {
            Ok(Signal::SIGINT | Signal::SIGTERM) => {
                let _ = kill(pid, Signal::SIGTERM);
            }
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for signals"),
        }
    }
}
