//! Leases, from the leader's side: which workers were heard, and when their leases may be granted again.

use super::instruction::Instruction;
use super::io::{Output, SessionId};
use super::step::Leader;
use crate::command::Command;
use crate::model::attempt::{StopReason, TERM_TO_KILL_MS};
use crate::model::ids::{Token, WorkerId};
use crate::model::lease::LEADER_LEASE_MS;
use crate::model::time::Tick;
use crate::model::worker::{Incarnation, WorkerState};
use crate::spot::LOOK_MS;

/// Every worker is looked at this often at most, ms: half a tick of the shell. And only when something may be due.
const SWEEP_EVERY_MS: u64 = 50;
/// An eviction for a drain begins so much earlier: the order and the report have their ways to go, ms.
const STOP_SLACK_MS: u64 = 1_000;
/// An attempt that was to stop for its timeout, and was not asked to, is asked again after this long, ms.
const STOP_AGAIN_MS: u64 = 2_000;

/// An open stream of a worker.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    /// The `seq` of the newest acknowledged heartbeat: the first deadline of a new attempt counts from its sending.
    pub acked: Option<u64>,
}

impl Leader {
    pub(super) fn session_opened(
        &mut self,
        session: SessionId,
        worker: WorkerId,
        incarnation: Incarnation,
        _held: Vec<Token>,
    ) {
        if self.term.is_some() && !self.is_current(worker, &incarnation) {
            // Another incarnation has registered since: this stream is an old one's, and takes nobody's place.
            self.closing.insert(session);
            return;
        }
        // An older stream of the worker may be open still, and a new leader may hear of the two in any order: the worker is told things
        // where it was heard last.
        self.sessions.insert(session, Session { worker, incarnation, acked: None });
        self.speaks(worker, session);
    }

    /// The worker is told things through this stream from now on.
    fn speaks(&mut self, worker: WorkerId, session: SessionId) {
        self.by_worker.insert(worker, session);
        let acked = self.sessions.get(&session).is_some_and(|s| s.acked.is_some());
        self.view.set_connected(worker, acked);
    }

    pub(super) fn is_current(&self, worker: WorkerId, incarnation: &Incarnation) -> bool {
        self.view.workers.get(&worker).is_some_and(|w| w.worker.incarnation == *incarnation)
    }

    /// The worker's row changed: a stream of an incarnation that is not the registered one ends at once, and nothing more is placed on
    /// it. Whoever lives registers again.
    pub(super) fn worker_changed(&mut self, worker: WorkerId) {
        let open = self.by_worker.get(&worker).and_then(|id| Some((*id, self.sessions.get(id)?)));
        let (current, acked) =
            open.map_or((true, false), |(_, s)| (self.is_current(worker, &s.incarnation), s.acked.is_some()));
        if let Some((id, _)) = open.filter(|_| !current) {
            self.closing.insert(id);
        }
        self.view.set_connected(worker, current && acked);
    }

    pub(super) fn session_closed(&mut self, session: SessionId) {
        let Some(closed) = self.sessions.remove(&session) else { return };
        self.outbox.remove(&session);
        if self.by_worker.get(&closed.worker) == Some(&session) {
            self.by_worker.remove(&closed.worker);
            self.view.set_connected(closed.worker, false);
        }
    }

    /// One confirmation for all heartbeats that wait; while one is under way the next ones gather.
    pub(super) fn confirm(&mut self, outputs: &mut Vec<Output>) {
        if self.confirming.is_none() && (!self.unconfirmed.is_empty() || self.scaling.asks) {
            self.scaling.asked(self.clock);
            self.confirms += 1;
            self.confirming = Some((self.confirms, std::mem::take(&mut self.unconfirmed)));
            outputs.push(Output::Confirm { batch: self.confirms });
        }
    }

    pub(super) fn confirmed(&mut self, now: u64, batch: u64, ok: bool) {
        let Some((_, heartbeats)) = self.confirming.take_if(|(number, _)| *number == batch) else { return };
        self.scaling.confirmed(now, ok);
        let Some(term) = self.term.filter(|_| ok) else { return };
        for (id, seq, received, held) in heartbeats {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let worker = session.worker;
            if self.losing.contains_key(&(worker, session.incarnation.clone())) {
                // Its attempts may end in the log at any moment: what is renewed or started now would run beside its successor.
                continue;
            }
            let lost = self.view.workers.get(&worker).is_none_or(|w| {
                w.worker.state == WorkerState::Lost || w.worker.incarnation != session.incarnation
            });
            if lost {
                // It was given up: it must register again before it is heard, so its stream ends here.
                self.closing.insert(id);
                continue;
            }
            let first = session.acked.is_none();
            session.acked = Some(session.acked.map_or(seq, |s| s.max(seq)));
            let heard = self.heard.entry(worker).or_insert(received);
            *heard = (*heard).max(received);
            self.outbox.entry(id).or_default().push(Instruction::Renewed { seq, term });
            let connected = self.view.workers.get(&worker).is_some_and(|w| w.connected);
            if first {
                self.remind(id, worker);
            }
            if first || !connected || self.by_worker.get(&worker) != Some(&id) {
                self.speaks(worker, id);
                self.must_plan = true;
            }
            self.reconcile(now, id, worker, &held);
            self.ask_again(now, id, worker);
        }
    }

