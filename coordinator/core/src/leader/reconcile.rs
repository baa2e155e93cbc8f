//! Desired versus observed: what a worker holds beside what the state says it should.

use super::instruction::Instruction;
use super::io::SessionId;
use super::step::Leader;
use crate::command::{Report, ReportKind};
use crate::model::attempt::{AttemptState, Outcome};
use crate::model::ids::{Token, WorkerId};
use crate::model::lease::LEADER_LEASE_MS;

impl Leader {
    /// After an acknowledged heartbeat: start what is not held, stop what should stop, kill what is not ours.
    pub(super) fn reconcile(&mut self, now: u64, session: SessionId, worker: WorkerId, held: &[Token]) {
        let mut held = held.to_vec();
        held.sort_unstable();
        held.dedup();
        let desired: Vec<Token> = self.view.tokens_of(worker).collect();
        for token in &desired {
            if held.binary_search(token).is_ok() {
                self.missing.remove(token);
                if self.view.live.get(token).is_some_and(|l| l.attempt.state == AttemptState::Stopping) {
                    self.tell(*token);
                }
            } else if !self.ending.contains(token) {
                // An older incarnation's: that one, if it lives, has kept its lease since it was heard last and no longer.
                let since = self.former.get(&worker).copied().filter(|_| self.is_former(*token));
                self.missing.entry(*token).or_insert(since.unwrap_or(now));
                self.tell(*token);
            }
        }
        let unknown = |t: &&Token| desired.binary_search(t).is_err() && !self.view.live.contains_key(t);
        let kills: Vec<Instruction> =
            held.iter().filter(unknown).map(|token| Instruction::Kill { token: *token }).collect();
        if !kills.is_empty() {
            self.outbox.entry(session).or_default().extend(kills);
        }
    }

    /// Whether it was granted to an older incarnation of its worker.
    fn is_former(&self, token: Token) -> bool {
        let worker = self.view.live.get(&token).map(|l| l.attempt.worker);
        worker.and_then(|w| self.view.workers.get(&w)).is_some_and(|w| token <= w.worker.former)
    }

    /// Tells the worker of a live attempt what the state wants of it now.
    pub(super) fn tell(&mut self, token: Token) {
        let Some(live) = self.view.live.get(&token) else { return };
        let attempt = &live.attempt;
        let Some(session) = self.by_worker.get(&attempt.worker).copied() else { return };
        let Some(acked) = self.sessions.get(&session).and_then(|s| s.acked) else { return };
        let instruction = match attempt.state {
            AttemptState::Starting if self.is_former(token) => return,
            AttemptState::Starting => match self.order(token, acked) {
                Ok(order) => Instruction::Start(Box::new(order)),
                Err(reason) => {
                    let kind = ReportKind::Ended {
                        outcome: Outcome::Launch(reason),
                        artifacts: Vec::new(),
                        ran_ms: 0,
                    };
                    let report = Report { token, at: attempt.at, kind };
                    self.report(attempt.worker, report);
                    return;
                }
            },
            AttemptState::Running => return,
            AttemptState::Stopping => {
                let Some(job) = self.view.job(attempt.at.job) else { return };
                let stop = job.spec.common(&job.spec.tasks[attempt.at.task.0 as usize]).stop;
                Instruction::Stop { token, signal: stop.signal, grace_ms: stop.grace_ms }
            }
        };
        self.outbox.entry(session).or_default().push(instruction);
    }

    /// Attempts that ran, or were to stop, or were an older incarnation's, and that their worker denies for as long as a lease: it will
    /// never report their end, so the end is said here. A starting one of its own is different: it is ordered again with every
    /// heartbeat, and the worker answers.
    pub(super) fn orphans(&mut self, now: u64) {
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|token, _| {
            let state = self.view.live.get(token).map(|l| l.attempt.state);
            state.is_some_and(|s| s != AttemptState::Starting || self.is_former(*token))
        });
        self.missing = missing;
        let live = &self.view.live;
        let due = self.missing.iter().filter(|(_, since)| now > **since + LEADER_LEASE_MS);
        let gone: Vec<(WorkerId, Report)> = due
            .map(|(token, _)| {
                let attempt = &live[token].attempt;
                let kind = ReportKind::Ended { outcome: Outcome::Fenced, artifacts: Vec::new(), ran_ms: 0 };
                (attempt.worker, Report { token: *token, at: attempt.at, kind })
            })
            .collect();
        for (worker, report) in gone {
            self.missing.remove(&report.token);
            self.report(worker, report);
        }
    }

    /// Reports of a worker: into the log, unless they are settled or on their way already. An answer says what the log has, so a worker
    /// that gets none says it again. That something runs is answered when it is said again, for most of it ends sooner.
    pub(super) fn reported(&mut self, session: SessionId, reports: Vec<Report>) {
        let Some(worker) = self.sessions.get(&session).map(|s| s.worker) else { return };
        if self.term.is_none() {
            return;
        }
        let (mut settled, mut heard) = (Vec::new(), Vec::new());
        for report in reports {
            let live = self.view.live.get(&report.token);
            let runs = live.is_some_and(|l| l.attempt.started.is_some());
            match report.kind {
                ReportKind::Running if runs => heard.push(report.token),
                _ if live.is_some() => self.report(worker, report),
                ReportKind::Ended { .. } => settled.push(report.token),
                ReportKind::Running => {
                    self.outbox.entry(session).or_default().push(Instruction::Kill { token: report.token });
                }
            }
        }
        if !settled.is_empty() {
            self.outbox.entry(session).or_default().push(Instruction::Settled { tokens: settled });
        }
        if !heard.is_empty() {
            self.outbox.entry(session).or_default().push(Instruction::Heard { tokens: heard });
        }
    }

    pub(super) fn report(&mut self, worker: WorkerId, report: Report) {
        let on_its_way = match report.kind {
            ReportKind::Ended { .. } => !self.ending.insert(report.token),
            ReportKind::Running => !self.started.insert(report.token),
        };
        if !on_its_way {
            self.reports.entry(worker).or_default().push(report);
        }
    }

    /// The attempt is gone from the state: its worker may forget it, or must end it.
    pub(super) fn ended(&mut self, token: Token, worker: WorkerId) {
        self.missing.remove(&token);
        self.started.remove(&token);
        let reported = self.ending.remove(&token);
        let Some(session) = self.by_worker.get(&worker).copied() else { return };
        let outbox = self.outbox.entry(session).or_default();
        match (reported, outbox.last_mut()) {
            (true, Some(Instruction::Settled { tokens })) => tokens.push(token),
            (true, _) => outbox.push(Instruction::Settled { tokens: vec![token] }),
            (false, _) => outbox.push(Instruction::Kill { token }),
        }
    }
}
