//! From the command line to the loop: everything that is done once.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use thiserror::Error;

use super::exits::Exits;
use super::server::Server;
use super::spawn::Spawner;
use super::watchdog::{Watchdog, boot_timer};
use super::{boot_id, socket};
use crate::cgroup::{self, CgroupError, Kind, Probed};

/// What the shim prints on standard output when it listens; then it lets go of the stream.
pub const READY: &str = "ready\n";
/// Locked while a shim serves the directory.
pub const LOCK: &str = "shim.lock";

/// How long a new shim tries to kill what a dead one left.
const SWEEP_PATIENCE: Duration = Duration::from_secs(20);

/// The command line of `muster shim`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Directory that it serves.
    pub dir: PathBuf,
    /// One attempt, then end.
    pub single: bool,
    /// Backend to use instead of the probed one.
    pub cgroup: Option<Kind>,
    /// It ends after this long without an agent and without an attempt.
    pub idle: Duration,
}

/// Why a shim does not serve.
#[derive(Debug, Error)]
pub enum ShimError {
    /// An option that it does not know, or one without its value.
    #[error("bad option {0:?}; expected --dir DIR [--single] [--cgroup v1|v2|none] [--idle-ms N]")]
    Usage(OsString),
    /// Another shim serves the directory.
    #[error("another shim serves {0}")]
    Taken(PathBuf),
    /// Groups cannot be made, or an old one cannot be emptied.
    #[error("cgroups")]
    Cgroup(#[from] CgroupError),
    /// Anything else that the kernel refused.
    #[error("{step}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ShimError {
    pub(super) fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

impl Options {
    /// Reads the arguments that follow `shim`.
    ///
    /// # Errors
    /// [`ShimError::Usage`]
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ShimError> {
        let mut options =
            Self { dir: PathBuf::new(), single: false, cgroup: None, idle: Duration::from_secs(60) };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| ShimError::Usage(arg.clone()));
            match arg.to_str() {
                Some("--dir") => options.dir = value()?.into(),
                Some("--single") => options.single = true,
                Some("--cgroup") => {
                    let name = value()?;
                    options.cgroup = Some(name.to_str().and_then(Kind::parse).ok_or(ShimError::Usage(name))?);
                }
                Some("--idle-ms") => {
                    let text = value()?;
                    let ms = text.to_str().and_then(|t| t.parse().ok()).ok_or(ShimError::Usage(text))?;
                    options.idle = Duration::from_millis(ms);
                }
                _ => return Err(ShimError::Usage(arg)),
            }
        }
        if options.dir.as_os_str().is_empty() {
            return Err(ShimError::Usage("--dir".into()));
        }
        Ok(options)
    }
}

/// Serves until there is nothing left to do. To be called while the process has one thread.
///
/// # Errors
/// When it cannot begin to serve, or the loop itself fails; the tasks of a shim that ends this way die with it.
pub fn run(options: &Options) -> Result<ExitCode, ShimError> {
    // 1. A process of its own: its session, no descriptor of the agent, no signal meant for somebody else.
    let _ = rustix::process::setsid();
    // SAFETY: one thread, and nothing here holds a descriptor above 2 yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    default_signals();
    let signals = block_signals().map_err(ShimError::at("cannot block signals"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(io::Error::from)
        .map_err(ShimError::at("cannot be a subreaper"))?;
    let descriptors = raise_descriptors();
    no_core_dumps();

    // 2. The only shim of this directory.
    let _lock = take_lock(&options.dir)?;

    // 3. What a dead shim left is dead before anybody is answered.
    let probed = match options.cgroup {
        Some(kind) => Probed::new(kind, "set by option".into()),
        None => cgroup::probe(),
    };
    let backend = cgroup::build(probed.kind, &options.dir)?;
    let probed = Probed { devices_open: backend.denies_devices().err(), ..probed };
    cgroup::sweep::sweep(&options.dir, probed.kind, &backend.bases(), SWEEP_PATIENCE)?;

    // 4. Records, timers, socket.
    let boot = boot_id().map_err(ShimError::at("cannot read the boot id"))?;
    let exits = Exits::open(&options.dir, &boot).map_err(ShimError::at("cannot open the exit records"))?;
    let spawner = Spawner::new(descriptors).map_err(ShimError::at("cannot map a stack"))?;
    let watchdog = Watchdog::start().map_err(ShimError::at("cannot start the watchdog"))?;
    let timer = boot_timer(true).map_err(ShimError::at("cannot make a timer"))?;
    let listener = socket::listen(&options.dir).map_err(ShimError::at("cannot listen"))?;
    let mut server =
        Server::new(options, probed, backend, exits, spawner, watchdog, timer, signals, listener)?;

    // 5. Ready; from here on the agent's streams are let go, and trouble goes to a file.
    announce(&options.dir).map_err(ShimError::at("cannot let go of the standard streams"))?;
    server.serve()?;
    Ok(ExitCode::SUCCESS)
}

/// Whoever started the worker may have left signals ignored, which the tasks would inherit through us. By the system call, because the
/// C library keeps two signals to itself. SIGPIPE stays ignored here and is reset in each child.
fn default_signals() {
    let default = [0u64; 4];
    for signal in (1..=64)
        .filter(|s| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS].contains(s))
    {
        // SAFETY: the kernel's `struct sigaction` is at most these 32 bytes, and all zero is SIG_DFL without flags.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8usize)
        };
    }
}

fn block_signals() -> io::Result<OwnedFd> {
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    set.thread_set_mask()?;
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    Ok(fd.into())
}

/// Raises the limit of open files to what is allowed (two pipes an attempt), and returns the old one for the children.
fn raise_descriptors() -> libc::rlimit {
    let mut old = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: both calls take a valid pointer to a limit.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut old);
        let new = libc::rlimit { rlim_cur: old.rlim_max, rlim_max: old.rlim_max };
        libc::setrlimit(libc::RLIMIT_NOFILE, &new);
    }
    old
}

/// A core dump would hold a task's secrets; children inherit the limit.
fn no_core_dumps() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer to a limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

fn take_lock(dir: &Path) -> Result<OwnedFd, ShimError> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::open(dir.join(LOCK), flags, Mode::RUSR | Mode::WUSR);
    let lock = lock.map_err(io::Error::from).map_err(ShimError::at("cannot open the lock"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ShimError::Taken(dir.to_owned())),
        Err(e) => Err(ShimError::at("cannot lock")(e.into())),
    }
}

fn announce(dir: &Path) -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("shim.log"))?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stderr(&log)?;
    let _ = io::stdout().write_all(READY.as_bytes()).and_then(|()| io::stdout().flush());
    rustix::stdio::dup2_stdout(&null)?;
    debug_assert!(null.as_raw_fd() > 2);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, ShimError> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let expected = Options {
            dir: "/d".into(),
            single: true,
            cgroup: Some(Kind::V1),
            idle: Duration::from_millis(5),
        };
        assert_eq!(parse("--dir /d --single --cgroup v1 --idle-ms 5").unwrap(), expected);
    }

    #[test]
    fn bad_options_are_named() {
        for (line, named) in
            [("", "--dir"), ("--dir", "--dir"), ("--dir d --cgroup v3", "v3"), ("--dir d --fast", "--fast")]
        {
            assert!(matches!(parse(line), Err(ShimError::Usage(arg)) if arg == named), "{line}");
        }
    }
}