    /// Workers whose leases ran out, attempts whose time is up, drains whose deadline passed.
    pub(super) fn timers(&mut self, now: u64, tick: Tick) -> Vec<Command> {
        let mut commands = Vec::new();
        if now >= self.sweep_due.max(self.next_sweep) {
            self.next_sweep = now + SWEEP_EVERY_MS;
            self.sweep_due = self.sweep(now, tick, &mut commands);
        }
        if !self.missing.is_empty() && now >= self.next_orphans {
            self.next_orphans = now + SWEEP_EVERY_MS;
            self.orphans(now);
        }
        let mut late = Vec::new();
        while self.deadlines.first().is_some_and(|(due, _)| *due <= tick) {
            late.extend(self.deadlines.pop_first().map(|(_, token)| token));
        }
        late.retain(|t| self.is_open(*t));
        if !late.is_empty() {
            // Should the proposal be lost, it is made again.
            self.deadlines.extend(late.iter().map(|token| (tick.plus(STOP_AGAIN_MS), *token)));
            commands.push(Command::Stop { tokens: late, reason: StopReason::Timeout });
        }
        if now >= self.next_retire {
            self.next_retire = now + super::proposals::RETIRE_EVERY_MS;
            let before = Tick(tick.0.saturating_sub(super::proposals::RETIRE_AFTER_MS));
            commands.extend([Command::Retire { before }, Command::Settle]);
        }
        commands.extend(self.claim_empties(now, tick));
        if now >= self.next_look {
            self.next_look = now + LOOK_MS;
            self.view.look_at_spot();
            // Whoever waited for a spot worker may have to take another now.
            self.must_plan = true;
        }
        // The view's tick is now this one, so time counts on from here; else every call would add all that passed since the last delta.
        self.tick_at = now;
        self.must_plan |= self.view.wake(tick);
        commands
    }

    /// Looks at every worker; says when it has to again. A lease ends no sooner than its worker's last heartbeat says, and that only
    /// grows, so with ten thousand workers that are well this is every eight seconds. [`Leader::learn`] asks for an earlier one.
    fn sweep(&mut self, now: u64, tick: Tick, commands: &mut Vec<Command>) -> u64 {
        let mut due = u64::MAX;
        let mut evicted: Vec<Token> = Vec::new();
        for (id, view) in &self.view.workers {
            let worker = &view.worker;
            if worker.state != WorkerState::Lost {
                let heard = self.heard.entry(*id).or_insert(now);
                if now > *heard + LEADER_LEASE_MS {
                    let incarnation = worker.incarnation.clone();
                    commands.push(Command::LoseWorker { worker: *id, incarnation });
                    // Should the proposal be lost, it is made again a lease later.
                    *heard = now;
                }
                due = due.min(*heard + LEADER_LEASE_MS + 1);
            }
            let Some(deadline) = worker.drain.as_ref().and_then(|d| d.deadline) else { continue };
            if worker.state != WorkerState::Draining {
                continue;
            }
            let open = |token: &Token| self.is_open(*token) && self.lives_on(*token, *id);
            for token in self.view.tokens_of(*id).filter(open) {
                // By the deadline all of it is over.
                let begin = deadline.0.saturating_sub(self.stop_takes(token));
                if begin <= tick.0 {
                    evicted.push(token);
                    // Should the proposal be lost, it is made again.
                    due = due.min(now);
                } else {
                    due = due.min(now + (begin - tick.0));
                }
            }
        }
        if !evicted.is_empty() {
            commands.push(Command::Stop { tokens: evicted, reason: StopReason::Drain });
        }
        due
    }

    /// How long it takes at most from the order to stop until nothing of the attempt is left, ms.
    fn stop_takes(&self, token: Token) -> u64 {
        let common = self.view.live.get(&token).and_then(|live| {
            let spec = &self.view.job(live.attempt.at.job)?.spec;
            Some(spec.common(spec.task(live.attempt.at.task)?))
        });
        common.map_or(0, |common| common.stop.grace_ms.saturating_add(TERM_TO_KILL_MS + STOP_SLACK_MS))
    }

    /// It lives, and nobody has asked it to stop.
    fn is_open(&self, token: Token) -> bool {
        self.view.live.get(&token).is_some_and(|l| l.attempt.stop.is_none())
    }

    /// When the time of an attempt is up, if it has one: it runs from the report that the attempt runs.
    fn deadline(&self, token: Token) -> Option<Tick> {
        let attempt = &self.view.live.get(&token)?.attempt;
        let spec = &self.view.job(attempt.at.job)?.spec;
        let timeout = spec.common(&spec.tasks[attempt.at.task.0 as usize]).timeout_ms?;
        Some(attempt.started?.tick.plus(timeout))
    }

    pub(super) fn watch_deadline(&mut self, token: Token) {
        self.deadlines.extend(self.deadline(token).map(|due| (due, token)));
    }

    /// To be called while the view still knows the attempt.
    pub(super) fn forget_deadline(&mut self, token: Token) {
        if let Some(due) = self.deadline(token) {
            self.deadlines.remove(&(due, token));
        }
    }
}
