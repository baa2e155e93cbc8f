//! The agent's side of the loop: who is the agent, and what it asks.

use rustix::event::epoll;

use super::attempts::{send_signal, started};
use super::{KEY_AGENT, KEY_NEWCOMER, LAUNCHES_PER_TURN, Server, say, watch};
use crate::shim::clock::boot_ms;
use crate::shim::connection::Connection;
use crate::shim::plan::Plan;
use crate::shim::protocol::{Event, Launch, NEWEST, OLDEST, Request, Running, Token, shared_version};
use crate::shim::socket;

impl Server {
    pub(super) fn accept(&mut self) {
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
    pub(super) fn newcomer_ready(&mut self) {
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

    pub(super) fn drop_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            let _ = epoll::delete(&self.epoll, agent.fd());
            self.idle_since = boot_ms();
        }
    }

    pub(super) fn agent_ready(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        // Told to a full socket: the room is used at the end of the turn.
        if !agent.read(&mut self.buffer) {
            self.drop_agent();
        }
    }

    /// Takes requests up to the limit of a turn. True when there may be more.
    pub(super) fn take_requests(&mut self) -> bool {
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

    pub(super) fn request(&mut self, request: Request) {
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

    pub(super) fn hello(&mut self, newest: u16, oldest: u16) {
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

    pub(super) fn launch(&mut self, launch: &Launch, now: u64) {
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

    pub(super) fn renew(&mut self, deadline: u64, except: &[Token]) {
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
    pub(super) fn plan(&mut self, token: Token, change: impl FnOnce(&mut Plan)) {
        let Some(slot) = self.by_token.get(&token).copied() else { return };
        if let Some(attempt) = &mut self.slots[slot] {
            change(&mut attempt.plan);
            self.timers.insert((attempt.plan.due(), slot));
        }
    }

    /// To the process group, while its leader is not reaped, so that the number can't be somebody else's.
    pub(super) fn signal(&self, token: Token, signal: i32) {
        let attempt = self.by_token.get(&token).and_then(|slot| self.slots[*slot].as_ref());
        if let Some(attempt) = attempt.filter(|a| a.ended.is_none()) {
            send_signal(attempt.pid, signal);
        }
    }

    pub(super) fn list(&mut self) {
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
}
