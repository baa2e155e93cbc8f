//! The loop. One turn: take what is ready, reap, do what is due, write the exit records, tell the agent.

mod attempts;
mod requests;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags};

use super::clock::{boot_ms, wall_ms};
use super::connection::Connection;
use super::exits::Exits;
use super::logs::Pumped;
use super::plan::Act;
use super::protocol::{Event, Token};
use super::socket;
use super::spawn::Spawner;
use super::start::{Options, ShimError};
use super::watchdog::{Watchdog, arm};
use crate::cgroup::{Backend, Probed};

use attempts::{Attempt, send_signal};

const KEY_LISTENER: u64 = 0;
const KEY_SIGNALS: u64 = 1;
const KEY_TIMER: u64 = 2;
const KEY_AGENT: u64 = 3;
const KEY_NEWCOMER: u64 = 4;
/// Keys of streams begin here: two an attempt.
const KEY_STREAMS: u64 = 16;

/// Launches taken in one turn: at 0.3 ms each, timers are never more than 20 ms late.
const LAUNCHES_PER_TURN: usize = 32;
const BUFFER_BYTES: usize = 64 << 10;

/// Everything a shim holds.
pub(super) struct Server {
    dir: std::path::PathBuf,
    single: bool,
    idle_ms: u64,
    probed: Probed,
    backend: Box<dyn Backend>,
    exits: Exits,
    spawner: Spawner,
    watchdog: Watchdog,
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: u64,
    signals: OwnedFd,
    listener: UnixListener,
    null: OwnedFd,
    agent: Option<Connection>,
    /// Connected, and has said nothing yet.
    newcomer: Option<Connection>,
    slots: Vec<Option<Attempt>>,
    free: Vec<usize>,
    by_token: HashMap<Token, usize>,
    by_pid: HashMap<i32, usize>,
    /// (due, slot) with at most one entry that counts a slot; an early one is looked at again and moved.
    timers: BTreeSet<(u64, usize)>,
    /// Streams over their rate: (when, key).
    waiting: BTreeSet<(u64, u64)>,
    /// Whole requests left in the agent's buffer by the limit of a turn.
    more: bool,
    /// Since when there has been no agent and no attempt.
    idle_since: u64,
    ending: bool,
    used: bool,
    buffer: Vec<u8>,
}

