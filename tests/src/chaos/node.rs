//! One node: a namespace, its cgroups, its data and the daemon that runs there, with what it takes to start, stop, pause and kill it.

use super::net::{self, Address};
use super::{sweep, sys};
use crate::process::Cli;
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Member or worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Member,
    Worker,
}

/// A node and its daemon.
pub struct Node {
    pub name: String,
    pub role: Role,
    pub address: Address,
    /// Where its daemon keeps its data.
    pub data: PathBuf,
    /// What the daemon is started with.
    pub args: Vec<String>,
    /// Seconds by which its boot-time clock is ahead of the machine's, from the next start on.
    pub clock_offset: u64,
    /// Its loop device's mount point, where it has one.
    pub disk: Option<PathBuf>,
    cli: Cli,
    dir: PathBuf,
    process: Option<Child>,
}

/// A process in a node's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    /// Words of its command line.
    pub words: Vec<String>,
}

impl Process {
    /// `muster worker …` and the like, by its verb.
    #[must_use]
    pub fn is(&self, verb: &str) -> bool {
        self.words.get(1).is_some_and(|word| word == verb)
    }
}

impl Node {
    /// A node with nothing running, below the run's directory.
    #[must_use]
    pub fn new(name: &str, role: Role, address: Address, dir: &Path, cli: &Cli) -> Self {
        Self {
            name: name.to_owned(),
            role,
            address,
            data: dir.join(name),
            args: Vec::new(),
            clock_offset: 0,
            disk: None,
            cli: cli.clone(),
            dir: dir.to_owned(),
            process: None,
        }
    }

    /// Its group in a hierarchy, if this kernel has it.
    #[must_use]
    pub fn group(&self, hierarchy: &str) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(hierarchy).join(sweep::group_name(&self.dir)).join(&self.name)
    }

    /// Makes its groups.
    ///
    /// # Errors
    /// A hierarchy that is mounted refuses.
    pub fn make_groups(&self) -> Result<()> {
        for hierarchy in sweep::HIERARCHIES.iter().filter(|h| Path::new("/sys/fs/cgroup").join(h).is_dir()) {
            let group = self.group(hierarchy);
            std::fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        }
        Ok(())
    }

    /// Starts the daemon in its namespace, groups and clock. Its end is not an error of this call.
    ///
    /// # Errors
    /// It cannot be started, or runs already.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} runs already", self.name);
        }
        let mut log = OpenOptions::new().create(true).append(true).open(self.log())?;
        writeln!(
            log,
            "=== started at {} ns, boot-time clock ahead by {} s",
            sys::now_ns(),
            self.clock_offset
        )?;
        let mut command = self.cli.command(&self.args);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        net::enter(&mut command, &self.name)?;
        let mut groups = Vec::new();
        for hierarchy in sweep::HIERARCHIES {
            let procs = self.group(hierarchy).join("cgroup.procs");
            if procs.exists() {
                groups.push(OpenOptions::new().write(true).open(procs)?);
            }
        }
        let offsets = format!("monotonic {0} 0\nboottime {0} 0\n", self.clock_offset);
        let clock = (self.clock_offset > 0).then_some(offsets);
        // SAFETY: system calls on descriptors and memory that the closure owns; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                for mut group in groups.iter() {
                    Write::write_all(&mut group, b"0")?;
                }
                if let Some(offsets) = &clock {
                    unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).map_err(io::Error::from)?;
                    write_offsets(offsets.as_bytes())?;
                }
                Ok(())
            });
        }
        self.process = Some(command.spawn().with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// The daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", self.name))
    }

    /// Whether the daemon runs as far as we know.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The daemon's process id.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|p| Pid::from_raw(p.id().cast_signed()))
    }

    /// How the daemon ended, if it ended by itself; it counts as not running from then on.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        Some(status)
    }

    /// A signal to the daemon.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name))?;
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// SIGKILL to the daemon, and waits for its end.
    ///
    /// # Errors
    /// It does not die within 20 s.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL, Duration::from_secs(20))
    }

    /// A signal that ends the daemon, and waits for its end.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub fn end(&mut self, signal: Signal, limit: Duration) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let _ = kill(Pid::from_raw(process.id().cast_signed()), signal);
        let start = Instant::now();
        while process.try_wait()?.is_none() {
            if start.elapsed() > limit {
                self.process = Some(process);
                bail!("{} does not end by {signal} within {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGKILL to everything in the namespace: what the loss of a machine is to the others. Gone when this returns.
    ///
    /// # Errors
    /// Something survives for 20 s.
    pub fn kill_everything(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            if start.elapsed() > Duration::from_secs(20) {
                bail!("{} processes of {} survive SIGKILL: {:?}", left.len(), self.name, left.first());
            }
            for process in left {
                let _ = kill(process.pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill()
    }

    /// Everything that runs in the namespace and is not dead.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let Some(mine) = inode(Path::new(&format!("/run/netns/{}", self.name))) else { return Vec::new() };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let of_node = |pid: i32| {
            // A zombie has no namespace any more.
            (inode(Path::new(&format!("/proc/{pid}/ns/net")))? == mine).then_some(())?;
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
            Some(Process { pid: Pid::from_raw(pid), words })
        };
        pids.filter_map(of_node).collect()
    }

    /// Freezes or thaws everything of the node, with the freezer of cgroup v1.
    ///
    /// # Errors
    /// The kernel has no such freezer.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let state = self.group("freezer").join("freezer.state");
        sys::put(&state, if frozen { "FROZEN" } else { "THAWED" })
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| m.ino())
}

/// Sets the clocks of the time namespace that the calling process has just made for its successors.
fn write_offsets(offsets: &[u8]) -> io::Result<()> {
    File::options().write(true).open("/proc/self/timens_offsets")?.write_all(offsets)
}
