//! The processes of one group: are there any, and kill them all.
//!
//! Shared between the shim's loop and its watchdog thread, hence no state that changes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process};

use super::fs::{keyed, read_again};

/// What is needed to reach every process of a group.
#[derive(Debug)]
pub enum Members {
    /// Unified hierarchy.
    V2 {
        /// `cgroup.kill`, where the kernel has it (5.14).
        kill: Option<File>,
        /// `cgroup.freeze`, for older kernels.
        freeze: File,
        /// `cgroup.procs`.
        procs: File,
        /// `cgroup.events`, with its line `populated`.
        events: File,
        /// `cgroup.kill` was used. Linux 6.18 then kills what `CLONE_INTO_CGROUP` puts there later, so the group is not used again.
        spent: AtomicBool,
    },
    /// The freezer hierarchy of v1, which every group has.
    V1 {
        /// `freezer.state`.
        state: File,
        /// The group's directory. Its `cgroup.procs` is opened anew for each look: v1 keeps the list with the open file and shows an old
        /// one for as long as somebody goes on reading it.
        dir: OwnedFd,
    },
    /// No cgroup: everything below this process, which is a subreaper and parents one attempt only.
    Descendants,
}

impl Members {
    /// Is no process left? Costs one or two system calls.
    ///
    /// # Errors
    /// What the kernel said about the control file.
    pub fn is_empty(&self) -> io::Result<bool> {
        match self {
            Self::V2 { events, .. } => Ok(keyed(&read_again(events)?, "populated") == 0),
            Self::V1 { dir, .. } => {
                let mut byte = [0u8; 1];
                Ok(rustix::io::read(procs(dir)?, &mut byte)? == 0)
            }
            // A subreaper without children has no descendants at all.
            Self::Descendants => {
                let quiet = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                Ok(matches!(rustix::process::waitid(WaitId::All, quiet), Err(rustix::io::Errno::CHILD)))
            }
        }
    }

    /// One pass of SIGKILL over every process. Call again until [`Members::is_empty`].
    ///
    /// # Errors
    /// What the kernel said about the control file.
    pub fn kill(&self) -> io::Result<()> {
        match self {
            Self::V2 { kill: Some(kill), spent, .. } => {
                spent.store(true, Ordering::Relaxed);
                control(kill, "1")
            }
            Self::V2 { kill: None, freeze, procs, .. } => {
                control(freeze, "1")?;
                let killed = kill_listed(procs);
                control(freeze, "0")?;
                killed
            }
            // A frozen process takes its SIGKILL when it is thawed, and one that is born in a freezing group is frozen too, so a
            // fork bomb can't outrun the list.
            Self::V1 { state, dir } => {
                control(state, "FROZEN")?;
                let killed = procs(dir).and_then(|procs| kill_listed(&procs));
                control(state, "THAWED")?;
                killed
            }
            Self::Descendants => {
                super::none::kill_descendants();
                Ok(())
            }
        }
    }

    /// Must the group be removed after this use?
    #[must_use]
    pub fn spent(&self) -> bool {
        matches!(self, Self::V2 { spent, .. } if spent.load(Ordering::Relaxed))
    }

    /// The process ids, for messages.
    #[must_use]
    pub fn list(&self) -> Vec<i32> {
        match self {
            Self::V2 { procs, .. } => listed(procs).unwrap_or_default(),
            Self::V1 { dir, .. } => procs(dir).and_then(|procs| listed(&procs)).unwrap_or_default(),
            Self::Descendants => super::none::descendants(),
        }
    }
}

fn control(mut file: &File, value: &str) -> io::Result<()> {
    file.write_all(value.as_bytes())
}

fn procs(dir: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, "cgroup.procs", flags, Mode::empty())?.into())
}

fn listed(procs: &File) -> io::Result<Vec<i32>> {
    Ok(read_again(procs)?.lines().filter_map(|l| l.parse().ok()).collect())
}

fn kill_listed(procs: &File) -> io::Result<()> {
    for pid in listed(procs)?.into_iter().filter_map(Pid::from_raw) {
        // A process that has just ended is what we want.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(())
}
