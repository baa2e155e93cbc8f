//! The loop. One turn: take what is ready, reap, do what is due, write the exit records, tell the agent.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::clock::{boot_ms, wall_ms};
use super::connection::Connection;
use super::exits::Exits;
use super::logs::{Pumped, Stream};
use super::plan::{Act, Plan};
use super::protocol::{
    Event, Exit, ExitStatus, Launch, LaunchFailure, NEWEST, OLDEST, Request, Running, Token, shared_version,
};
use super::socket;
use super::spawn::{Place, Spawner};
use super::start::{Options, ShimError};
use super::watchdog::{Watchdog, arm};
use crate::cgroup::{Backend, Group, Probed};

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

/// One attempt that is held.
struct Attempt {
    token: Token,
    pid: i32,
    group: Group,
    streams: [Option<Stream>; 2],
    plan: Plan,
    started_boot_ms: u64,
    started_wall_ms: u64,
    ended: Option<(ExitStatus, libc::rusage)>,
}

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

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if !socket::trusted(&stream) {
                continue;
            }
            let Ok(connection) = Connection::new(stream) else { continue };
            // One that never says a word gives way to the next.
            self.newcomer = watch(&self.epoll, connection.fd(), KEY_NEWCOMER).ok().map(|()| connection);
        }
    }

    /// The newest agent is the agent, once it has said hello: an older one that was stopped or hangs must not keep it out.
    fn newcomer_ready(&mut self) {
        let Some(mut newcomer) = self.newcomer.take() else { return };
        if !newcomer.read(&mut self.buffer) {
            return;
        }
        match newcomer.frames.take::<Request>() {
            Ok(None) => self.newcomer = Some(newcomer),
            Ok(Some(Request::Hello { newest, oldest })) => {
                self.drop_agent();
                let (data, flags) = (epoll::EventData::new_u64(KEY_AGENT), epoll::EventFlags::IN);
                if epoll::modify(&self.epoll, newcomer.fd(), data, flags).is_ok() {
                    self.agent = Some(newcomer);
                    self.hello(newest, oldest);
                }
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }

    fn drop_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            let _ = epoll::delete(&self.epoll, agent.fd());
            self.idle_since = boot_ms();
        }
    }

    fn agent_ready(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        // Told to a full socket: the room is used at the end of the turn.
        if !agent.read(&mut self.buffer) {
            self.drop_agent();
        }
    }

    /// Takes requests up to the limit of a turn. True when there may be more.
    fn take_requests(&mut self) -> bool {
        let mut launches = 0;
        while launches < LAUNCHES_PER_TURN {
            let Some(agent) = &mut self.agent else { return false };
            match agent.frames.take::<Request>() {
                Ok(Some(request)) => {
                    launches += usize::from(matches!(request, Request::Launch(_)));
                    self.request(request);
                }
                Ok(None) => return false,
                Err(e) => {
                    say(&format!("the agent sent {e}"));
                    self.drop_agent();
                    return false;
                }
            }
        }
        true
    }

    fn request(&mut self, request: Request) {
        let now = boot_ms();
        match request {
            // Once a connection.
            Request::Hello { .. } => {}
            Request::Launch(launch) => self.launch(&launch, now),
            Request::Renew { deadline_boot_ms, except } => self.renew(deadline_boot_ms, &except),
            Request::Stop { token, signal, grace_ms } => {
                self.signal(token, signal);
                self.plan(token, |plan| plan.stop(now, grace_ms));
            }
            Request::Kill { token } => self.plan(token, |plan| plan.kill(now)),
            Request::Signal { token, signal } => self.signal(token, signal),
            Request::Release { tokens } => self.exits.release(&tokens),
            Request::List => self.list(),
        }
    }

    fn hello(&mut self, newest: u16, oldest: u16) {
        let Some(agent) = &mut self.agent else { return };
        if let Some(version) = shared_version(newest, oldest) {
            agent.greeted = true;
            agent.send(&Event::Welcome { version, pid: std::process::id(), backend: self.probed.clone() });
        } else {
            agent.send(&Event::Refused { newest: NEWEST, oldest: OLDEST });
            agent.flush();
            self.drop_agent();
        }
    }

    fn launch(&mut self, launch: &Launch, now: u64) {
        let token = launch.token;
        if let Some(held) = self.by_token.get(&token).and_then(|slot| self.slots[*slot].as_ref()) {
            let again = started(held);
            return self.say(&again);
        }
        if let Some(exit) = self.exits.get(token).cloned() {
            return self.say(&Event::Exited(exit));
        }
        match self.try_launch(launch, now) {
            Ok(event) => self.say(&event),
            Err(reason) => self.say(&Event::LaunchFailed { token, reason }),
        }
    }

    fn try_launch(&mut self, launch: &Launch, now: u64) -> Result<Event, LaunchFailure> {
        if self.single && self.used {
            return Err(LaunchFailure::Occupied);
        }
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
        let pid = match self.spawner.spawn(launch, &place) {
            Ok(pid) => pid,
            Err(reason) => {
                group.oom_killed();
                self.backend.close(group);
                return Err(reason);
            }
        };
        self.used = true;
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

    fn stream(
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

    fn renew(&mut self, deadline: u64, except: &[Token]) {
        let except: std::collections::HashSet<Token> = except.iter().copied().collect();
        let mut moved = Vec::with_capacity(self.by_token.len());
        for (token, slot) in &self.by_token {
            if let (false, Some(attempt)) = (except.contains(token), &mut self.slots[*slot]) {
                attempt.plan.renewed(deadline);
                moved.push((*token, attempt.plan.deadline()));
            }
        }
        // A timer that is now too early finds that out when it fires.
        self.watchdog.renew(moved.into_iter());
    }

    /// Changes the plan of an attempt and sets its timer to what is due then.
    fn plan(&mut self, token: Token, change: impl FnOnce(&mut Plan)) {
        let Some(slot) = self.by_token.get(&token).copied() else { return };
        if let Some(attempt) = &mut self.slots[slot] {
            change(&mut attempt.plan);
            self.timers.insert((attempt.plan.due(), slot));
        }
    }

    /// To the process group, while its leader is not reaped, so that the number can't be somebody else's.
    fn signal(&self, token: Token, signal: i32) {
        let attempt = self.by_token.get(&token).and_then(|slot| self.slots[*slot].as_ref());
        if let Some(attempt) = attempt.filter(|a| a.ended.is_none()) {
            send_signal(attempt.pid, signal);
        }
    }

    fn list(&mut self) {
        let running = self.by_token.values().filter_map(|slot| self.slots[*slot].as_ref()).map(|a| Running {
            token: a.token,
            pid: a.pid.unsigned_abs(),
            started_boot_ms: a.started_boot_ms,
            started_wall_ms: a.started_wall_ms,
            deadline_boot_ms: a.plan.deadline(),
            stopping: a.plan.stopped(),
        });
        let held = Event::Held { running: running.collect(), exited: self.exits.held().cloned().collect() };
        // What is listed has to be on file like any other report.
        self.say(&held);
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

    fn reap(&mut self) {
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
    fn settle(&mut self, slot: usize) {
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

    fn finish(&mut self, slot: usize) {
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
        self.exits.add(&exit);
        self.backend.close(attempt.group);
        self.say(&Event::Exited(exit));
        self.idle_since = boot_ms();
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

    /// Exit records first; a report without its record on file is held back with them.
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

fn started(attempt: &Attempt) -> Event {
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

fn watch(epoll: &OwnedFd, fd: impl AsFd, key: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?)
}

fn send_signal(group: i32, signal: i32) {
    // SAFETY: kill has no preconditions. The leader is our unreaped child, so the group is ours.
    unsafe { libc::kill(-group, signal) };
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
