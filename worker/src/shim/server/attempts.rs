//! One attempt from its launch to its record.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use muster_failpoint::{Point, pass};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{KEY_STREAMS, Server, chain, say, watch};
use crate::cgroup::Group;
use crate::shim::clock::{boot_ms, wall_ms};
use crate::shim::logs::Stream;
use crate::shim::plan::Plan;
use crate::shim::protocol::{Event, Exit, ExitStatus, Launch, LaunchFailure, Token};
use crate::shim::spawn::Place;

/// One attempt that is held.
pub(super) struct Attempt {
    pub token: Token,
    pub pid: i32,
    pub group: Group,
    pub streams: [Option<Stream>; 2],
    pub plan: Plan,
    pub started_boot_ms: u64,
    pub started_wall_ms: u64,
    pub ended: Option<(ExitStatus, libc::rusage)>,
}

impl Server {
    pub(super) fn try_launch(&mut self, launch: &Launch, now: u64) -> Result<Event, LaunchFailure> {
        if self.single && self.used {
            return Err(LaunchFailure::Occupied);
        }
        // Whatever comes of it: a shim of one attempt is not used for another, and ends when it holds nothing.
        self.used = true;
        let plan = Plan::new(launch.deadline_boot_ms);
        if plan.due() <= now || self.ending {
            return Err(LaunchFailure::DeadlinePassed);
        }
        let pipes = if launch.log_cap > 0 { Some((output_pipe()?, output_pipe()?)) } else { None };
        let mut group =
            self.backend.open(&launch.limits).map_err(|e| LaunchFailure::Cgroup { error: chain(&e) })?;
        let (out, err) = pipes.as_ref().map_or((self.null.as_raw_fd(), self.null.as_raw_fd()), |(o, e)| {
            (o.1.as_raw_fd(), e.1.as_raw_fd())
        });
        let place = Place {
            stdout: out,
            stderr: err,
            join: &group.join,
            into: group.into.as_ref(),
            data_limit: group.data_limit,
        };
        pass(Point::ShimLaunchBefore);
        let pid = match self.spawner.spawn(launch, &place) {
            Ok(pid) => pid,
            Err(reason) => {
                group.oom_killed();
                self.backend.close(group);
                return Err(reason);
            }
        };
        pass(Point::ShimLaunchAfter);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let streams = match pipes {
            None => [None, None],
            Some((out, err)) => [
                self.stream(slot, 0, out.0, &launch.stdout, launch, now),
                self.stream(slot, 1, err.0, &launch.stderr, launch, now),
            ],
        };
        self.watchdog.add(launch.token, launch.deadline_boot_ms, &group.members);
        self.timers.insert((plan.due(), slot));
        self.by_token.insert(launch.token, slot);
        self.by_pid.insert(pid, slot);
        let attempt = Attempt {
            token: launch.token,
            pid,
            group,
            streams,
            plan,
            started_boot_ms: now,
            started_wall_ms: wall_ms(),
            ended: None,
        };
        let event = started(&attempt);
        self.slots[slot] = Some(attempt);
        Ok(event)
    }

    pub(super) fn stream(
        &self,
        slot: usize,
        which: u64,
        pipe: OwnedFd,
        path: &str,
        launch: &Launch,
        now: u64,
    ) -> Option<Stream> {
        let key = KEY_STREAMS + slot as u64 * 2 + which;
        watch(&self.epoll, pipe.as_fd(), key).ok()?;
        Some(Stream::new(pipe, path.to_owned(), launch.log_cap, now))
    }

    pub(super) fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: an all-zero rusage is a valid one; wait4 gets valid pointers.
            let (pid, usage) = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                (libc::wait4(-1, &mut status, libc::WNOHANG, &mut usage), usage)
            };
            if pid <= 0 {
                break;
            }
            // Others are orphans that we, the subreaper, inherited.
            if let Some(slot) = self.by_pid.remove(&pid)
                && let Some(attempt) = &mut self.slots[slot]
            {
                let status = if libc::WIFSIGNALED(status) {
                    ExitStatus::Signal(libc::WTERMSIG(status))
                } else {
                    ExitStatus::Code(libc::WEXITSTATUS(status))
                };
                attempt.ended = Some((status, usage));
                self.settle(slot);
            }
        }
    }

    /// The first process has ended: the attempt is over when its group is empty, and what is left in it is killed.
    pub(super) fn settle(&mut self, slot: usize) {
        let Some(attempt) = &mut self.slots[slot] else { return };
        if attempt.ended.is_none() {
            return;
        }
        match attempt.group.members.is_empty() {
            Ok(true) => self.finish(slot),
            Ok(false) => {
                attempt.plan.kill_rest(boot_ms());
                self.timers.insert((attempt.plan.due(), slot));
            }
            // Not knowing is not emptiness.
            Err(e) => {
                say(&format!("attempt {}: cannot see its group: {e}", attempt.token));
                attempt.plan.kill_rest(boot_ms());
                self.timers.insert((attempt.plan.due(), slot));
            }
        }
    }

    pub(super) fn finish(&mut self, slot: usize) {
        let Some(mut attempt) = self.slots[slot].take() else { return };
        let Some((status, usage)) = attempt.ended else { return };
        for stream in attempt.streams.iter_mut().flatten() {
            stream.drain(&mut self.buffer);
        }
        let oom = attempt.group.oom_killed() && status != ExitStatus::Code(0);
        let micros = |t: libc::timeval| u64::try_from(t.tv_sec * 1_000_000 + t.tv_usec).unwrap_or(0);
        let exit = Exit {
            token: attempt.token,
            status,
            oom,
            fenced: attempt.plan.fenced() || attempt.plan.overdue(boot_ms()),
            stopped: attempt.plan.stopped(),
            started_boot_ms: attempt.started_boot_ms,
            ended_boot_ms: boot_ms(),
            started_wall_ms: attempt.started_wall_ms,
            ended_wall_ms: wall_ms(),
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
            cpu_usec: micros(usage.ru_utime) + micros(usage.ru_stime),
        };
        self.watchdog.remove(attempt.token);
        self.by_token.remove(&attempt.token);
        self.by_pid.remove(&attempt.pid);
        self.timers.remove(&(attempt.plan.due(), slot));
        self.free.push(slot);
        pass(Point::ShimExitBefore);
        self.exits.add(&exit);
        self.backend.close(attempt.group);
        self.say(&Event::Exited(exit));
        self.idle_since = boot_ms();
    }
}

pub(super) fn started(attempt: &Attempt) -> Event {
    Event::Started {
        token: attempt.token,
        pid: attempt.pid.unsigned_abs(),
        boot_ms: attempt.started_boot_ms,
        wall_ms: attempt.started_wall_ms,
    }
}

/// A pipe whose read end does not block. The write end does, as programs expect of their output.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), LaunchFailure> {
    let make = || -> rustix::io::Result<_> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
        Ok((read, write))
    };
    make().map_err(|e| LaunchFailure::System {
        step: "making a pipe".into(),
        error: io::Error::from(e).to_string(),
    })
}

pub(super) fn send_signal(group: i32, signal: i32) {
    // SAFETY: kill has no preconditions. The leader is our unreaped child, so the group is ours.
    unsafe { libc::kill(-group, signal) };
}