impl Server {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        options: &Options,
        probed: Probed,
        backend: Box<dyn Backend>,
        exits: Exits,
        spawner: Spawner,
        watchdog: Watchdog,
        timer: OwnedFd,
        signals: OwnedFd,
        listener: UnixListener,
    ) -> Result<Self, ShimError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(io::Error::from)
            .map_err(ShimError::at("cannot make an epoll"))?;
        for (fd, key) in
            [(listener.as_fd(), KEY_LISTENER), (signals.as_fd(), KEY_SIGNALS), (timer.as_fd(), KEY_TIMER)]
        {
            watch(&epoll, fd, key).map_err(ShimError::at("cannot watch a descriptor"))?;
        }
        let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            dir: options.dir.clone(),
            single: options.single,
            idle_ms: u64::try_from(options.idle.as_millis()).unwrap_or(u64::MAX),
            probed,
            backend,
            used: options.single && exits.held().next().is_some(),
            exits,
            spawner,
            watchdog,
            epoll,
            timer,
            armed: u64::MAX,
            signals,
            listener,
            null: null.map_err(io::Error::from).map_err(ShimError::at("cannot open /dev/null"))?,
            agent: None,
            newcomer: None,
            slots: Vec::new(),
            free: Vec::new(),
            by_token: HashMap::new(),
            by_pid: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: BTreeSet::new(),
            more: false,
            idle_since: boot_ms(),
            ending: false,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Until idle.
    pub fn serve(&mut self) -> Result<(), ShimError> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 256];
        loop {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let wait = if self.more { Some(&zero) } else { None };
            let ready = match epoll::wait(&self.epoll, &mut events, wait) {
                Ok((ready, _)) => &*ready,
                Err(rustix::io::Errno::INTR) => &[],
                Err(e) => return Err(ShimError::at("cannot wait for events")(e.into())),
            };
            // 1. What is ready.
            let mut reap = false;
            for event in ready {
                match event.data.u64() {
                    KEY_LISTENER => self.accept(),
                    KEY_SIGNALS => reap |= self.read_signals(),
                    KEY_TIMER => drop(rustix::io::read(&self.timer, &mut [0u8; 8])),
                    KEY_AGENT => self.agent_ready(),
                    KEY_NEWCOMER => self.newcomer_ready(),
                    key => self.stream_ready(key),
                }
            }
            self.more = self.take_requests();
            // 2. Who ended.
            if reap {
                self.reap();
            }
            // 3. What is due.
            let now = boot_ms();
            self.run_timers(now);
            // 4. Records before reports.
            self.report();
            // 5. Until when nothing is due.
            if self.finished(now) {
                self.backend.remove();
                let _ = std::fs::remove_file(self.dir.join(socket::NAME));
                return Ok(());
            }
            self.arm(now);
        }
    }

    fn say(&mut self, event: &Event) {
        if let Some(agent) = self.agent.as_mut().filter(|a| a.greeted) {
            agent.send(event);
        }
    }

    fn stream_ready(&mut self, key: u64) {
        let (slot, which) = (((key - KEY_STREAMS) / 2) as usize, ((key - KEY_STREAMS) % 2) as usize);
        let Some(Some(attempt)) = self.slots.get_mut(slot) else { return };
        let Some(stream) = &mut attempt.streams[which] else { return };
        let now = boot_ms();
        match stream.pump(&mut self.buffer, now) {
            Pumped::More | Pumped::Dry => {}
            Pumped::End => {
                let _ = epoll::delete(&self.epoll, stream.pipe());
                attempt.streams[which] = None;
            }
            Pumped::Wait(ms) => {
                let _ = epoll::delete(&self.epoll, stream.pipe());
                self.waiting.insert((now + ms, key));
            }
        }
    }

    /// True when a child may have ended.
    fn read_signals(&mut self) -> bool {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut child = false;
        let mut records = [0u8; RECORD * 8];
        while let Ok(n) = rustix::io::read(&self.signals, &mut records) {
            if n == 0 {
                break;
            }
            for record in records[..n].chunks_exact(RECORD) {
                // The first field of a record is the signal number.
                match i32::from_ne_bytes([record[0], record[1], record[2], record[3]]) {
                    libc::SIGCHLD => child = true,
                    libc::SIGTERM => self.end_all(),
                    // Meant for terminals; the shim has none.
                    _ => {}
                }
            }
        }
        child
    }

    /// The machine goes down, or an operator ends the shim: tasks get SIGTERM, 2 s, SIGKILL.
    fn end_all(&mut self) {
        self.ending = true;
        let now = boot_ms();
        for token in self.by_token.keys().copied().collect::<Vec<_>>() {
            self.plan(token, |plan| plan.stop(now, 0));
        }
    }

    fn run_timers(&mut self, now: u64) {
        while let Some((at, slot)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            let Some(attempt) = &mut self.slots[slot] else { continue };
            let act = attempt.plan.act(now);
            let (token, pid) = (attempt.token, attempt.pid);
            match act {
                Some(Act::Term) if attempt.ended.is_none() => send_signal(pid, libc::SIGTERM),
                Some(Act::Kill | Act::Unkillable) => {
                    if let Err(e) = attempt.group.members.kill() {
                        say(&format!("attempt {token}: cannot kill: {e}"));
                    }
                }
                _ => {}
            }
            let due = attempt.plan.due();
            self.timers.insert((due, slot));
            if act == Some(Act::Unkillable) {
                self.say(&Event::Unkillable { token });
            }
            self.settle(slot);
        }
        while let Some((at, key)) = self.waiting.first().copied()
            && at <= now
        {
            self.waiting.pop_first();
            let (slot, which) = (((key - KEY_STREAMS) / 2) as usize, ((key - KEY_STREAMS) % 2) as usize);
            if let Some(Some(Attempt { streams, .. })) = self.slots.get(slot)
                && let Some(stream) = &streams[which]
            {
                let _ = watch(&self.epoll, stream.pipe(), key);
            }
        }
    }

    /// Exit records first, reports after them.
    fn report(&mut self) {
        if let Err(e) = self.exits.flush() {
            // The records stay queued and are written in a later turn. The agent is told all the same: a full disk must not make
            // finished work look as if it ran, and the loss only matters if this shim dies before the disk has room again.
            say(&format!("cannot write exit records: {e}"));
        }
        let Some(agent) = &mut self.agent else { return };
        let was_blocked = agent.blocked;
        if !agent.flush() {
            return self.drop_agent();
        }
        if was_blocked != agent.blocked {
            let flags = if agent.blocked {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            let _ = epoll::modify(&self.epoll, agent.fd(), epoll::EventData::new_u64(KEY_AGENT), flags);
        }
    }

    fn finished(&self, now: u64) -> bool {
        let empty = self.by_token.is_empty();
        let released = self.exits.held().next().is_none();
        let done = self.ending || (self.single && self.used && released);
        let idle = self.agent.is_none() && now >= self.idle_since.saturating_add(self.idle_ms);
        empty && (done || idle)
    }

    fn arm(&mut self, now: u64) {
        let mut next = u64::MAX;
        if let Some((at, _)) = self.timers.first() {
            next = next.min(*at);
        }
        if let Some((at, _)) = self.waiting.first() {
            next = next.min(*at);
        }
        if self.agent.is_none() && self.by_token.is_empty() {
            next = next.min(self.idle_since.saturating_add(self.idle_ms));
        }
        // One that is set too early costs a turn without work; setting it for each task costs a system call each.
        if next < self.armed || self.armed <= now {
            self.armed = next;
            if next != u64::MAX {
                let _ = arm(&self.timer, next);
            }
        }
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, key: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?)
}

/// One line into `DIR/shim.log`, which is our standard error.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "{} {text}", wall_ms());
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
